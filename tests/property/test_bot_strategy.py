"""The snipe strategy: what must hold of every decision, whatever it is given."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bot.slots import make_slots
from bot.strategy.api import SIZE_STEP, Decision, Inputs, read_parameters
from bot.strategy.evaluation import NO_STREAK, Moment, Own, State, Streak, goes_on_from, read_state, write_state
from bot.strategy.guard import GuardedStrategy, load_strategy
from bot.strategy.model import distance, probability_up
from bot.strategy.snipe import MIN_STAKE, Parameters, decide
from bot.venue.types import BASE_UNITS, Level
from ledger import LastState
from ledger.values import Outcome
from tests.unit.bot.making import END_MS, INPUTS, SHARE, START_MS, inputs
from tests.unit.bot.strategy.test_guard import CHEAP

STRIKE = 60_000.0
# Only time is forgiven: a busy machine must not fail a property.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TICKS = st.sampled_from([Decimal("0.01"), Decimal("0.001")])
prices_near_strike = st.floats(0.97, 1.03).map(lambda ratio: STRIKE * ratio)
volatilities = st.floats(1e-6, 3e-4)
moments = st.integers(START_MS, END_MS - 1)


@st.composite
def known_averages(draw: st.DrawFn, now_ms: int) -> dict[str, Any]:
    """What is known of the settlement average: nothing before its last minute, else all that passed or a part of it."""
    passed = max(0.0, (now_ms - (END_MS - 60_000)) / 1000)
    if not passed or draw(st.booleans()):
        return {"average_seconds": 0.0, "average_price": None}
    return {"average_seconds": draw(st.floats(min(0.1, passed), passed)), "average_price": draw(prices_near_strike)}


@st.composite
def books(draw: st.DrawFn, tick: Decimal) -> dict[str, Any]:
    """Books of both outcomes on the tick, best levels first, sometimes empty on a side."""
    found: dict[str, Any] = {}
    steps = int(1 / tick)
    sizes = st.integers(1, 2_000 * 100).map(lambda cents: cents * BASE_UNITS // 100)
    for name, reverse in (("asks_up", False), ("asks_down", False), ("bids_up", True), ("bids_down", True)):
        levels = draw(st.lists(st.integers(1, steps - 1), unique=True, max_size=4))
        found[name] = tuple(Level(step * tick, draw(sizes)) for step in sorted(levels, reverse=reverse))
    return found


@st.composite
def any_inputs(draw: st.DrawFn) -> Inputs:
    """Anything that a slot may be given."""
    now_ms = draw(st.integers(START_MS - 1000, END_MS + 1000))
    tick = draw(TICKS)
    held = draw(st.sampled_from([None, Outcome.UP, Outcome.DOWN]))
    return replace(
        INPUTS,
        now_ms=now_ms,
        lead_price=draw(st.none() | prices_near_strike),
        strike=draw(st.none() | st.just(STRIKE)),
        volatility=draw(st.none() | volatilities),
        tick=tick,
        fee_rate=draw(st.sampled_from([0.0, 0.07, 0.3])),
        fee_exponent=draw(st.integers(1, 2)),
        held=held,
        held_shares=draw(st.integers(0, 500 * SHARE)) if held else 0,
        streak_window=draw(st.sampled_from(["", INPUTS.window, "another"])),
        streak_outcome=draw(st.sampled_from(["", "Up", "Down"])),
        streak=draw(st.integers(0, 5)),
        blocked=draw(st.sampled_from(["", "busy"])),
        **draw(known_averages(now_ms)),
        **draw(books(tick)),
    )


parameters = st.builds(
    Parameters,
    snipe_fraction=st.floats(0, 1),
    min_edge=st.floats(0, 0.3),
    exit_edge=st.floats(0, 0.3),
    confirmations=st.integers(1, 4),
    kelly=st.floats(0, 1),
    bankroll=st.floats(0, 5_000),
    max_stake=st.floats(0, 500),
    max_price=st.floats(0.02, 1),
    min_volatility=st.floats(1e-6, 1e-4),
)


def fee(given_inputs: Inputs, price: float) -> float:
    """The venue's taker fee a share (venue.md 2.3)."""
    return float(given_inputs.fee_rate * (price * (1 - price)) ** given_inputs.fee_exponent)


@st.composite
def tempting(draw: st.DrawFn) -> tuple[Inputs, Parameters]:
    """A slot late in its window with cheap offers of what is likely, and parameters under which that is often enough."""
    now_ms = draw(st.integers(END_MS - 120_000, END_MS + 100))
    tick = draw(TICKS)
    side = draw(st.sampled_from([1, -1]))
    lead_price = STRIKE * (1 + side * draw(st.floats(1e-5, 2e-3)))
    cheap = draw(st.integers(2, 90))
    steps = sorted({cheap, *draw(st.lists(st.integers(cheap, 99), max_size=3))})
    sizes = st.integers(6, 2_000).map(lambda shares: shares * SHARE)
    asks = tuple(Level(Decimal(step) / 100, draw(sizes)) for step in steps)
    return (
        replace(
            INPUTS,
            now_ms=now_ms,
            tick=tick,
            lead_price=lead_price,
            volatility=draw(st.floats(1e-5, 2e-4)),
            fee_rate=draw(st.sampled_from([0.0, 0.07, 0.3])),
            asks_up=asks if side == 1 else (),
            asks_down=asks if side == -1 else (),
            streak_window=INPUTS.window,
            streak_outcome=draw(st.sampled_from(["Up", "Down"])),
            streak=draw(st.integers(0, 3)),
            blocked=draw(st.sampled_from(["", "", "", "busy"])),
        ),
        Parameters(
            snipe_fraction=draw(st.floats(0.2, 1)),
            min_edge=draw(st.floats(0, 0.1)),
            confirmations=draw(st.integers(1, 2)),
            kelly=draw(st.floats(0.1, 1)),
            bankroll=draw(st.floats(100, 5_000)),
            max_stake=draw(st.floats(5, 100)),
            max_price=draw(st.floats(0.3, 1)),
        ),
    )


@calm
@given(tempting())
def test_an_entry_keeps_every_bound(given: tuple[Inputs, Parameters]) -> None:
    """An entry is made inside the snipe window only, confirmed, worth its price and fee, affordable, and there to be had."""
    given_inputs, given_parameters = given
    decision = decide(given_inputs, given_parameters)
    assume(decision.action == "enter")  # were this rare, hypothesis would refuse the test
    assert decision.price is not None
    assert decision.outcome is not None
    assert decision.belief_up is not None
    length = END_MS - START_MS
    assert END_MS - given_parameters.snipe_fraction * length <= given_inputs.now_ms < END_MS
    assert given_inputs.held_shares == 0
    assert not given_inputs.blocked
    assert decision.streak >= given_parameters.confirmations
    up = decision.outcome is Outcome.UP
    chance = decision.belief_up if up else 1 - decision.belief_up
    price = float(decision.price)
    assert price <= given_parameters.max_price + 1e-12
    assert price + fee(given_inputs, price) <= chance - given_parameters.min_edge + 1e-12
    assert decision.price % given_inputs.tick == 0
    assert given_inputs.tick <= decision.price <= 1 - given_inputs.tick
    asks = given_inputs.asks_up if up else given_inputs.asks_down
    assert decision.size <= sum(level.size for level in asks if level.price <= decision.price)
    assert decision.size % SIZE_STEP == 0
    assert decision.size >= given_inputs.min_size
    spent = Decimal(decision.size) / BASE_UNITS * decision.price
    assert spent >= MIN_STAKE
    best = float(asks[0].price) + fee(given_inputs, float(asks[0].price))
    whole_kelly = (chance - best) / (1 - best)
    assert float(spent) <= given_parameters.bankroll * given_parameters.kelly * whole_kelly + 1e-6
    assert float(spent) <= given_parameters.max_stake + 1e-6


@pytest.mark.parametrize("cents", range(10, 96, 5))
def test_a_limit_that_would_be_a_hair_too_dear_is_a_tick_lower(cents: int) -> None:
    """Where price and fee are above worth less edge by a hundred-millionth, the limit is the next tick below."""
    price = cents / 100
    base = inputs(asks_up=(Level(Decimal(cents - 5) / 100, 400 * SHARE),))
    chance = decide(base, Parameters()).belief_up
    assert chance is not None
    hair = chance - price - fee(base, price) + 1e-8
    decision = decide(base, Parameters(min_edge=hair, confirmations=1))
    assert (decision.action, decision.price) == ("enter", Decimal(cents - 1) / 100)


@calm
@given(any_inputs(), parameters)
def test_an_exit_sells_what_is_held_at_a_bid_that_pays_more_than_it_is_worth(
    given_inputs: Inputs, given_parameters: Parameters
) -> None:
    """An exit is never larger than the position, meets the bids, and gains the wanted edge after the fee at each of them."""
    decision = decide(given_inputs, given_parameters)
    if decision.action != "exit":
        return
    assert decision.price is not None
    assert decision.belief_up is not None
    assert decision.outcome is given_inputs.held
    assert 0 < decision.size <= given_inputs.held_shares
    up = decision.outcome is Outcome.UP
    bids = given_inputs.bids_up if up else given_inputs.bids_down
    assert decision.price in [level.price for level in bids]
    chance = decision.belief_up if up else 1 - decision.belief_up
    for level in bids:
        if level.price >= decision.price:
            price = float(level.price)
            assert price - fee(given_inputs, price) - chance >= given_parameters.exit_edge - 1e-9


@calm
@given(any_inputs(), parameters)
def test_a_decision_is_pure_and_its_probability_is_one(given_inputs: Inputs, given_parameters: Parameters) -> None:
    """Equal inputs give equal decisions, and a probability, where there is one, lies in [0, 1]."""
    first = decide(given_inputs, given_parameters)
    assert first == decide(replace(given_inputs), replace(given_parameters))
    if first.probability_up is None:
        assert first.action == "none"
    else:
        assert 0 <= first.probability_up <= 1


@calm
@given(moments, volatilities, prices_near_strike, prices_near_strike, st.data())
def test_a_higher_lead_price_never_makes_up_less_likely(
    now_ms: int, volatility: float, one: float, other: float, data: st.DataObject
) -> None:
    """The probability of Up rises with the lead price, all else equal."""
    average = data.draw(known_averages(now_ms))
    low, high = (
        probability_up(inputs(now_ms=now_ms, volatility=volatility, lead_price=price, **average), 1e-6)
        for price in sorted((one, other))
    )
    assert low is not None
    assert high is not None
    assert low <= high + 1e-9


@calm
@given(st.integers(START_MS, END_MS - 60_000), volatilities, st.floats(-0.02, 0.02))
def test_up_and_down_are_mirror_images(now_ms: int, volatility: float, distance: float) -> None:
    """As far above the strike as below it, Up is as likely as Down was; on the strike both are one half."""
    above, below = (
        probability_up(inputs(now_ms=now_ms, volatility=volatility, lead_price=STRIKE * math.exp(way * distance)), 1e-6)
        for way in (1, -1)
    )
    assert above is not None
    assert below is not None
    assert above + below == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("left_s", "ratio", "known"),
    [(240, 1.0004, None), (90, 0.9996, None), (60, 1.0003, None), (40, 0.9999, 1.0003), (15, 1.0004, 0.9999)],
)
def test_the_probability_agrees_with_a_simulation_of_the_settlement(
    left_s: int, ratio: float, known: float | None
) -> None:
    """Simulated second by second, the settlement average ends above the strike as often as the formula says."""
    draws, volatility = 2_500, 5e-5
    generator = random.Random(20_261_123 + left_s)
    passed = 60 - left_s if known else 0
    wins = 0
    for _ in range(draws):
        price, total = STRIKE * ratio, (known or 0) * STRIKE * passed
        for second in range(left_s, 0, -1):
            before = price
            price *= math.exp(generator.gauss(0, volatility))
            if second <= 60:
                total += (before + price) / 2
        wins += total / 60 >= STRIKE
    expected = distance(
        inputs(
            now_ms=END_MS - left_s * 1000,
            volatility=volatility,
            lead_price=STRIKE * ratio,
            average_seconds=float(passed),
            average_price=known * STRIKE if known else None,
        )
    )
    assert expected is not None
    found = 0.5 * math.erfc(-expected[0] / expected[1] / math.sqrt(2))
    error = math.sqrt(found * (1 - found) / draws)
    assert wins / draws == pytest.approx(found, abs=4 * error)


@calm
@given(st.integers(1, 5))
def test_confirmations_are_counted_over_polls_and_over_the_ledger(wanted: int) -> None:
    """An entry comes with exactly the wanted number of looks at newer data, though the state went through the ledger."""
    slot = make_slots(("BTC",), ("5m",))[0].id
    state: dict[str, Streak] | None = {}
    actions = []
    for seen_ms in range(1_000, 1_000 + wanted * 250, 250):
        # The same data, news that comes too soon, and a price beside books that nobody told again confirm nothing.
        for again, book_ms in ((seen_ms, seen_ms), (seen_ms + 249, seen_ms + 249), (seen_ms + 250, seen_ms)):
            assert state is not None
            window, outcome, streak, streak_ms = state.get(slot, NO_STREAK)
            given_inputs = inputs(
                streak_window=window, streak_outcome=outcome, streak=streak, streak_ms=streak_ms,
                seen_ms=again, book_ms=book_ms,
            )  # fmt: skip
            decision = decide(given_inputs, Parameters(confirmations=wanted, confirm_ms=250))
            after = {slot: Streak(decision.streak_window, decision.streak_outcome, decision.streak, decision.streak_ms)}
            state = read_state(write_state(after, "rule"), "rule")
            assert state == after
            if again == seen_ms:
                actions.append(decision.action)
            else:
                assert decision.streak == len(actions)
    assert actions == ["none"] * (wanted - 1) + ["enter"]


@pytest.mark.parametrize(
    "changed",
    [
        {"streak_window": "btc-updown-5m-1", "streak_outcome": "Up"},
        {"streak_window": INPUTS.window, "streak_outcome": "Down"},
    ],
)
def test_a_confirmation_of_something_else_does_not_count(changed: dict[str, str]) -> None:
    """Polls that agreed on another window or the other outcome begin anew."""
    decision = decide(inputs(streak=9, **changed), Parameters(confirmations=2))
    assert (decision.action, decision.streak) == ("none", 1)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"streaks": 3}', '{"streaks": {"BTC-5m": [1]}}', "{"])
def test_a_state_that_cannot_be_read_counts_as_none(text: str) -> None:
    """A state of another release costs confirmations and nothing else."""
    assert read_state(text, "rule") is None


MINE, LEFT, COUNTED = "mine", {"BTC-5m": Streak("w", "Up", 2, 7)}, {"BTC-5m": Streak("w", "Up", 1, 5)}
OF_THE_FORMER = '{"seen_ms":{"BTC-5m":7},"streaks":{"BTC-5m":["w","Up",2]}}'


@pytest.mark.parametrize(
    ("last", "own", "expected"),
    [
        (LastState(write_state(LEFT, MINE), 90_000, "b"), Own(COUNTED, MINE, 99_000), LEFT),
        (LastState(OF_THE_FORMER, 90_000, "b"), Own(COUNTED, MINE, 99_000), LEFT),
        (LastState(write_state({}, MINE), 90_000, "b"), Own(COUNTED, MINE, 99_000), {}),
        (LastState(write_state(LEFT, "other"), 90_000, "b"), Own(COUNTED, MINE, 99_000), COUNTED),
        (LastState(write_state(LEFT, MINE), 89_999, "b"), Own(COUNTED, MINE, 99_000), COUNTED),
        (LastState(write_state(LEFT, MINE), 100_001, "b"), Own(COUNTED, MINE, 99_000), COUNTED),
        (LastState(write_state(LEFT, MINE), 90_000, "the boot before"), Own(COUNTED, MINE, 99_000), COUNTED),
        (LastState("{", 90_000, "b"), Own(COUNTED, MINE, 99_000), COUNTED),
        (None, Own(COUNTED, MINE, 90_000), COUNTED),
        (None, Own(COUNTED, MINE, 89_999), {}),
        (None, Own(COUNTED, "other", 99_000), {}),
        (None, Own(), {}),
    ],
    ids=[
        "what the trader left", "of a release that names no rule", "the trader counted nothing", "counted by another rule",
        "too old", "of the future", "of another boot", "unreadable", "nothing left", "its own too old",
        "its own by other parameters", "nothing at all",
    ],
)  # fmt: skip
def test_an_instance_goes_on_from_what_is_recent_and_of_its_own_rule(
    last: LastState | None, own: Own, expected: State
) -> None:
    """The trader's state first, then what the instance counted in shadow, and neither after a gap or by another rule."""
    assert goes_on_from(last, own, MINE, Moment(100_000, "b", 5_000)) == expected


def test_a_rule_is_named_by_strategy_source_and_parameters(tmp_path: Path) -> None:
    """Equal ones have one name; another name, another parameter or another line in its file is another rule."""

    def load(name: str, text: str) -> GuardedStrategy:
        (tmp_path / name).write_text(text)
        return load_strategy(f"{tmp_path}/{name}:Cheap")

    first, again = load("one.py", CHEAP), load("one.py", CHEAP)
    assert first.rule(first.parameters()) == again.rule(again.parameters())
    changed = first.parameters(below=0.5)
    found = {
        first.rule(first.parameters()), first.rule(changed),
        load("two.py", CHEAP).rule(first.parameters()), load("one.py", CHEAP + "\n").rule(first.parameters()),
    }  # fmt: skip
    assert len(found) == 4


def test_an_exit_off_the_tick_still_meets_the_bid() -> None:
    """Where the tick has become coarser than the book's, the exit's limit is the tick below the bid."""
    decision: Decision = decide(
        inputs(held=Outcome.DOWN, held_shares=10 * SHARE, bids_down=(Level(Decimal("0.985"), 50 * SHARE),)),
        Parameters(confirmations=1),
    )
    assert (decision.action, decision.price) == ("exit", Decimal("0.98"))


wild = st.one_of(
    st.text(max_size=5), st.booleans(), st.integers(), st.floats(allow_nan=True), st.just(10**400), st.floats(0, 1)
)


@calm
@given(st.dictionaries(st.sampled_from([*asdict(Parameters()), "unknown"]), wild), parameters)
def test_a_parameter_is_taken_or_refused_with_the_last_good_one_kept(
    values: dict[str, Any], before: Parameters
) -> None:
    """Each value is in force, or is named as refused while the last good one stays; names not given have their default."""
    found, refused = read_parameters(Parameters, values, before)
    for name, default in asdict(Parameters()).items():
        in_force = getattr(found, name)
        if name not in values:
            assert in_force == default
        elif any(sentence.startswith(f"strategy.{name}:") for sentence in refused):
            assert in_force == getattr(before, name)
        else:
            assert in_force == values[name]
            assert not isinstance(values[name], bool)
    assert len(refused) >= ("unknown" in values)
