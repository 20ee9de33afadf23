"""One-second closes and realised volatility."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.history import Kline, parse_klines
from bot.market_data.prices import LONGEST_MOVE_S, MOVE_S, Candles


def update(boot_ms: int, price: float, source: Source = Source.BOOK) -> PriceUpdate:
    """An update of BTC."""
    return PriceUpdate("BTC", price, source, None, boot_ms)


prices = st.floats(min_value=0.0001, max_value=1e6)
updates = st.lists(st.tuples(st.integers(0, 500_000), prices), max_size=300)


@given(updates, st.integers(2, 50))
def test_closes_are_bounded_rising_and_last_of_their_second(rows: list[tuple[int, float]], capacity: int) -> None:
    """However updates arrive, closes rise by second, never exceed the capacity, and hold the last price of each second."""
    candles = Candles(capacity)
    last: dict[int, float] = {}
    newest = -1
    for boot_ms, price in rows:
        candles.add(update(boot_ms, price))
        if boot_ms // 1000 >= newest:
            newest = boot_ms // 1000
            last[newest] = price
    assert candles.closes() == sorted(last.items())[-capacity:]


@given(updates)
def test_volatility_is_finite_and_never_below_its_floor(rows: list[tuple[int, float]]) -> None:
    """Whatever came, gaps and all, volatility is a usable number."""
    candles = Candles()
    for boot_ms, price in rows:
        candles.add(update(boot_ms, price))
    found = candles.volatility(floor=1e-6)
    assert math.isfinite(found.per_sqrt_second)
    assert found.per_sqrt_second >= 1e-6
    assert 0 <= found.samples <= max(0, len(candles.closes()) - 1)


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_volatility_is_that_of_the_walk_even_with_gaps(keep: float) -> None:
    """A random walk of known volatility is measured within a tenth, also where most seconds are missing."""
    source = random.Random(7)
    candles, price = Candles(4_000, half_life_s=2_000), 100.0
    for second in range(4_000):
        price *= math.exp(source.gauss(0, 2e-4))
        if source.random() < keep:
            candles.add(update(second * 1000, price))
    assert candles.volatility().per_sqrt_second == pytest.approx(2e-4, rel=0.1)


def test_recent_seconds_weigh_more() -> None:
    """After a quiet stretch the volatility has fallen, though the wild seconds are still in the ring."""
    short, long = Candles(half_life_s=20), Candles(half_life_s=1e6)
    for second in range(300):
        for candles in (short, long):
            candles.add(update(second * 1000, 100.0 + (second // 10 % 2) * (0.5 if second < 150 else 0.01)))
    assert short.volatility().per_sqrt_second < long.volatility().per_sqrt_second / 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(90, 110)), min_size=2), st.integers(1, 400))
def test_the_volatility_carried_along_is_that_of_the_formula(rows: list[tuple[int, float]], half_life_s: int) -> None:
    """Carried from update to update, it is the weighed mean over all moves of 10 to 30 s, whatever changed in between."""
    candles = Candles(half_life_s=half_life_s)
    for tenth, price in sorted(rows):
        candles.add(update(tenth * 100, price))
    closes = candles.closes()
    variances = weights = 0.0
    for later, following in closes:
        before = [(second, close) for second, close in closes if later - second >= MOVE_S]
        if not before or later - before[-1][0] > LONGEST_MOVE_S:
            continue
        weight = 0.5 ** ((closes[-1][0] - later) / half_life_s)
        variances += weight * math.log(following / before[-1][1]) ** 2 / (later - before[-1][0])
        weights += weight
    expected = max(1e-6, math.sqrt(variances / weights)) if weights else 1e-6
    assert candles.volatility().per_sqrt_second == pytest.approx(expected)


def test_trades_are_left_out() -> None:
    """A trade's jump between bid and ask is no volatility."""
    candles = Candles()
    candles.add(update(0, 100.0))
    candles.add(update(1_000, 150.0, Source.TRADE))
    assert candles.closes() == [(0, 100.0)]


@given(st.lists(st.integers(0, 100), unique=True).map(sorted), st.lists(st.integers(50, 150), unique=True).map(sorted))
def test_history_goes_before_what_the_stream_brought(history: list[int], live: list[int]) -> None:
    """Seeding keeps every close of the stream and puts only earlier seconds before them, whichever came first."""
    candles = Candles()
    for second in live:
        candles.add(update(second * 1000 + 5, 2.0))
    candles.seed([Kline(1_700_000_000_000 + second * 1000, 1.0) for second in history], -1_700_000_000_000)
    earlier = [second for second in history if not live or second < live[0]]
    assert candles.closes() == [(second, 1.0) for second in earlier] + [(second, 2.0) for second in live]


def test_klines_are_read_from_binances_arrays() -> None:
    """The start and the close of each array are taken."""
    row = [1_499_040_000_000, "1.0", "2.0", "0.5", "1.5", "100", 1_499_040_000_999, "1", 1, "1", "1", "0"]
    assert parse_klines([row]) == [Kline(1_499_040_000_000, 1.5)]


@pytest.mark.parametrize(
    "payload", [{}, [1], [[1, "1", "1", "1"]], [[1, "1", "1", "1", "-1"]], [["1", "1", "1", "1", "1"]]]
)
def test_other_forms_are_value_errors(payload: object) -> None:
    """What is not Binance's form raises ValueError."""
    with pytest.raises(ValueError, match="expected"):
        parse_klines(payload)
