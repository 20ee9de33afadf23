"""What the trading benches stand on: a World with real streams, ledger and orders channel, and a venue whose reading is made up.

The far end (prices over a WebSocket, orders over HTTP) is a process of its own, so that it is not measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bot.context import Context
from bot.market_data.basis import BasisState
from bot.market_data.binance import LEAD_TIMING, BinanceFeed
from bot.market_data.binance_messages import stream_url, symbol
from bot.market_data.books import Books
from bot.market_data.debounce import Dispatch, PriceTrigger
from bot.market_data.history import Kline
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.settings import BotSettings
from bot.slots import Slot, parse_slug
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.venue.account_watch import AccountWatch
from bot.venue.polymarket import Credentials, Hosts, PolymarketVenue
from bot.venue.stream import Stream
from bot.venue.types import BASE_UNITS, Account, Book, Holding, Level, Market, UserEvent, VenueOrder
from bus import Bus, Logging, SystemClock
from ledger import Identity
from ledger.values import VenueTrade

STRIKE = 60_000.0
SIGNAL_PRICE = STRIKE * 1.02
REFUSAL = json.dumps(
    {
        "error": "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
    }
).encode()
ANSWER = (
    f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(REFUSAL)}\r\n\r\n".encode()
    + REFUSAL
)


class BenchVenue(PolymarketVenue):
    """Signs and sends as always; what it reads is made up: cheap offers of Up, no orders, no trades."""

    async def server_time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def account(self) -> Account:
        return Account(self.wallet, 10**12, 10**12)

    async def market(self, slug: str) -> Market | None:
        return make_market(slug)

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        return {token_id: make_book(token_id) for token_id in token_ids}

    async def order(self, _order_id: str) -> VenueOrder | None:
        return None

    async def open_orders(self) -> list[VenueOrder]:
        return []

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:  # noqa: ARG002
        return []

    async def follow_user(self, on_open: Callable[[], None], _on_event: Callable[[UserEvent], None]) -> None:
        on_open()
        await asyncio.Event().wait()

    async def refresh_balance(self, _token_id: str) -> None: ...

    async def holdings(self) -> list[Holding]:
        return []

    async def shares(self, _token_id: str) -> int:
        return 0

    async def heartbeat(self, _previous_id: str, *, recover: bool = True) -> str:  # noqa: ARG002
        return ""


def make_market(slug: str) -> Market:
    """A market of that slug; its tokens follow from it."""
    number = int.from_bytes(slug.encode()[-24:], "big") | 1 << 250
    return Market(
        slug=slug,
        condition_id=f"0x{number:064x}",
        up_token=str(number * 2),
        down_token=str(number * 2 + 1),
        tick=Decimal("0.01"),
        min_size=5 * BASE_UNITS,
        fee_rate=Decimal("0.07"),
        fee_exponent=1,
        neg_risk=False,
        accepting=True,
        closed=False,
        strike=Decimal(STRIKE),
        winner=None,
    )


def make_book(token_id: str) -> Book:
    """Ten levels a side around 0.50."""
    asks = tuple(Level(Decimal(52 + n) / 100, 100 * BASE_UNITS) for n in range(10))
    bids = tuple(Level(Decimal(48 - n) / 100, 100 * BASE_UNITS) for n in range(10))
    return Book(token_id, bids, asks, time.time_ns() // 1_000_000)


def make_world(
    bus: Bus, settings: BotSettings, slots: tuple[Slot, ...], venue: PolymarketVenue, ws_url: str, logging: Logging
) -> tuple[Context, Dispatch]:
    """A world whose prices have a past of five minutes."""
    clock, log = SystemClock(), logging.log
    account = AccountWatch(venue, clock, log)
    prices = Prices(settings.assets)
    source, now_s = random.Random(1), clock.boot_ms() // 1000
    for asset in settings.assets:
        past = [Kline((now_s - 300 + n) * 1000, STRIKE * (1 + source.gauss(0, 2e-5))) for n in range(300)]
        prices.seed({asset: past}, 0)
    now_ms = clock.wall_ms()
    prices.inherit_basis({asset: BasisState(0.0, 600.0, now_ms) for asset in settings.assets}, now_ms)
    markets = Markets(venue, slots, account.now_ms, log)
    routes = Dispatch(prices, markets, Books(clock.boot_ms), PriceTrigger())
    feed = BinanceFeed(
        Stream("feed", stream_url(ws_url, settings.assets), timing=LEAD_TIMING, random=random.random, log=log),
        settings.assets,
        on_update=routes.price,
        boot_ms=clock.boot_ms,
        log=log,
        after_updates=routes.news.flush,
    )
    world = Context(
        settings,
        Identity("paper", "137", venue.wallet),
        bus,
        clock,
        log,
        slots,
        venue,
        feed,
        prices,
        markets,
        account,
        load_strategy(DEFAULT_STRATEGY),
        routes.books,
        routes.news,
    )
    return world, routes


def show_settlement(world: Context) -> None:
    """Settlement prices where the lead stands: no basis."""
    wall_ms, boot_ms = world.now_ms(), world.clock.boot_ms()
    for asset in world.settings.assets:
        price = world.prices.newest(asset)
        if price is not None:
            world.prices.settle(SettlementPrice(asset, price, wall_ms, boot_ms, boot_ms))


def make_venue(http_url: str, log: Any) -> BenchVenue:
    """A venue that sends to this address."""
    return BenchVenue(
        hosts=Hosts(http_url, http_url),
        private_key="42" * 32,
        credentials=Credentials("owner", "c2VjcmV0", "pass"),
        log=log,
    )


def show_books(routes: Dispatch, slots: Iterable[Slot], now_ms: int) -> None:
    """Bring the books of all slots as the stream would."""
    for window in {slot.window(now_ms) for slot in slots}:
        market = make_market(window.slug)
        for token_id in (market.up_token, market.down_token):
            routes.books.take(replace(make_book(token_id)))
        assert parse_slug(window.slug) == window


# --- the far end


class FarEnd:
    """The process at the other end: prices out, orders in. Use as a context."""

    def __init__(self, assets: tuple[str, ...], signal_every_s: float, quotes_per_s: float = 0.0) -> None:
        """quotes_per_s: prices that signal nothing, of all assets together, at random moments beside the signals."""
        ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_far_end, args=(theirs, assets, signal_every_s, quotes_per_s), daemon=True
        )
        self._process.start()
        self.ws_url, self.http_url = ours.recv()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.join(10)


def _far_end(pipe: Connection, assets: tuple[str, ...], signal_every_s: float, quotes_per_s: float) -> None:
    asyncio.run(_serve(pipe, assets, signal_every_s, quotes_per_s))


async def _serve(pipe: Connection, assets: tuple[str, ...], signal_every_s: float, quotes_per_s: float) -> None:
    numbers = itertools.count(1)

    async def prices(socket: ServerConnection) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(signal(socket))
                if quotes_per_s:
                    both.create_task(flicker(socket))
        except* ConnectionClosed:
            pass  # whoever listened has ended

    async def quote(socket: ServerConnection, asset: str, price: float) -> None:
        text = f"{price:.2f}"
        data = {"u": next(numbers), "s": symbol(asset), "b": text, "B": "1.0", "a": text, "A": "1.0"}
        await socket.send(json.dumps({"stream": f"{symbol(asset).lower()}@bookTicker", "data": data}))

    async def signal(socket: ServerConnection) -> None:
        source = random.Random(2)
        while True:
            for asset in assets:
                # A signal, and soon the quiet price again, so that no poll finds what a price should have.
                for price in (SIGNAL_PRICE, STRIKE * (1 - 1e-6)):
                    await quote(socket, asset, price)
                    await asyncio.sleep(0.012)
                await asyncio.sleep(signal_every_s * source.uniform(0.5, 1.5))

    async def flicker(socket: ServerConnection) -> None:
        source = random.Random(3)
        while True:
            await asyncio.sleep(source.expovariate(quotes_per_s))
            await quote(socket, source.choice(assets), STRIKE * (1 - 1e-6 * source.random()))

    async def orders(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(row.split(b":")[1])
                        for row in head.lower().split(b"\r\n")
                        if row.startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1795465796")
                else:
                    writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with serve(prices, "127.0.0.1", 0, compression=None) as sockets:
        server = await asyncio.start_server(orders, "127.0.0.1", 0)
        ws_port = next(iter(sockets.sockets)).getsockname()[1]
        http_port = server.sockets[0].getsockname()[1]
        pipe.send((f"ws://127.0.0.1:{ws_port}", f"http://127.0.0.1:{http_port}"))
        await asyncio.Event().wait()


def percentiles(values: list[float]) -> str:
    """Of ms: p50, p99, max and how many."""
    if not values:
        return "nothing measured"
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"p50 {at[0]:7.3f}  p99 {at[1]:7.3f}  max {ordered[-1]:7.3f} ms  (n {len(ordered)})"
