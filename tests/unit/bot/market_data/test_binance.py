"""The stream over real sockets: it reconnects, overlaps planned replacements, and trusts data alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from bot.market_data.binance import BinanceFeed
from bot.market_data.binance_messages import PriceUpdate, stream_url
from bot.venue.stream import Stream, Timing

LIMIT_S = 20
Handler = Callable[[ServerConnection, int], Awaitable[None]]


def ticker(number: int, asset: str = "BTC") -> str:
    """A book ticker whose price is its number."""
    data = {"u": number, "s": f"{asset}USDT", "b": str(float(number)), "B": "1", "a": str(float(number)), "A": "1"}
    return json.dumps({"stream": f"{asset.lower()}usdt@bookTicker", "data": data})


class Exchange:
    """A stream server: `handler` gets each connection and its running number."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.paths: list[str] = []
        self.open = 0
        self.server: Server | None = None

    async def serve(self, port: int = 0) -> int:
        self.server = await serve(self._connection, "127.0.0.1", port)
        return int(next(iter(self.server.sockets)).getsockname()[1])

    async def _connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        self.open += 1
        try:
            with contextlib.suppress(ConnectionClosed):
                await self.handler(connection, len(self.paths))
        finally:
            self.open -= 1


class Reader:
    """A running feed and what it delivered."""

    def __init__(self, port: int, timing: Timing, assets: tuple[str, ...] = ("BTC",)) -> None:
        self.updates: list[PriceUpdate] = []
        self.feed = BinanceFeed(
            Stream(
                "feed",
                stream_url(f"ws://127.0.0.1:{port}", assets),
                timing=timing,
                random=lambda: 0.5,
                log=structlog.get_logger(),
            ),
            assets,
            on_update=self.updates.append,
            boot_ms=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,
            log=structlog.get_logger(),
        )

    @property
    def numbers(self) -> list[int]:
        return [int(update.price) for update in self.updates]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that spans feed and server, which no single event tells."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110  # See above.
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(exchange: Exchange, timing: Timing, **fields: tuple[str, ...]) -> AsyncIterator[Reader]:
    """A feed that reads this exchange."""
    port = await exchange.serve()
    reader = Reader(port, timing, **fields)
    task = asyncio.create_task(reader.feed.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert exchange.server is not None
        exchange.server.close()
        await exchange.server.wait_closed()


def quick(**changes: float) -> Timing:
    """Times for tests; nothing but a named change ends a connection."""
    return Timing(
        **{
            "connect_s": 2,
            "stale_after_s": 10,
            "lifetime_s": 60,
            "first_wait_s": 0.02,
            "longest_wait_s": 0.1,
            **changes,
        }
    )


async def hold(connection: ServerConnection) -> None:
    """Keep a connection until the other side ends it."""
    await connection.wait_closed()


class Ticking:
    """Sends every number to every open connection at the same moment, as Binance does."""

    def __init__(self) -> None:
        self.connections: set[ServerConnection] = set()
        self.sent = 0

    async def __call__(self, connection: ServerConnection, _count: int) -> None:
        self.connections.add(connection)
        try:
            await hold(connection)
        finally:
            self.connections.discard(connection)

    async def tick(self, every_s: float = 0.002) -> None:
        while True:
            if self.connections:
                self.sent += 1
                for connection in list(self.connections):
                    with contextlib.suppress(ConnectionClosed):
                        await connection.send(ticker(self.sent))
            await asyncio.sleep(every_s)


@contextlib.asynccontextmanager
async def ticking(market: Ticking) -> AsyncIterator[None]:
    task = asyncio.create_task(market.tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lost_connection_is_replaced_at_once() -> None:
    """After the server closed a connection with data, the feed is back on the next one; one gap is counted."""

    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(ticker(count))
        if count > 1:
            await hold(connection)

    exchange = Exchange(handler)
    async with running(exchange, quick()) as reader:
        await reader.until(lambda: reader.numbers == [1, 2])
        state = reader.feed.state()
        assert (state.connected, state.connects, state.gaps) == (True, 2, 1)
        assert "ConnectionClosed" in state.last_error
        assert exchange.paths[0] == "/stream?streams=btcusdt@bookTicker/btcusdt@trade"


async def test_planned_replacement_loses_and_repeats_nothing() -> None:
    """Over many planned replacements every number arrives exactly once and in order, without a gap."""
    market = Ticking()
    exchange = Exchange(market)
    async with ticking(market), running(exchange, quick(lifetime_s=0.1)) as reader:
        await reader.until(lambda: reader.feed.state().connects >= 8 and exchange.open == 1)
        await reader.until(lambda: len(reader.numbers) > 100)
        numbers = reader.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert reader.feed.state().gaps == 0


async def test_an_announced_shutdown_is_forestalled() -> None:
    """On serverShutdown the next connection brings data before the old one ends."""
    market = Ticking()

    async def handler(connection: ServerConnection, count: int) -> None:
        if count == 1:
            await connection.send(json.dumps({"e": "serverShutdown", "E": 1}))
        await market(connection, count)

    async with ticking(market), running(Exchange(handler), quick()) as reader:
        await reader.until(lambda: reader.feed.state().connects == 2 and len(market.connections) == 1)
        await reader.until(lambda: len(reader.numbers) > 20)
        assert reader.feed.state().gaps == 0
        numbers = reader.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_frozen_stream_is_replaced_though_it_answers_pings() -> None:
    """A connection without data is replaced after the limit; that it is open and answers PING does not count."""

    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(ticker(count))
        await hold(connection)  # The server answers pings by itself, and sends nothing more.

    exchange = Exchange(handler)
    async with running(exchange, quick(stale_after_s=0.2)) as reader:
        await reader.until(lambda: reader.numbers[:3] == [1, 2, 3])
        assert reader.feed.state().gaps >= 2
        assert "no data for" in reader.feed.state().last_error


async def test_garbage_is_counted_and_never_fatal() -> None:
    """Messages that cannot be read are counted; the connection stays and the good ones arrive."""

    async def handler(connection: ServerConnection, count: int) -> None:
        for bad in (
            "",
            "{",
            "[1]",
            b"\xff\xfe",
            '{"data": {"u": 1, "s": "BTCUSDT", "b": "x", "a": "1"}}',
            "[" * 60_000,
        ):
            await connection.send(bad)
        await connection.send('{"result": null, "id": 1}')
        await connection.send(ticker(5))
        await hold(connection)

    async with running(Exchange(handler), quick()) as reader:
        await reader.until(lambda: reader.numbers == [5])
        state = reader.feed.state()
        assert (state.parse_errors, state.connects, state.gaps) == (6, 1, 0)


async def test_garbage_is_no_sign_of_life() -> None:
    """A connection that brings nothing but garbage is replaced like a silent one."""

    async def handler(connection: ServerConnection, count: int) -> None:
        while count == 1:
            await connection.send("garbage")
            await asyncio.sleep(0.01)
        await connection.send(ticker(count))
        await hold(connection)

    async with running(Exchange(handler), quick(stale_after_s=0.2)) as reader:
        await reader.until(lambda: 2 in reader.numbers)


async def test_an_old_connection_is_kept_while_a_new_one_brings_nothing() -> None:
    """A planned replacement that stays silent is given up, and the old connection's data goes on meanwhile."""
    market = Ticking()

    async def handler(connection: ServerConnection, count: int) -> None:
        await (hold(connection) if count in (2, 3) else market(connection, count))

    async with ticking(market), running(Exchange(handler), quick(lifetime_s=0.1, stale_after_s=0.2)) as reader:
        await reader.until(lambda: reader.feed.state().connects >= 4)
        await reader.until(lambda: len(reader.numbers) > 50)
        numbers = reader.numbers
        assert reader.feed.state().gaps == 0
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    """A refused connection is tried again until it works."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(ticker(count))
        await hold(connection)

    reader = Reader(port, quick())
    task = asyncio.create_task(reader.feed.run())
    await reader.until(lambda: reader.feed.state().last_error != "")
    assert reader.feed.state().connected is False
    exchange = Exchange(handler)
    await exchange.serve(port)
    await reader.until(lambda: reader.numbers == [1])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert exchange.server is not None
    exchange.server.close()


async def test_age_is_told_for_each_asset() -> None:
    """An asset without data has no age, though the connection lives by the other one."""

    async def handler(connection: ServerConnection, count: int) -> None:
        await connection.send(ticker(1, "ETH"))
        await hold(connection)

    async with running(Exchange(handler), quick(), assets=("BTC", "ETH")) as reader:
        await reader.until(lambda: reader.numbers == [1])
        ages = reader.feed.state().age_ms
        assert ages["BTC"] is None
        assert ages["ETH"] is not None
        assert 0 <= ages["ETH"] < LIMIT_S * 1000


async def test_what_one_read_brings_is_delivered_before_it_is_told() -> None:
    """Messages that come together, whole or in fragments, are all delivered; those of one read are told of once, behind them."""

    listening = asyncio.Event()

    async def together(connection: ServerConnection, count: int) -> None:
        await listening.wait()
        frames = (Frame(Opcode.TEXT, ticker(number).encode()).serialize(mask=False) for number in (1, 2, 3))
        connection.transport.write(b"".join(frames))
        text = ticker(4)
        await connection.send(iter((text[:20], text[20:])))
        await hold(connection)

    async with running(Exchange(together), quick()) as reader:
        told: list[list[int]] = []
        reader.feed._after_updates = lambda: told.append(reader.numbers)
        await reader.until(lambda: reader.feed.state().connects == 1)
        listening.set()
        await reader.until(lambda: len(reader.numbers) == 4)
        assert reader.numbers == [1, 2, 3, 4]
        assert told[0] == [1, 2, 3]


@pytest.mark.parametrize("fragments", [False, True])
async def test_a_bug_of_the_consumer_ends_the_feed_loudly(fragments: bool) -> None:
    """An exception of on_update is no network error: run() raises it, so that its guard sees it."""

    async def handler(connection: ServerConnection, count: int) -> None:
        while True:  # the first may come before the feed listens
            await connection.send(iter((ticker(1)[:9], ticker(1)[9:])) if fragments else ticker(1))
            await asyncio.sleep(0.01)

    exchange = Exchange(handler)
    reader = Reader(await exchange.serve(), quick())

    def broken(update: PriceUpdate) -> None:
        raise KeyError(update.asset)

    reader.feed._on_update = broken
    with pytest.raises(KeyError):
        await asyncio.wait_for(reader.feed.run(), LIMIT_S)
    assert exchange.server is not None
    exchange.server.close()


async def test_stopping_leaves_no_connection() -> None:
    """A cancelled feed has closed its sockets."""
    market = Ticking()
    exchange = Exchange(market)
    async with ticking(market), running(exchange, quick(lifetime_s=0.05)) as reader:
        await reader.until(lambda: reader.feed.state().connects >= 3)
    await reader.until(lambda: exchange.open == 0)
