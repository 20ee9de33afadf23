"""Whatever the venues send, nothing escapes the decoding boundary: seeded mutations of recorded shapes, then real streams."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
import structlog
from websockets.asyncio.server import ServerConnection, serve

from bot.market_data.binance import BinanceFeed
from bot.market_data.binance_messages import PriceUpdate, stream_url
from bot.market_data.market_channel import BOOKS_TIMING, BookEvent, MarketChannel
from bot.market_data.rtds import SETTLEMENT_TIMING, SettlementFeed, SettlementPrice
from bot.venue.decoding import Skips
from bot.venue.polymarket import Credentials, reading
from bot.venue.polymarket.streams import follow_user
from bot.venue.stream import Stream, Timing
from bot.venue.types import Book, UserEvent, VenueError
from proof.frames.__main__ import fuzz
from proof.frames.corpus import START_S, UP, Frame, written
from proof.frames.mutate import mutate
from tests import patience

LIMIT_S = 60
LOG = structlog.get_logger()
PRICE_MS = START_S * 1000


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames_are_values_or_skips_and_leave_nothing_behind(seed: int) -> None:
    """Each is read, decided upon and written down, or it is one odd thing that is counted; proof.frames takes 100,000."""
    found = fuzz(written(), 3_000, seed)
    assert found.escapes == []
    assert found.growth == []
    assert found.odd > 500, "the mutations are odd ones"
    assert found.skipped > 200, "and cost often only a part"
    assert set(found.seen) == {door for door, _ in written()}


def test_a_boundary_with_a_hole_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bounds on numbers, and without a word for what is no object, the same frames do escape."""

    def unbounded(value: Any, *_: Any) -> Decimal:
        return Decimal(str(value))

    monkeypatch.setattr(reading, "as_decimal", unbounded)
    assert fuzz(written(), 600, 1).escapes


# --- the streams themselves, over sockets


def frames_of(door: str, seed: int, count: int = 300) -> list[bytes]:
    """Mutated frames of one door."""
    rng = random.Random(seed)
    good = [frame for name, frame in written() if name == door]
    return [mutate(rng.choice(good), rng) for _ in range(count)]


def first(door: str) -> Any:
    """The first good frame of a door, to be changed."""
    return json.loads(next(frame for name, frame in written() if name == door))


class Sending:
    """A server that sends what it was given to whoever subscribes, as text frames and as binary ones, then a good frame."""

    def __init__(self, frames: list[bytes], good: Frame) -> None:
        self.connections = 0
        self._frames, self._good = frames, good[1]

    async def __call__(self, connection: ServerConnection) -> None:
        self.connections += 1
        for number, frame in enumerate(self._frames):
            await connection.send(frame, text=number % 2 == 0)
        await connection.send(self._good, text=True)
        with suppress(Exception):
            async for message in connection:
                if message in ("PING", "ping"):
                    await connection.send("PONG")


@asynccontextmanager
async def sending(frames: list[bytes], good: Frame) -> AsyncIterator[tuple[str, Sending]]:
    """The server, and its address."""
    handler = Sending(frames, good)
    async with serve(handler, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", handler


async def until_set(event: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Run a client until the good frame arrived. An exception of the client is the test's."""
    task = asyncio.ensure_future(work())
    waiting = asyncio.ensure_future(event.wait())
    try:
        async with patience.timeout(LIMIT_S):
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert event.is_set(), task.result() if task.done() else "the good frame never came"
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def test_the_market_channel_outlives_odd_frames() -> None:
    """One connection takes them all, and the book that follows arrives."""
    came, skips = asyncio.Event(), Skips()
    good = first("market")[0] | {"timestamp": str(PRICE_MS + 77)}

    def take(event: BookEvent) -> None:
        if isinstance(event, Book) and event.at_ms == PRICE_MS + 77:
            came.set()

    async with sending(frames_of("market", 1), ("market", json.dumps(good).encode())) as (url, server):
        channel = MarketChannel(
            Stream("market_channel", url, timing=BOOKS_TIMING, random=lambda: 0.0, log=LOG),
            wanted=lambda: [UP],
            on_event=take,
            on_lost=lambda: None,
            skips=skips,
        )
        await until_set(came, channel.run)
        assert server.connections == 1
    assert skips.counts


async def test_the_user_channel_outlives_odd_frames() -> None:
    """The event that follows is told."""
    came, skips = asyncio.Event(), Skips()
    good = first("user") | {"id": "the-last"}

    def take(event: UserEvent) -> None:
        if event.order_ids == ("the-last",):
            came.set()

    async with sending(frames_of("user", 2), ("user", json.dumps(good).encode())) as (url, server):

        async def follow() -> None:
            with suppress(VenueError):
                await follow_user(url, Credentials("k", "c2VjcmV0", "p"), lambda: None, take, skips)

        await until_set(came, follow)
        assert server.connections == 1
    assert skips.counts


async def test_the_settlement_stream_outlives_odd_frames() -> None:
    """The price that follows is taken."""
    came, skips = asyncio.Event(), Skips()
    good = first("rtds")
    good["payload"] |= {"timestamp": PRICE_MS + 5, "value": 60_000.5}

    def take(price: SettlementPrice) -> None:
        if price.price == 60_000.5:
            came.set()

    async with sending(frames_of("rtds", 3), ("rtds", json.dumps(good).encode())) as (url, server):
        feed = SettlementFeed(
            Stream("settlement_stream", url, timing=SETTLEMENT_TIMING, random=lambda: 0.0, log=LOG),
            ("BTC",),
            on_price=take,
            now_ms=lambda: PRICE_MS,
            boot_ms=lambda: 0,
            skips=skips,
        )
        await until_set(came, feed.run)
        assert server.connections == 1
    assert skips.counts


async def test_the_price_stream_outlives_odd_frames() -> None:
    """Also a number far ahead, which would hold back every price after it: they are taken again once it is stale."""
    came, skips = asyncio.Event(), Skips()
    now = 1_000
    good = first("binance")
    far = json.dumps(good | {"data": good["data"] | {"u": 10**18}}).encode()
    last = json.dumps(good | {"data": good["data"] | {"u": 5, "b": "70000", "a": "70000"}}).encode()

    def boot_ms() -> int:
        nonlocal now
        now += 2_000  # each message comes 2 s later
        return now

    def take(update: PriceUpdate) -> None:
        if update.price == 70_000:
            came.set()

    long = b'{"data": "' + b"x" * 1_000_000 + b'"}'
    async with sending([*frames_of("binance", 4), long, far, *[last] * 60], ("binance", last)) as (url, server):
        feed = BinanceFeed(
            Stream(
                "feed",
                stream_url(url, ("BTC",)),
                timing=Timing(connect_s=LIMIT_S, stale_after_s=LIMIT_S / 2),
                random=lambda: 0.0,
                log=LOG,
            ),
            ("BTC",),
            on_update=take,
            boot_ms=boot_ms,
            log=LOG,
            skips=skips,
        )
        await until_set(came, feed.run)
        assert server.connections == 1
    assert skips.counts
