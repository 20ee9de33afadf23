"""The settlement stream against the paper exchange: the average that the bot computes, and what it does without the stream."""

from __future__ import annotations

import asyncio
import time

import httpx
import structlog

from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementFeed
from bot.venue.stream import Stream, Timing
from tests.wire.conftest import LIMIT_S, StartPaper, until

LENGTH_MS = 2_000  # of the average of a window of 10 s


def boot_ms() -> int:
    """CLOCK_BOOTTIME in ms."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def now_ms() -> int:
    """UTC ms."""
    return time.time_ns() // 1_000_000


async def test_the_average_is_the_exchanges_own_and_unknown_while_the_stream_stalls(start_paper: StartPaper) -> None:
    """What the bot computes is what paper settles by. Frozen or dropped, nothing is known until it is back."""
    paper = start_paper(seed=5, timeframes="10s")
    prices = Prices(("BTC",))
    feed = SettlementFeed(
        Stream(
            "settlement_stream",
            f"{paper.ws_url}/rtds",
            timing=Timing(ping_s=0.2, stale_after_s=2.5, first_wait_s=0.05),
            random=lambda: 0.5,
            log=structlog.get_logger(),
        ),
        ("BTC",),
        on_price=prices.settle,
        now_ms=now_ms,
        boot_ms=boot_ms,
    )
    start_ms = (now_ms() + 9_999 + LENGTH_MS) // 10_000 * 10_000 - 10_000
    end_ms = start_ms + 10_000
    to_boot_ms = boot_ms() - now_ms()

    def unknown(from_ms: int, to_ms: int) -> bool:
        return prices.average("BTC", from_ms, to_ms, to_boot_ms)[1] is None

    client = httpx.AsyncClient(base_url=paper.url, timeout=LIMIT_S, verify=False)  # made once: it costs much
    task = asyncio.create_task(feed.run())
    try:

        async def ended() -> bool:
            return prices.average("BTC", end_ms - LENGTH_MS, end_ms)[0] == LENGTH_MS / 1000

        await until(ended)
        ours = prices.average("BTC", end_ms - LENGTH_MS, end_ms)[1]
        assert ours is not None
        assert feed.stream.is_live
        assert (feed.stream.connects, feed.stream.gaps, feed.stream.parse_errors) == (1, 0, 0)

        paper.fault(kind="freeze_streams", path="/rtds", seconds=6)
        frozen_ms = now_ms()

        async def stalled() -> bool:
            return feed.stream.gaps == 1 and unknown(frozen_ms - 2_000, now_ms())

        await until(stalled)

        async def back() -> bool:
            return feed.stream.is_live and not unknown(now_ms() - 1_500, now_ms())

        await until(back)
        assert feed.stream.connects > 1
        paper.fault(kind="drop_streams", path="/rtds")

        async def broke() -> bool:
            return feed.stream.gaps == 2

        await until(broke)
        await until(back)

        async def final() -> float | None:
            event = (await client.get(f"/events/slug/btc-updown-10s-{start_ms // 1000}")).json()
            found = event["eventMetadata"].get("finalPrice")
            return None if found is None else float(found)

        theirs = await until(final)
        assert abs(ours - theirs) / theirs < 2e-4, "two prices of the twenty that paper takes"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
