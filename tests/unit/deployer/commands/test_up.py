"""What ends a trader says so and asks; what only reads makes nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from bot.cli import main as bot
from bus import FileLock, Instance, InstanceFile, Role, SystemClock, new_id, open_bus
from deployer.commands.cli import main as deployer
from deployer.settings import DeployerSettings, State, write_state
from deployer.start import already_runs

Command = Callable[[list[str]], int]


class Terminal(io.StringIO):
    """Standard input as a person's terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands of a test find bus and state; neither is there yet."""
    monkeypatch.setenv("BUS_DIR", str(tmp_path / "bus"))
    monkeypatch.setenv("DEPLOYER_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (deployer, ["status"]),
        (deployer, ["status", "--json"]),
        (deployer, ["history"]),
        (deployer, ["plan"]),
        (deployer, ["logs", "abc"]),
        (bot, ["audit"]),
        (bot, ["explain", "BTC-5m"]),
        (bot, ["compare"]),
    ],
)
def test_a_command_that_reads_makes_no_bus(folder: Path, command: Command, arguments: list[str]) -> None:
    """Where nothing ran yet nothing is there afterwards, so nothing else takes an empty bus for one that was used."""
    assert command(arguments) in (0, 2)
    assert list(folder.iterdir()) == []


@pytest.fixture
def trader(folder: Path) -> InstanceFile:
    """A bot that trades, as far as the bus shows."""
    clock = SystemClock()
    identity = new_id(clock, "blue", "1234567890")
    file = InstanceFile(
        open_bus(folder / "bus"), clock, Instance(id=identity, role=Role.ACTIVE, color="blue", sha="1234567890")
    )
    file.write(file.document)
    return file


@pytest.mark.parametrize(("typed", "code"), [("n\n", 1), ("\n", 1), ("", 1), (None, 2)])
def test_down_says_whom_it_ends_and_asks(
    trader: InstanceFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str | None,
    code: int,
) -> None:
    """Only a yes ends anything; without a terminal it names `--yes`."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n") if typed is None else Terminal(typed))
    monkeypatch.setattr("deployer.commands.cli.down", lambda *_: pytest.fail("it ended everything"))
    assert deployer(["down"]) == code
    said = "".join(capsys.readouterr())
    assert "this ends all trading" in said
    assert "blue 1234567, which trades" in said
    assert "nothing was ended" in said
    assert ("--yes" in said) == (typed is None)
    trader.close()


@pytest.mark.parametrize(("typed", "arguments"), [("y\n", ["down"]), ("yes\n", ["down"]), (None, ["down", "--yes"])])
def test_down_ends_everything_once_that_was_agreed(
    trader: InstanceFile, monkeypatch: pytest.MonkeyPatch, typed: str | None, arguments: list[str]
) -> None:
    """By a yes on the terminal, or by `--yes`."""
    ended: list[bool] = []
    monkeypatch.setattr("sys.stdin", io.StringIO("") if typed is None else Terminal(typed))

    def end(*_: object) -> int:
        ended.append(True)
        return 0

    monkeypatch.setattr("deployer.commands.cli.down", end)
    assert deployer(arguments) == 0
    assert ended == [True]
    trader.close()


def test_down_asks_nothing_where_no_bot_lives(
    trader: InstanceFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then it can be repeated by anything."""
    trader.close()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setattr("deployer.commands.cli.down", lambda *_: 0)
    assert deployer(["down"]) == 0
    assert "ends all" not in capsys.readouterr().out


@pytest.mark.parametrize(("runtime", "hint"), [("process", "`kill 4711`"), ("docker", "`bin/compose stop deployer`")])
def test_the_hint_for_a_second_deployer_ends_no_bot(
    folder: Path, runtime: Literal["process", "docker"], hint: str
) -> None:
    """It names what ends the first one alone, and never `down`."""
    bus = open_bus(folder / "bus")
    settings = DeployerSettings(dir=folder / "run", runtime=runtime)
    write_state(settings.dir, State(4711, "r", "main", None, runtime, None, ()))
    lock = FileLock(bus.deployer_lock)
    assert lock.try_lock()
    said = str(already_runs(settings, bus))
    lock.unlock()
    assert hint in said
    assert "the bots trade on" in said
    assert "down" not in said
    assert "./ns stop" not in said
