"""Replay: the same bytes for the same arguments, money to the last unit, and words for what the user got wrong."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bot.cli import main
from bot.tools.replay.result import Trade, deepest_fall, round_steps, wilson
from ledger.values import Outcome
from paper.engine.feed import load_tape
from recording.tapes import HEADER, Bar, Bars
from tests.unit.bot.strategy.test_guard import CHEAP

START_MS = 1_640_000_400_000


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """Twelve minutes of BTC, a minute a bar, lively."""
    path, source, price = tmp_path / "btc.csv", random.Random(5), 47_000.0
    rows = [HEADER]
    for minute in range(12):
        start = datetime.fromtimestamp(START_MS / 1000 + 60 * minute, tz=UTC).isoformat()
        opened, price = price, price * math.exp(source.gauss(0, 1e-3))
        high, low = max(opened, price) * 1.0004, min(opened, price) * 0.9996
        rows.append(f"{start},{opened},{high},{low},{price},1")
    path.write_text("\n".join(rows) + "\n")
    return path


def replay(tape: Path, *more: str) -> list[str]:
    """The arguments of a short replay."""
    return ["replay", "--tape", f"{tape}@BTC", "--timeframes", "60s", "--assets", "BTC,ETH", *more]


def test_equal_arguments_give_equal_bytes_and_the_money_is_the_engines(
    tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output and chart are the same bytes again; another seed gives others; the trades add up to the engine's balance."""
    printed = []
    for seed, chart in (("3", "a.svg"), ("3", "b.svg"), ("4", "c.svg")):
        assert (
            main(replay(tape, "--json", "--seed", seed, "--set", "market_weight=0", "--chart", str(tmp_path / chart)))
            == 0
        )
        printed.append(capsys.readouterr().out)
    first, again, other = printed
    assert first == again
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert first != other
    found = json.loads(first)
    assert len(found["trades"]) >= 3, "else this shows nothing"
    assert found["end_balance"] == found["start_balance"] + sum(trade["pnl"] for trade in found["trades"])
    assert {ET.fromstring((tmp_path / "a.svg").read_text()).tag} == {"{http://www.w3.org/2000/svg}svg"}


def test_a_strategy_of_ones_own_is_replayed(tape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class out of a file decides, with its own parameters."""
    (tmp_path / "mine.py").write_text(CHEAP)
    for below, some in (("0.99", True), ("0", False)):
        strategy = ("--strategy", f"{tmp_path}/mine.py:Cheap", "--set", f"below={below}")
        assert main(replay(tape, "--json", *strategy)) == 0
        trades = json.loads(capsys.readouterr().out)["trades"]
        assert bool(trades) is some
        assert all(trade["outcome"] == "Up" and trade["shares"] <= 10_000_000 for trade in trades)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--from", "yesterday"], "ISO 8601"),
        (["--from", "1999-01-01"], "which the tapes share"),
        (["--step", "0.01"], "--step"),
        (["--assets", "PEPE"], "unknown to paper"),
        (["--timeframes", "1s"], "expected a timeframe"),
        (["--strategy", "bot.nowhere:X"], "BOT_STRATEGY"),
        (["--set", "kelly=2"], "from 0 to 1"),
        (["--set", "kelly"], "NAME=VALUE"),
        (["--tape", "/nowhere/eth.csv"], "cannot be read"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(
    tape: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that says what was expected."""
    assert main(replay(tape, *more)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_the_win_rates_interval_is_wilsons() -> None:
    """Against figures from the literature, and never outside of 0 to 1."""
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_deepest_fall_is_from_a_height() -> None:
    """The PnL's largest fall below what it had reached before."""
    trades = [
        Trade("w", "BTC-5m", Outcome.UP, Outcome.UP, 0, 0, 1, 0, 0, max(pnl, 0), 0, max(-pnl, 0))
        for pnl in (5, -3, 4, -7, 2)
    ]
    assert [trade.pnl for trade in trades] == [5, -3, 4, -7, 2]
    assert deepest_fall(trades) == 7


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-93, 1207), (-0.003, 0.004), (5, 5)])
def test_a_charts_marks_are_round_and_cover_what_is_drawn(low: float, high: float) -> None:
    """Few, evenly apart, around all values."""
    marks = round_steps(low, high)
    assert marks[0] <= low <= high <= marks[-1]
    assert len(marks) <= 8


# --- record


def test_recorded_bars_are_a_tape(tmp_path: Path) -> None:
    """Prices become one-second bars that the tape's reader takes; what a clock set back would repeat is left out."""
    bars, rows = Bars(), []
    prices = [(0, 5.0), (400, 7.0), (900, 4.0), (1_100, 6.0), (500, 9.0), (3_000, 8.0), (4_000, 8.5)]
    for at_ms, price in prices:
        if (bar := bars.add(price, START_MS + at_ms)) is not None:
            rows.append(bar.row())
    path = tmp_path / "btc-1s.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    tape = load_tape(path)
    assert [(bar.time_ms - START_MS, bar.open, bar.high, bar.low, bar.close) for bar in tape.bars] == [
        (0, 5.0, 7.0, 4.0, 4.0),
        (1_000, 6.0, 6.0, 6.0, 6.0),
        (3_000, 8.0, 8.0, 8.0, 8.0),
    ]
    later = Bars(START_MS + 3_000)
    assert later.add(1.0, START_MS + 3_500) is None
    assert later.close() is None
    later.add(2.0, START_MS + 5_000)
    assert later.close() == Bar(START_MS + 5_000, 2.0, 2.0, 2.0, 2.0)
