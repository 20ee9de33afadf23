"""Names and identities of windows, and the market maker's probability."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper.engine.book import ONE
from paper.engine.market_maker import fair_up, quotes
from paper.engine.markets import Window, parse_slug, parse_timeframe, windows_at
from paper.engine.prices import ASSETS


@given(
    asset=st.sampled_from(ASSETS),
    timeframe=st.sampled_from(["5s", "10s", "90s", "5m", "15m", "4h"]),
    n=st.integers(1, 10**6),
)
def test_slug_names_its_window(asset: str, timeframe: str, n: int) -> None:
    """A window is found again by its slug, and its identities follow from the slug alone."""
    window = Window(asset, timeframe, n * parse_timeframe(timeframe) * 1000)
    found = parse_slug(window.slug)
    assert found == window
    assert found.token_ids == window.token_ids
    assert len({window.condition_id, *window.token_ids}) == 3
    # Outside the venue's protocol-v2 name spaces, or clients would sign for another contract.
    assert window.condition_id.startswith("0xf0")
    assert all(int(token) >> 254 == 1 for token in window.token_ids)


@pytest.mark.parametrize(
    "slug", ["btc-updown-5m-1795465501", "ltc-updown-5m-1795465500", "btc-updown-4s-1795465500", "btc-updown-5h-0", "x"]
)
def test_other_slugs_name_nothing(slug: str) -> None:
    """Off the grid, unknown asset, bad timeframe: no window."""
    assert parse_slug(slug) is None


@pytest.mark.parametrize(("timeframe", "seconds"), [("10s", 2), ("5m", 60), ("15m", 60), ("5s", 1), ("90s", 18)])
def test_average_covers_a_fifth_of_the_window(timeframe: str, seconds: int) -> None:
    """The settlement average is a fifth of the window, 1 s to 60 s."""
    assert Window("BTC", timeframe, 0).averaging_ms == seconds * 1000


def test_windows_at_a_time_contain_it() -> None:
    """The first windows listed contain the time, the others follow."""
    now = 1_795_465_512_345
    windows = windows_at(now, "5m", 1)
    assert [window.start_ms <= now < window.end_ms for window in windows] == [True] * 6 + [False] * 6
    assert windows[6].start_ms == windows[0].end_ms


@pytest.mark.parametrize(("left_s", "averaged"), [(200.0, 100.0), (60.0, 100.0), (20.0, 100.02), (5.0, 99.99)])
def test_fair_price_agrees_with_simulation(left_s: float, averaged: float) -> None:
    """The probability of Up is what simulated paths of the average show, within 3 %."""
    rng, sigma, price, reference = random.Random(7), 1e-4, 100.04, 100.0
    ups = 0
    for _ in range(1_500):
        path, total = price, averaged * (60 - min(60.0, left_s))
        for second in range(round(left_s)):
            path *= 1 + rng.gauss(0, sigma)
            if left_s - second <= 60:
                total += path
        ups += total / 60 >= reference
    assert fair_up(price, reference, sigma, left_s, 60.0, averaged) == pytest.approx(ups / 1_500, abs=0.03)


@given(fair=st.floats(0, 1), tick=st.sampled_from([10_000, 1_000]), seed=st.integers(0, 999))
def test_quotes_stand_around_the_fair_price(fair: float, tick: int, seed: int) -> None:
    """Bids are below the fair price and asks above it, on the tick, inside (0, 1), with finite depth."""
    for quote in quotes(fair, tick, random.Random(seed)):
        assert (quote.up_price < fair * ONE) if quote.is_bid else (quote.up_price > fair * ONE)
        assert quote.up_price % tick == 0
        assert tick <= quote.up_price <= ONE - tick
        assert 20 * ONE <= quote.size <= 200 * ONE
