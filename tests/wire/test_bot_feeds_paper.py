"""The feed and its history against the paper exchange's Binance, over real sockets and with a real process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import structlog

from bot.market_data.binance import BinanceFeed
from bot.market_data.binance_messages import PriceUpdate, Source, stream_url
from bot.market_data.history import fetch_history
from bot.market_data.prices import MOVE_S, Candles
from bot.venue.stream import Stream, Timing
from tests import patience
from tests.wire.conftest import StartPaper

ASSETS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")
LIMIT_S = 60


@pytest.fixture(scope="module")
def paper(start_paper: StartPaper) -> str:
    """The URL of a paper exchange of its own."""
    return start_paper().url


def boot_ms() -> int:
    """CLOCK_BOOTTIME in ms."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@contextlib.asynccontextmanager
async def reading(url: str, timing: Timing) -> AsyncIterator[tuple[BinanceFeed, list[PriceUpdate]]]:
    """A running feed of all assets and what it delivered."""
    updates: list[PriceUpdate] = []
    feed = BinanceFeed(
        Stream(
            "feed",
            stream_url(url.replace("http", "ws", 1), ASSETS),
            timing=timing,
            random=lambda: 0.5,
            log=structlog.get_logger(),
        ),
        ASSETS,
        on_update=updates.append,
        boot_ms=boot_ms,
        log=structlog.get_logger(),
    )
    task = asyncio.create_task(feed.run())
    try:
        yield feed, updates
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that no single event tells."""
    async with patience.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  # See above.
            await asyncio.sleep(0.02)


async def arm(url: str, **fault: Any) -> None:
    """Make the paper exchange fail."""
    async with aiohttp.ClientSession() as session, session.post(f"{url}/paper/faults", json=fault) as response:
        assert response.status == 200, await response.text()


async def test_every_asset_gets_prices_from_both_sources(paper: str) -> None:
    """All six assets bring book and trade prices, and nothing that cannot be read."""
    async with reading(paper, Timing()) as (feed, updates):
        wanted = {(asset, source) for asset in ASSETS for source in Source}
        await until(lambda: {(update.asset, update.source) for update in updates} == wanted)
        state = feed.state()
        assert (state.connected, state.gaps, state.parse_errors) == (True, 0, 0)
        assert all(age is not None and age < 5_000 for age in state.age_ms.values())


async def test_planned_replacement_repeats_nothing(paper: str) -> None:
    """Over planned replacements there is no gap, and no two updates of an asset and source are out of order."""
    async with reading(paper, Timing(lifetime_s=0.5)) as (feed, updates):
        await until(lambda: feed.state().connects >= 4)
        assert feed.state().gaps == 0
        times = [update.venue_ms for update in updates if (update.asset, update.source) == ("BTC", Source.TRADE)]
        assert times == sorted(times, key=lambda ms: ms or 0)


@pytest.mark.parametrize(("kind", "count"), [("drop_streams", 1), ("freeze_streams", None)])
async def test_it_comes_back_from_dropped_and_frozen_streams(paper: str, kind: str, count: int | None) -> None:
    """A dropped stream and one that only answers PING both cost one gap at least, and prices go on afterwards."""
    async with reading(paper, Timing(stale_after_s=1.0)) as (feed, updates):
        await until(lambda: len(updates) > 0)
        await arm(paper, kind=kind, **({"count": count} if count else {"seconds": 2}))
        await until(lambda: feed.state().gaps >= 1)
        seen = len(updates)
        await until(lambda: len(updates) > seen and feed.state().connected)


async def test_history_gives_volatility_at_once(paper: str) -> None:
    """The last minutes of every asset come in one go and make a volatility that is a real number of samples."""
    history = await fetch_history(paper, ASSETS, log=structlog.get_logger(), seconds=120)
    assert set(history) == set(ASSETS)
    for klines in history.values():
        assert [kline.open_ms for kline in klines] == sorted(kline.open_ms for kline in klines)
        candles = Candles()
        candles.seed(klines, boot_ms() - time.time_ns() // 1_000_000)
        found = candles.volatility()
        assert found.samples == len(klines) - MOVE_S > 0
        assert 1e-6 < found.per_sqrt_second < 1e-2


async def test_missing_history_is_logged_and_left_out(paper: str) -> None:
    """An asset that the venue does not know, or a venue that is not there, costs the history and nothing more."""
    assert set(await fetch_history(paper, ("BTC", "NOPE"), log=structlog.get_logger())) == {"BTC"}
    assert await fetch_history("http://127.0.0.1:1", ("BTC",), log=structlog.get_logger(), time_limit_s=1) == {}
