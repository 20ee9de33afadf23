"""A strategy of one's own: how it is found, and what it may do to the others, which is nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.strategy.api import Decision, Inputs, about_parameters, number, read_parameters
from bot.strategy.guard import (
    CPU_LIMIT_MS,
    DEFAULT_STRATEGY,
    LEFT_OUT_MS,
    SLOW_IN_A_ROW,
    WALL_LIMIT_MS,
    GuardedStrategy,
    StrategyError,
    load_strategy,
)
from bot.strategy.snipe import Parameters, Snipe
from bot.venue.types import Level
from bus import ParameterStatus, SettingsError
from ledger.values import Outcome
from tests.unit.bot.making import SHARE, inputs

CHEAP = """
from dataclasses import dataclass
from decimal import Decimal
from bot.strategy import BASE_UNITS, Decision, Inputs, Outcome, number

@dataclass(frozen=True)
class Limits:
    below: float = number(0.70, most=1)

class Cheap:
    parameters = Limits

    def decide(self, inputs: Inputs, parameters: Limits) -> Decision:
        if inputs.held or not inputs.asks_up or float(inputs.asks_up[0].price) > parameters.below:
            return Decision("none", "too dear")
        return Decision("enter", "cheap", outcome=Outcome.UP, price=inputs.asks_up[0].price, size=10 * BASE_UNITS)
"""


def test_a_strategy_comes_from_a_file_or_a_package(tmp_path: Path) -> None:
    """A file of one's own and a module of the project are found by name, with parameters of their own."""
    (tmp_path / "mine.py").write_text(CHEAP)
    mine = load_strategy(f"{tmp_path}/mine.py:Cheap")
    assert mine.decide(inputs(), mine.parameters()).action == "enter"
    dear, refused = read_parameters(mine.parameters, {"below": 0.1, "min_edge": 1})
    assert mine.decide(inputs(), dear).reason == "too dear"
    assert refused == ("strategy.min_edge: no such parameter; known are below",)
    assert load_strategy(DEFAULT_STRATEGY).parameters is Parameters


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("", "mine.py", "expected package.module:Class"),
        ("", "nowhere.py:Cheap", "there is no file"),
        ("", "bot.nowhere:Cheap", "No module named"),
        ("def (:", "mine.py:Cheap", "SyntaxError"),
        ("1/0", "mine.py:Cheap", "ZeroDivisionError"),
        ("", "mine.py:Cheap", "nothing of that name"),
        ("Cheap = 7", "mine.py:Cheap", "something else"),
        ("class Cheap:\n    def __init__(self, a): ...", "mine.py:Cheap", "cannot be made"),
        ("class Cheap:\n    parameters = int", "mine.py:Cheap", "expected a dataclass"),
        (
            "from bot.strategy.snipe import Parameters\nclass Cheap:\n    parameters = Parameters",
            "mine.py:Cheap",
            "decide",
        ),
    ],
)
def test_a_bad_name_is_one_clear_line(tmp_path: Path, source: str, name: str, words: str) -> None:
    """Whatever is wrong with BOT_STRATEGY is said in one line that names it, before anything is traded."""
    (tmp_path / "mine.py").write_text(source)
    given = f"{tmp_path}/{name}" if ".py" in name else name
    with pytest.raises(SettingsError, match="BOT_STRATEGY") as found:
        load_strategy(given)
    assert words in str(found.value)
    assert "\n" not in str(found.value)


@dataclass(frozen=True)
class Mixed:
    """A parameter of each type."""

    many: int = number(3, least=1, most=9, unit="evaluations")
    loud: bool = False
    word: str = "x"


def test_what_each_parameter_may_be_is_told() -> None:
    """Default, bounds and unit of a number; a bound that is none is not named, and what is no number has a default alone."""
    assert about_parameters(Mixed) == {
        "many": ParameterStatus(default=3, least=1, most=9, unit="evaluations"),
        "loud": ParameterStatus(default=False),
        "word": ParameterStatus(default="x"),
    }
    told = about_parameters(Parameters)
    assert (told["max_stake"].least, told["max_stake"].most, told["max_stake"].unit) == (0, None, "pUSD")
    assert [name for name, one in told.items() if not one.unit] == []


def test_each_parameter_keeps_its_type() -> None:
    """Whole numbers, truth values and texts are told apart; the last good value stays, and the reason names the rest."""
    before = Mixed(many=5, loud=True, word="kept")
    good, refused = read_parameters(Mixed, {"many": 4.0, "loud": True, "word": "y"}, before)
    assert (good, refused) == (Mixed(4, True, "y"), ())
    kept, refused = read_parameters(Mixed, {"many": 2.5, "loud": 1, "word": 7}, before)
    assert kept == before
    assert [sentence.split(";")[0] for sentence in refused] == [
        "strategy.many: expected a whole number from 1 to 9, found 2.5",
        "strategy.loud: expected true or false, found 1",
        "strategy.word: expected a text of at most 200 characters, found 7",
    ]


class Fixed:
    """Decides what it was told to."""

    parameters = Parameters

    def __init__(self, decision: Any) -> None:
        self.decision = decision

    def decide(self, _inputs: Inputs, _parameters: Parameters) -> Any:
        return self.decision


ENTER = Decision("enter", "because", outcome=Outcome.UP, price=Decimal("0.60"), size=10 * SHARE)
EXIT = replace(ENTER, action="exit")
HELD = {"held": Outcome.UP, "held_shares": 10 * SHARE}


@pytest.mark.parametrize(
    ("decision", "given", "words"),
    [
        (None, {}, "expected a Decision"),
        (replace(ENTER, action="buy"), {}, "expected the action"),  # type: ignore[arg-type]
        (replace(ENTER, outcome=None), {}, "needs an outcome"),
        (replace(ENTER, price=0.6), {}, "Decimal price"),  # type: ignore[arg-type]
        (replace(ENTER, price=Decimal("NaN")), {}, "Decimal price"),
        (replace(ENTER, price=Decimal(1)), {}, "Decimal price"),
        (replace(ENTER, price=Decimal("0.605")), {}, "not on the tick"),
        (replace(ENTER, price=Decimal("0.40")), {}, "nothing is offered"),
        (ENTER, {"asks_up": ()}, "nothing is offered"),
        (replace(ENTER, size=4 * SHARE), {}, "expected a size"),
        (replace(ENTER, size=10 * SHARE + 1), {}, "expected a size"),
        (replace(EXIT, size=11 * SHARE), HELD, "more than is held"),
        (replace(EXIT, outcome=Outcome.DOWN), HELD, "more than is held"),
        (EXIT, {}, "more than is held"),
    ],
)
def test_no_unsound_decision_becomes_an_order(decision: Any, given: dict[str, Any], words: str) -> None:
    """Off the tick, out of range, of the wrong type or more than is held: it is refused in words, before risk is asked."""
    with pytest.raises(StrategyError, match=words):
        GuardedStrategy(Fixed(decision), "fixed").decide(inputs(**given), Parameters())


def test_a_strategy_cannot_reach_past_what_blocks_its_slot() -> None:
    """Where a slot is blocked nothing is done, whatever the strategy decides; else its decision stands."""
    guarded = GuardedStrategy(Fixed(ENTER), "fixed")
    assert guarded.decide(inputs(), Parameters()) == ENTER
    blocked = guarded.decide(inputs(blocked="halted"), Parameters())
    assert (blocked.action, blocked.reason) == ("none", "halted")
    assert GuardedStrategy(Fixed(EXIT), "fixed").decide(inputs(**HELD), Parameters()) == EXIT


@pytest.mark.parametrize(
    ("held", "wanted", "action", "size"),
    [
        (12_244_897, 12_244_897, "exit", 12_240_000),
        (9_984_100, 9_980_000, "exit", 9_980_000),
        (4_100, 4_100, "none", 4_100),
        (4_100, 0, "none", 0),
    ],
)
def test_what_a_purchase_brings_beyond_the_step_keeps_no_exit_back(
    held: int, wanted: int, action: str, size: int
) -> None:
    """A strategy that sells all that it holds, to the base unit, sells it down to the step; dust is no fault of it.

    Failed before: its decision was not sound, the slot was left and the poll unhealthy until the window was over.
    """
    given = inputs(held=Outcome.UP, held_shares=held)
    decided = GuardedStrategy(Fixed(replace(EXIT, size=wanted)), "fixed").decide(given, Parameters())
    assert (decided.action, decided.size) == (action, size)


@pytest.mark.parametrize(("cpu_ms", "wall_ms"), [(CPU_LIMIT_MS + 1, 0.0), (0.0, WALL_LIMIT_MS + 1)])
def test_a_slow_slot_is_left_out_for_a_while_or_until_its_parameters_change(cpu_ms: float, wall_ms: float) -> None:
    """Too slow twice in a row, it is not called any more, other slots are; then it gets another chance."""
    cpu = wall = calls = 0

    class Slow(Snipe):
        def decide(self, inputs: Inputs, parameters: Parameters) -> Decision:
            nonlocal cpu, wall, calls
            calls += 1
            if inputs.slot == "BTC-5m":
                cpu, wall = cpu + int(cpu_ms * 1e6), wall + int(wall_ms * 1e6)
            return super().decide(inputs, parameters)

    guarded = GuardedStrategy(Slow(), "slow", cpu_ns=lambda: cpu, wall_ns=lambda: wall)
    now = inputs().now_ms
    for _ in range(SLOW_IN_A_ROW):
        guarded.decide(inputs(), Parameters())
    with pytest.raises(StrategyError, match="left out"):
        guarded.decide(inputs(now_ms=now + LEFT_OUT_MS - 1), Parameters())
    assert calls == SLOW_IN_A_ROW
    guarded.decide(inputs(slot="ETH-5m"), Parameters())
    guarded.decide(inputs(), Parameters(min_edge=0.5))
    with pytest.raises(StrategyError, match="left out"):
        guarded.decide(inputs(), Parameters(min_edge=0.5))
    guarded.decide(inputs(now_ms=now + LEFT_OUT_MS + 1), Parameters(min_edge=0.5))
    assert calls == SLOW_IN_A_ROW + 3


@pytest.mark.parametrize(
    ("bid", "parameters", "words"),
    [
        ("0.90", Parameters(take_profit=0.9, exit_edge=1), "profit limit"),
        ("0.20", Parameters(stop_price=0.2, exit_edge=1), "stop"),
        ("0.99", Parameters(), "more than it is worth"),
    ],
)
def test_a_position_is_sold_at_its_limits_and_when_the_edge_turns(bid: str, parameters: Parameters, words: str) -> None:
    """The bid at or above the profit limit, at or below the stop, or above the worth by the exit edge sells all of it.

    One odd book or price does not suffice; two looks at newer ones that agree do.
    """
    given = inputs(**HELD, lead_price=60_010.0, bids_up=(Level(Decimal(bid), 50 * SHARE),))
    decision = Snipe().decide(given, parameters)
    assert (decision.action, decision.streak) == ("none", 1)
    assert words in decision.reason
    assert decision.every_price_from_ms is not None
    assert decision.every_price_from_ms <= given.now_ms, "the next price may confirm it"
    again = replace(
        given,
        lead_price=given.lead_price if "worth" in words else None,  # a limit is the bid's alone
        seen_ms=given.seen_ms + parameters.confirm_ms,
        book_ms=given.seen_ms + 1,
        streak_window=decision.streak_window,
        streak_outcome=decision.streak_outcome,
        streak=decision.streak,
        streak_ms=decision.streak_ms,
    )
    for same in (replace(again, seen_ms=again.seen_ms - 1), replace(again, book_ms=given.seen_ms)):
        assert Snipe().decide(same, parameters).action == "none", "the same data confirms once"
    decision = Snipe().decide(again, parameters)
    assert (decision.action, decision.price, decision.size) == ("exit", Decimal(bid), 10 * SHARE)
    assert words in decision.reason
    held = replace(given, bids_up=(Level(Decimal("0.60"), 50 * SHARE),))
    assert Snipe().decide(held, parameters).action == "none"
