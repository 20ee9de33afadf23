"""What the page's buttons do, on the command line: what is written, and what is refused before anything is written."""

from __future__ import annotations

import secrets
from decimal import Decimal
from pathlib import Path

import pytest

from bus import Bus, Control, Logging, SystemClock, is_halted, open_bus, read_control
from panel.__main__ import main
from panel.actions import Actions, Asker
from panel.audit_log import read_writes
from panel.commands import assignments, change
from panel.errors import StartError

WHO = Asker("ann", "command line")


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """A bus whose first control is written."""
    made = open_bus(tmp_path / "bus")
    actions(made).begin()
    return made


def actions(bus: Bus) -> Actions:
    return Actions(bus, SystemClock(), Logging().log, lambda: secrets.token_hex(8))


def do(bus: Bus, command: str, *values: str, agreed: bool = False) -> Control:
    """One command; the control after it."""
    change(bus, actions(bus), SystemClock(), command, values, WHO, agreed=agreed)
    return read_control(bus)


def test_each_command_writes_what_its_button_does(bus: Bus) -> None:
    """Pause, resume and halt change the mode; a halt sets the file, and only a confirmed resume removes it."""
    assert do(bus, "pause").mode == "pause"
    assert do(bus, "resume").mode == "run"
    assert do(bus, "halt").mode == "halt"
    assert is_halted(bus)
    with pytest.raises(StartError, match="--yes"):
        do(bus, "resume")
    assert do(bus, "resume", agreed=True).mode == "run"
    assert not is_halted(bus)
    assert read_control(bus).by == "panel/ann"


def test_a_pause_has_an_end_and_a_reason_until_the_next_word(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--for` and `--why` stand in control and in the record of writes; a plain pause, a resume and a halt take both away."""
    monkeypatch.setenv("BUS_DIR", str(bus.directory))
    for word in (["pause"], ["resume"], ["halt"]):
        began = SystemClock().wall_ms()
        assert main(["pause", "--for=1h30m", "--why=CPI at 14:30"]) == 0
        paused = read_control(bus)
        until = paused.pause_until_ms or 0
        assert began <= until - 5_400_000 <= SystemClock().wall_ms()
        assert (paused.mode, paused.why) == ("pause", "CPI at 14:30")
        assert (paused.mode_at(until - 1), paused.mode_at(until)) == ("pause", "run")
        (write,) = read_writes(bus, 1)
        assert write.action.startswith("pause until 20")
        assert (write.after["why"], write.after["pause_until_ms"]) == ("CPI at 14:30", until)
        assert main(word) == 0
        assert (read_control(bus).pause_until_ms, read_control(bus).why) == (None, "")


@pytest.mark.parametrize(
    "words", [["--for=0m"], ["--for=8d"], ["--for=half"], ["--for=-5m"], ["--why=a\nb"], ["--why=" + "x" * 201]]
)
def test_a_pause_without_a_right_time_or_reason_is_refused(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """One line says what was expected, and nothing is written."""
    monkeypatch.setenv("BUS_DIR", str(bus.directory))
    assert main(["pause", *words]) == 2
    assert capsys.readouterr().err.startswith("panel: expected ")
    assert read_control(bus).generation == 1


def test_set_changes_limits_and_parameters_and_default_takes_back(bus: Bus) -> None:
    """Money is exact, a parameter is a number, and `default` gives what was there at first."""
    written = do(
        bus,
        "set",
        "risk.max_order=12.34",
        "risk.orders_per_minute=7",
        "strategy.min_edge=0.05",
        "strategy.confirmations=3",
    )
    assert (written.risk.max_order, written.risk.orders_per_minute) == (Decimal("12.34"), 7)
    assert written.strategy == {"min_edge": 0.05, "confirmations": 3}
    written = do(bus, "set", "risk.max_order=default", "strategy.min_edge=default")
    assert written.risk.max_order == Control.model_construct(generation=1, by="x").risk.max_order
    assert written.strategy == {"confirmations": 3}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("risk.max_order", "expected risk.NAME=VALUE"),
        ("frob.x=1", "expected risk.NAME=VALUE"),
        ("risk.=1", "expected risk.NAME=VALUE"),
        ("risk.frob=1", "it has max_order"),
        ("risk.max_order=-1", "greater than 0"),
        ("risk.max_order=much", "max_order"),
        ("risk.max_order=nan", "max_order"),
        ("risk.orders_per_minute=1.5", "orders_per_minute"),
        ("slot.BTC-5m=maybe", "enabled"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_at_all_is_written(bus: Bus, value: str, says: str) -> None:
    """A good value beside a wrong one is not written either."""
    before = read_control(bus).generation
    with pytest.raises(StartError) as raised:
        do(bus, "set", "risk.max_slot=5", value)
    assert says in str(raised.value)
    assert read_control(bus).generation == before


def test_assignments_are_grouped_by_what_they_change() -> None:
    """Several values of one thing are one write."""
    assert assignments(["slot.A-5m=off", "slot.A-5m.max_order=5", "risk.max_slot=6", "strategy.kind=a=b"]) == {
        "slot A-5m": {"enabled": False, "max_order": 5},
        "risk": {"max_slot": 6},
        "strategy": {"kind": "a=b"},
    }


def test_a_halt_stops_entries_though_control_cannot_be_read(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The halt file is set before control is looked at; what could not be written is said, with exit 2."""
    bus.control.write_text("{")
    monkeypatch.setenv("BUS_DIR", str(bus.directory))
    assert main(["halt"]) == 2
    assert is_halted(bus)
    assert "control.json" in capsys.readouterr().err


def test_rows_of_an_empty_ledger_are_a_head_line_and_an_empty_list(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV always has its columns, so that what reads it needs no special case."""
    monkeypatch.setenv("BUS_DIR", str(bus.directory))
    assert main(["rows", "fills", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("trade_id,order_id,slot")
    assert main(["rows", "orders", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"
