"""Odd prices are believed by nobody, and real jumps are followed soon."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.market_data.basis import BasisState
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.history import Kline
from bot.market_data.plausibility import (
    CONTRADICTION_MS,
    LEAD_CONFIRM_MS,
    LEAST_LIMIT,
    LONE,
    MOST_LIMIT,
    MOST_SEEN,
    Plausible,
    Seen,
    limit,
)
from bot.market_data.prices import Candles, Prices
from bot.market_data.rtds import SettlementPrice
from bot.slots import Slot
from bot.strategy.evaluation import Evaluation, State, Streak, View, evaluate, next_state
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.strategy.snipe import Parameters
from bot.venue.decoding import Code, Origin, Skips
from bot.venue.types import Book, Level
from ledger.rows import Position
from ledger.values import Outcome
from tests.unit.bot.making import END_MS, MARKET, SHARE, WINDOW

SIGMA = 6e-5
PRICE = 60_000.0
BEGIN_MS = END_MS - 80_000  # inside the snipe window
SEED_S = 300


def lead(price: float, at_ms: int, number: int = 0) -> PriceUpdate:
    """The middle of Binance's best prices."""
    return PriceUpdate("BTC", price, Source.BOOK, None, at_ms, number)


def seeded(skips: Skips | None = None, odd: int | None = None) -> Prices:
    """Prices with a past of five minutes that ends at PRICE; odd: one of its seconds is 10 % off."""
    prices, source = Prices(("BTC",), skips), random.Random(3)
    past, price = [], PRICE
    for _ in range(SEED_S):
        price *= math.exp(source.gauss(0, SIGMA))
        past.append(price)
    klines = [
        Kline(BEGIN_MS - (SEED_S - n) * 1_000, p * PRICE / past[-1] * (1.1 if n == odd else 1))
        for n, p in enumerate(past)
    ]
    prices.seed({"BTC": klines}, 0)
    prices.inherit_basis({"BTC": BasisState(0.0, 600.0, BEGIN_MS - 2_000)}, BEGIN_MS)
    return prices


def volatility(prices: Prices) -> float:
    """It is known."""
    found = prices.volatility("BTC")
    assert found is not None
    return found


# --- the recorded faults


@pytest.mark.parametrize("factor", [1.10, 0.9, 1.02, 1000.0])
def test_a_wick_of_a_second_changes_nothing_and_blocks_for_a_second(factor: float) -> None:
    """Ten messages that are off, and then the old price again: volatility, closes and the price are as without them."""
    skips = Skips()
    prices, calm = seeded(skips), seeded()
    for tenth in range(100):
        at, is_odd = BEGIN_MS + tenth * 100, 50 <= tenth < 60
        prices.take(lead(PRICE * (factor if is_odd else 1), at, tenth + 1))
        if not is_odd:
            calm.take(lead(PRICE, at, tenth + 1))
        assert bool(prices.doubt("BTC")) == is_odd
        assert prices.newest("BTC") == PRICE
        assert volatility(prices) == volatility(calm)
    assert skips.counts[Origin.BINANCE_STREAM, Code.JUMP] == 1, "a doubt is counted once"


def test_candles_alone_are_not_multiplied_by_one_odd_close() -> None:
    """A close 10 % off made the volatility 166 times too high for half an hour: it is at most doubled."""
    candles, source, price = Candles(), random.Random(1), 100.0
    for second in range(1, 1_201):
        price *= math.exp(source.gauss(0, SIGMA))
        candles.add(lead(price, second * 1_000))
    before = candles.volatility().per_sqrt_second
    candles.add(lead(price * 1.1, 1_201_000))
    candles.add(lead(price, 1_202_000))
    assert before <= candles.volatility().per_sqrt_second < 2 * before


def test_one_settlement_price_that_is_off_is_in_no_average() -> None:
    """One price 5 % off made P(Up) 1.000: the average is that of the others."""
    skips = Skips()
    prices = seeded(skips)
    for second in range(10):
        at = BEGIN_MS + second * 1_000
        prices.take(lead(PRICE, at))
        prices.settle(SettlementPrice("BTC", PRICE * (1.05 if second == 6 else 1), at, at))
        assert bool(prices.doubt("BTC")) == (second == 6)
        assert prices.average("BTC", BEGIN_MS - 1_000, at)[1] == PRICE
    assert skips.counts[Origin.RTDS, Code.JUMP] == 1


def test_settlement_prices_that_stay_off_are_doubted_while_the_lead_contradicts_them() -> None:
    """They confirm each other, and a fresh lead price stands where they stood: the slots stay blocked."""
    prices = seeded()
    for second in range(60):
        at = BEGIN_MS + second * 1_000
        prices.take(lead(PRICE, at))
        prices.settle(SettlementPrice("BTC", PRICE * (1.05 if second >= 6 else 1), at, at))
        assert bool(prices.doubt("BTC")) == (second >= 6)
    prices.settle(SettlementPrice("BTC", PRICE, BEGIN_MS + 60_000, BEGIN_MS + 60_000))
    assert prices.doubt("BTC") == ""


def test_a_lead_that_stays_off_is_blocked_by_the_settlement_prices_and_silence_unlocks_nothing() -> None:
    """Its own messages make it the lead price, but nothing is entered while the settlement prices contradict it."""
    skips = Skips()
    prices = seeded(skips)
    for tenth in range(300):
        at = BEGIN_MS + tenth * 100
        prices.take(lead(PRICE * (1.1 if tenth >= 50 else 1), at))
        if tenth % 10 == 0 and tenth < 150:  # then the settlement stream falls silent
            prices.settle(SettlementPrice("BTC", PRICE, at, at))
        assert bool(prices.doubt("BTC")) == (tenth >= 50)
    assert "contradict" in prices.doubt("BTC")
    assert skips.counts[Origin.RTDS, Code.DISAGREES] == 1
    at = BEGIN_MS + 30_000
    prices.take(lead(PRICE, at))
    assert prices.doubt("BTC") != "", "the settlement price is too old to confirm that it is back"
    prices.settle(SettlementPrice("BTC", PRICE, at, at))
    prices.take(lead(PRICE, at + 100))
    assert prices.doubt("BTC") == ""


# --- what confirms


@settings(deadline=None, max_examples=150)
@given(
    st.floats(LEAST_LIMIT, 0.5),
    st.sampled_from([-1, 1]),
    st.integers(20, 1_000),
    st.floats(0, 4 * SIGMA),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_real_jump_is_followed_within_two_seconds(
    size: float, sign: int, spacing_ms: int, sigma: float, settles: bool, seed: int
) -> None:
    """Messages 20 ms to a second apart that stay where the price jumped to: it is the lead price, and nothing is blocked."""
    prices, source, at, price, number = seeded(), random.Random(seed), BEGIN_MS, PRICE, 0

    def go_on(until_ms: int) -> None:
        nonlocal at, price, number
        while at <= until_ms:
            price *= math.exp(source.gauss(0, sigma * math.sqrt(spacing_ms / 1_000)))
            number += 1
            prices.take(lead(price, at, number))
            if settles and (at - BEGIN_MS) // 1_000 != (at - spacing_ms - BEGIN_MS) // 1_000:
                prices.settle(SettlementPrice("BTC", price, at, at))
            at += spacing_ms

    go_on(BEGIN_MS + 5_000)
    assert prices.doubt("BTC") == ""
    price *= math.exp(sign * size)
    go_on(at + 2_000)
    assert prices.newest("BTC") == price
    assert prices.doubt("BTC") == ""


def test_the_other_stream_confirms_a_jump_at_once_and_only_while_it_is_fresh() -> None:
    """A settlement price of just now that moved as far; one of 3 s ago proves nothing, nor does one that did not move."""
    for age_ms, moved, confirms in ((500, True, True), (3_001, True, False), (-1, True, False), (500, False, False)):
        one, other = Plausible(LEAD_CONFIRM_MS), Plausible(LEAD_CONFIRM_MS)
        one.believe(Seen(100.0, 0))
        other.believe(Seen(110.1 if moved else 100.1, 10_000 - age_ms))
        assert bool(one.take(Seen(110.0, 10_000), None, other)) == confirms


def test_a_message_that_was_sent_before_and_a_clock_that_jumps_unlock_nothing() -> None:
    """The odd message again, one from before it, or the odd one an hour later or earlier: all leave it in doubt."""
    stream = Plausible(LEAD_CONFIRM_MS)
    stream.believe(Seen(100.0, 1_000_000, 7))
    assert stream.take(Seen(110.0, 1_001_000, 9)) == ()
    for at in (1_002_500, 1_004_000, 1_001_000 + 3_600_000, 1_000_000 - 3_600_000):
        assert stream.take(Seen(110.0, at, 9)) == (), "the same message"
        assert stream.take(Seen(100.0, min(at, 1_004_000), 8)) == (), "one that was sent before"
    assert stream.doubt is not None
    assert stream.take(Seen(110.0, 900_000, 10)) == (), "no time passed on a clock that went back"
    assert stream.take(Seen(110.0, 900_000 + LEAD_CONFIRM_MS, 11))[-1].price == 110.0


def test_numbers_that_begin_anew_hold_nobody_back_for_ever() -> None:
    """An exchange that starts again counts from 1: after a while its messages count, and confirm each other."""
    stream = Plausible(LEAD_CONFIRM_MS)
    stream.believe(Seen(100.0, 0, 1_000))
    assert stream.take(Seen(110.0, 100, 1_001)) == ()
    seen = [stream.take(Seen(110.0, 1_000 * n, n)) for n in range(1, 9)]
    assert seen[-1] or seen[-2], "5 s, and then as any other"


@given(st.lists(st.tuples(st.floats(1, 1e6), st.integers(0, 400), st.integers(0, 50)), max_size=200))
def test_whatever_comes_little_is_kept(rows: list[tuple[float, int, int]]) -> None:
    """Of one doubt a few messages; a price is believed, or in doubt."""
    stream = Plausible(LEAD_CONFIRM_MS)
    for price, at, number in rows:
        found = stream.take(Seen(price, at * 100, number), SIGMA)
        assert (stream.doubt is None) == bool(found) or not found
        assert stream.doubt is None or len(stream.doubt.seen) <= MOST_SEEN


def test_the_limit_follows_volatility_between_its_bounds() -> None:
    """At least 0.5 %, ten deviations, at most 2 %; the time that passed counts."""
    assert limit(None, 0) == limit(SIGMA, 1_000) == LEAST_LIMIT
    assert limit(1e-3, 1_000) == pytest.approx(0.01)
    assert limit(SIGMA, 100_000) == pytest.approx(0.006)
    assert limit(1e-3, CONTRADICTION_MS) == MOST_LIMIT


def test_one_odd_second_of_the_history_is_left_out() -> None:
    """The volatility that a bot begins with is not that of an odd candle."""
    assert volatility(seeded(odd=150)) == pytest.approx(volatility(seeded()), rel=0.02)
    assert volatility(seeded(odd=0)) == pytest.approx(volatility(seeded()), rel=0.02)


# --- no single message of any feed can cause an order


class Shown(dict[str, Book]):
    """Books that always stand."""

    def told_ms(self, token_id: str) -> int | None:
        return self[token_id].at_ms if token_id in self else None


def books(up: float, at_ms: int) -> Shown:
    """Both books around a probability of Up."""

    def book(token: str, worth: float) -> Book:
        middle = min(max(round(worth, 2), 0.03), 0.97)
        ask, bid = Decimal(f"{middle + 0.02:.2f}"), Decimal(f"{middle - 0.02:.2f}")
        return Book(token, (Level(bid, 500 * SHARE),), (Level(ask, 500 * SHARE),), at_ms)

    return Shown({"1": book("1", up), "2": book("2", 1 - up)})


POSITION = Position("BTC-5m", WINDOW, END_MS, "0xcondition", "1", Outcome.UP, 10 * SHARE, 5 * SHARE, 0)
STRATEGY = load_strategy(DEFAULT_STRATEGY).untimed()


def looked_at(prices: Prices, now: int, shown: Shown, state: State, held: bool) -> Evaluation:
    """One evaluation of the slot; nothing but the prices keeps an order back."""
    listing = SimpleNamespace(get=lambda _: MARKET, asked=lambda _: True, problem=lambda _: None)
    view = View(
        now_ms=now,
        to_boot_ms=0,
        books=cast(Any, shown),
        positions=(POSITION,) if held else (),
        state=state,
        strategy=STRATEGY,
        parameters=Parameters(),
        enabled=lambda _: True,
        blocked=lambda *_: "",
    )
    (found,) = evaluate((Slot("BTC", "5m"),), cast(Any, listing), prices, view)
    return found


def actions(
    odd: tuple[str, int, float] | None, walk: Iterable[float], held: bool, spacing_ms: int = 100
) -> tuple[list[str], list[str], Prices]:
    """What is done on each message of a walk whose books follow the fair price; odd: feed, place and factor of an odd one."""
    prices, state = seeded(), dict[str, Streak]()
    fair = seeded()  # what the books know: the walk without the odd message
    done, reasons, price = list[str](), list[str](), PRICE
    where, when, factor = odd or ("", -1, 1.0)
    for n, move in enumerate(walk):
        price *= math.exp(move)
        at = BEGIN_MS + n * spacing_ms
        settlement = SettlementPrice("BTC", price, at, at, at)
        fair.take(lead(price, at, n + 1))
        found = price * factor if n == when else price
        prices.take(lead(found if where == "lead" else price, at, n + 1))
        if n == when and where == "trade":
            prices.take(replace(lead(found, at, 1), source=Source.TRADE))
        if at % 1_000 == 0:
            fair.settle(settlement)
            prices.settle(replace(settlement, price=found) if where == "settlement" else settlement)
        worth = looked_at(fair, at, books(0.5, at), {}, held=False).decision.probability_up
        assert worth is not None
        for shown in (
            books(worth, at),
            books(worth, at + spacing_ms * 2 // 5),
        ):  # a message of the book comes between two of the lead
            e = looked_at(prices, shown["1"].at_ms, shown, state, held)
            state = next_state([e])
            done.append(e.decision.action)
            reasons.append(e.decision.reason)
    return done, reasons, prices


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("where", ["lead", "settlement", "trade"])
@settings(deadline=None, max_examples=25)
@given(
    when=st.integers(0, 59),
    factor=st.floats(0.995, 1.005) | st.floats(0.9, 1.1) | st.floats(math.log(0.001), math.log(1000)).map(math.exp),
    spacing_ms=st.sampled_from([100, 1_000]),
    seed=st.integers(0, 2**32),
)
def test_no_odd_message_of_a_walk_causes_an_order_or_changes_volatility(
    where: str, when: int, factor: float, held: bool, spacing_ms: int, seed: int
) -> None:
    """Wherever it stands in whatever feed, and whatever it says: no entry, no exit; the volatility is as without it."""
    source, messages = random.Random(seed), 1_000 // spacing_ms
    walk = [source.gauss(0, SIGMA * math.sqrt(spacing_ms / 1_000)) for _ in range(60)]
    factor = factor if abs(math.log(factor)) > 2 * LONE else 1 + 2 * LONE  # below that it is a price as any other
    when -= when % messages if where == "settlement" else 0
    done, _, prices = actions((where, when, factor), walk, held, spacing_ms)
    assert set(done) == {"none"}
    _, _, calm = actions(None, walk, held, spacing_ms)
    if abs(math.log(factor)) > MOST_LIMIT:
        kept = when % messages != messages - 1 or where != "lead"  # else its second has another close, or none
        assert volatility(prices) == pytest.approx(volatility(calm), rel=1e-9 if kept else 0.1)
    else:
        assert volatility(prices) < 2 * volatility(calm)


def test_a_slot_in_doubt_says_so_held_or_not() -> None:
    """The reason names the price; what is held is not sold for it."""
    for held in (False, True):
        done, reasons, _ = actions(("lead", 59, 1.1), [0.0] * 60, held)
        assert done[-1] == "none"
        assert reasons[-1].startswith("the lead price of BTC jumped from 60000 to 66000 (+10.00 %)")


def test_the_same_lead_price_does_cause_an_order_once_it_is_confirmed() -> None:
    """What the tests above keep back is wanted, and comes: a move that lasts is entered upon against books that do not follow."""
    prices, state = seeded(), dict[str, Streak]()
    done = []
    for tenth in range(60):
        at = BEGIN_MS + tenth * 100
        prices.take(lead(PRICE * (1.01 if tenth >= 20 else 1), at, tenth + 1))
        own_ms = at - 1_400
        if own_ms % 1_000 == 0:
            moved = PRICE * (1.01 if own_ms >= BEGIN_MS + 2_000 else 1)
            prices.settle(SettlementPrice("BTC", moved, own_ms, at, own_ms))
        e = looked_at(prices, at, books(0.5, at), state, held=False)
        state = next_state([e])
        done.append(e.decision.action)
    first = done.index("enter")
    assert 20 + LEAD_CONFIRM_MS // 100 <= first <= 40
