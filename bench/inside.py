"""Paper inside the process: the whole exchange without its wire, and the bot's venue adapter on top of it.

The adapter signs with the real signer, and what it reads and sends passes through paper's own JSON and the adapter's own
reading of it; only HTTP, authentication and rate limits are left out. Each request takes a time each way, drawn by seed.
An order that is on its way goes on when its sender is cut, as bytes in a network do.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from bot.context import Context
from bot.market_data.binance import LEAD_TIMING, BinanceFeed
from bot.market_data.books import Books
from bot.market_data.debounce import Dispatch, PriceTrigger
from bot.market_data.history import Kline
from bot.market_data.market_channel import TickChange
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.settings import BotSettings
from bot.slots import make_slots
from bot.strategy.guard import GuardedStrategy
from bot.venue.account_watch import AccountWatch
from bot.venue.pace import RequestPace
from bot.venue.polymarket import Credentials, Hosts, PolymarketVenue, account_reading, reading
from bot.venue.polymarket.answers import classify
from bot.venue.polymarket.streams import user_events
from bot.venue.stream import Stream
from bot.venue.types import (
    BASE_UNITS,
    Account,
    Answer,
    Book,
    HeartbeatMismatchError,
    Holding,
    Level,
    Market,
    Refused,
    UserEvent,
    VenueOrder,
)
from bus import Bus, Clock, Log
from ledger import Identity
from ledger.values import Side, VenueTrade
from paper.engine.book import Book as EngineBook
from paper.engine.exchange import Exchange
from paper.engine.feed import Feed, Tape
from paper.engine.keys import ApiKey
from paper.engine.market_maker import MarketMaker
from paper.engine.markets import Market as PaperMarket
from paper.engine.matching import CASH, Engine, Placement
from paper.engine.offers import read_offer
from paper.engine.record import Record
from paper.errors import RefusedError
from paper.streams.sockets import Listener
from paper.wire import control as report
from paper.wire.clob import _clob_market
from paper.wire.forms import by_match, open_order_json, trade_json
from paper.wire.gamma import _event
from tests.plain import plain_settings

KEY = "42" * 32
OWNER = "inside"
LEVELS = 5
PAGE = 10_000
AT_LEAST_S, AT_MOST_S = 0.005, 0.06

T = TypeVar("T")


class SparseTraders(MarketMaker):
    """The house, quoting only markets that somebody looks at, every `every_ms`."""

    def __init__(self, rng: random.Random, every_ms: int) -> None:
        super().__init__(rng)
        self._every_ms = every_ms
        self.wanted: set[str] = set()

    def is_due(self, market: PaperMarket, now_ms: int) -> bool:
        return market.window.condition_id in self.wanted and super().is_due(market, now_ms)

    def trade(
        self, engine: Engine, market: PaperMarket, feed: Feed, averaged: float | None, now_ms: int
    ) -> list[Placement]:
        placements = super().trade(engine, market, feed, averaged, now_ms)
        self._due_ms[market.window.condition_id] += self._every_ms - 1_000
        return placements


class Paper:
    """The exchange, moved by `tick`; prices and quotes as coarse as told, since a day has many seconds.

    Args:
        step_ms: between two prices, a multiple of 100.
        quote_ms: between two quotes of a market.
        clock: UTC ms.
        more: of its settings.
    """

    def __init__(
        self,
        folder: Path,
        tapes: dict[str, Tape],
        seed: int,
        step_ms: int,
        quote_ms: int,
        clock: Callable[[], int],
        **more: Any,
    ) -> None:
        given: dict[str, Any] = {
            "seed": seed,
            **more,
            "tape_at": datetime.fromtimestamp(clock() / 1000, tz=UTC),
            "data": folder,
        }
        settings = plain_settings(**given)
        self.record = Record(folder)
        self.record._writer.execute("PRAGMA synchronous = OFF")
        self.exchange = Exchange(settings, self.record, tapes, clock)
        self.clock = clock
        feed = self.exchange.feed
        fine, self._step_ms = feed._grid, step_ms

        def grid(until_ms: int) -> list[int]:
            if until_ms - feed.time_ms > 60_000:
                return fine(until_ms)
            return list(range(feed.time_ms + step_ms, until_ms + 1, step_ms))

        feed._grid = grid  # type: ignore[method-assign]  # as bot.tools.replay's CoarseFeed
        self.house = self.exchange._traders = SparseTraders(random.Random(seed), quote_ms)
        self.exchange.list_windows = lambda now: None  # type: ignore[method-assign]  # noqa: ARG005  # nobody is told of them here
        self._ticks: dict[str, int] = {}
        self._shown: set[str] = set()
        self.exchange.start()

    async def tick(self, routes: list[Dispatch], tokens: list[str]) -> None:
        """Move prices, markets and quotes, make it durable, and tell of the books that changed."""
        exchange, now = self.exchange, self.clock()
        markets = {
            market.window.condition_id: market
            for token in tokens
            if (market := exchange.markets.of_token(token, now)) is not None and market.winner is None
        }
        self.house.wanted = set(markets)
        exchange.tick()
        await self.record.durable()
        for condition in markets:
            book = exchange.engine.books.get(condition)
            if book is None:
                continue
            changed = bool(list(book.take_changes()))
            for outcome, token in enumerate(book.token_ids):
                for route in routes:
                    if changed or token not in route.books:
                        route.event(shown_book(book, token, outcome, now))
                    if self._ticks.get(condition, book.tick) != book.tick:
                        route.event(TickChange(token, _price(book.tick)))
            self._ticks[condition] = book.tick
        for condition in [key for key in self._ticks if key not in markets]:
            del self._ticks[condition]

    def close(self) -> None:
        """Write and close the record."""
        self.record.close()


class InsideVenue(PolymarketVenue):
    """The adapter without its wire. seed: of how long requests take."""

    def __init__(self, paper: Paper, log: Log, seed: int) -> None:
        super().__init__(
            hosts=Hosts("http://127.0.0.1:9", "http://127.0.0.1:9"),
            private_key=KEY,
            credentials=Credentials(OWNER, "c2VjcmV0", "pass"),
            log=log,
        )
        self._paper, self._exchange, self._random = paper, paper.exchange, random.Random(seed)
        self._key = ApiKey(OWNER, self.wallet, 0, "", "")
        self._fee = reading.FeeSchedule(r=Decimal("0.07"), e=1)
        self._is_open = False
        self._on_the_way: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def open_orders_channel(self) -> None:
        self._is_open = True

    async def close_orders_channel(self) -> None:
        self._is_open = False

    async def server_time_ms(self) -> int:
        return await self._ask(lambda: reading.time_ms(self._exchange.shown_ms() // 1000))

    async def account(self) -> Account:
        def read() -> Account:
            wallet = self._exchange.accounts.wallet_of(self.wallet, 0, self._paper.clock())
            return Account(wallet, self._exchange.engine.balance(wallet, CASH), 2**63 - 1)

        return await self._ask(read)

    async def shares(self, token_id: str) -> int:
        return await self._ask(lambda: self._exchange.engine.balance(self.wallet, token_id))

    async def refresh_balance(self, token_id: str) -> None: ...

    async def holdings(self) -> list[Holding]:
        return []  # as paper's 404

    async def market(self, slug: str) -> Market | None:
        def read() -> Market | None:
            found = self._exchange.market_by_slug(slug)
            if found is None:
                return None
            window = reading.gamma_window(slug, _event(self._exchange, found))
            if window is None:
                return None
            condition = found.window.condition_id
            clob = json.loads(json.dumps(_clob_market(self._exchange, found)))
            return reading.market(window, reading.clob_market(condition, clob))

        return await self._ask(read)

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        def read() -> dict[str, Book]:
            now, found = self._paper.clock(), {}
            for token in token_ids:
                market = self._exchange.markets.of_token(token, now)
                if market is not None:
                    outcome = market.window.token_ids.index(token)
                    found[token] = shown_book(self._exchange.book(market), token, outcome, now)
            return found

        return await self._ask(read)

    def begin(self, body: str) -> None:
        """Nothing leaves at once here: every request takes its time."""

    async def send(self, body: str) -> Answer:
        if not self._is_open:
            return Refused("the orders channel is closed, nothing was sent", "not_sent")
        way = asyncio.create_task(self._travel(body), name="on-the-way")
        self._on_the_way.add(way)
        way.add_done_callback(self._on_the_way.discard)
        return await asyncio.shield(way)

    async def order(self, order_id: str) -> VenueOrder | None:
        await self._ask(lambda: None)
        await self._paper.record.durable()
        rows = self._paper.record.query_dicts(
            "SELECT * FROM orders WHERE order_id = ? AND owner = ? AND status = 'LIVE'", [order_id, self.wallet]
        )
        return account_reading.order(open_order_json(rows[0])) if rows else None

    async def open_orders(self) -> list[VenueOrder]:
        await self._ask(lambda: None)
        await self._paper.record.durable()
        rows = self._paper.record.query_dicts(
            "SELECT * FROM orders WHERE status = 'LIVE' AND owner = ? ORDER BY seq", [self.wallet]
        )
        return [account_reading.order(open_order_json(row)) for row in rows]

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:
        await self._ask(lambda: None)
        await self._paper.record.durable()
        where, values = "(taker_owner = ? OR maker_owner = ?)", [self.wallet, self.wallet]
        if condition_id is not None:
            where, values = f"{where} AND condition_id = ?", [*values, condition_id]
        if after_ms is not None:
            where, values = f"{where} AND time_ms >= CAST(? AS INTEGER) * 1000", [*values, str(after_ms // 1000)]
        sql = f"SELECT * FROM trades WHERE match_id IN (SELECT match_id FROM trades WHERE {where}) ORDER BY seq"
        rows = self._paper.record.query_dicts(sql, values)
        now = self._paper.clock()
        found = [
            trade_row
            for trade in by_match(rows)
            for trade_row in account_reading.trades(trade_json(trade, self.wallet, now), self.wallet, OWNER, self._fee)
        ]
        return sorted(found, key=lambda row: (row.at_ms, row.trade_id, row.order_id))

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        await self._ask(lambda: None)
        beats, now = self._exchange.heartbeats, self._paper.clock()
        try:
            return beats.beat(OWNER, previous_id, now)
        except RefusedError as error:
            if not recover:
                raise HeartbeatMismatchError(f"heartbeat: sent {previous_id!r}: {error.extra}") from error
            return beats.beat(OWNER, str(error.extra["heartbeat_id"]), now)

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        def write(frames: list[bytes]) -> None:
            for frame in frames:
                for event in user_events(text_of(frame)):
                    on_event(event)

        listener = Listener(write)
        topic = f"user:{self.wallet}"
        self._exchange.hub.subscribe(listener, topic)
        try:
            on_open()
            await asyncio.Event().wait()
        finally:
            self._exchange.hub.leave(listener)

    async def _travel(self, body: str) -> Answer:
        await asyncio.sleep(self._way_s())
        payload = json.loads(body)
        status = 200
        try:
            answer = await self._exchange.orders.post(self._key, read_offer(payload))
        except RefusedError as error:
            status, answer = error.status, error.body
        await self._paper.record.durable()
        await asyncio.sleep(self._way_s())
        return classify(status, json.dumps(answer), Side(payload["order"]["side"]))

    async def _ask(self, read: Callable[[], T]) -> T:
        await asyncio.sleep(self._way_s())
        answer = read()
        await asyncio.sleep(self._way_s())
        return answer

    def _way_s(self) -> float:
        return self._random.uniform(AT_LEAST_S, AT_MOST_S)


def make_world(
    paper: Paper,
    bus: Bus,
    clock: Clock,
    log: Log,
    settings: BotSettings,
    venue: InsideVenue,
    strategy: GuardedStrategy,
    rng: random.Random,
) -> tuple[Context, Dispatch]:
    """An instance's parts as `bot.lifecycle.app` puts them together, with nothing started, and where its streams go."""
    slots = make_slots(settings.assets, settings.timeframes)
    account = AccountWatch(venue, clock, log)
    prices = Prices(settings.assets, basis_after_s=settings.basis_after)
    pace = RequestPace(clock.boot_ms, settings.requests_per_second)
    markets = Markets(venue, slots, account.now_ms, log, pace)
    routes = Dispatch(prices, markets, Books(clock.boot_ms), PriceTrigger())
    feed = BinanceFeed(
        Stream("feed", "ws://127.0.0.1:9", timing=LEAD_TIMING, random=rng.random, log=log),
        settings.assets,
        on_update=routes.price,
        boot_ms=clock.boot_ms,
        log=log,
    )
    world = Context(
        settings, Identity("paper", "137", venue.wallet), bus, clock, log, slots, venue, feed, prices, markets,
        account, strategy, routes.books, routes.news, pace=pace,
    )  # fmt: skip
    past = {
        asset: [Kline(candle.start_ms, candle.close) for candle in list(history.seconds.items)[-300:]]
        for asset, history in paper.exchange.feed.history.items()
        if asset in settings.assets
    }
    prices.seed(past, clock.boot_ms() - clock.wall_ms())
    return world, routes


def settle(prices: Prices, settlement: Mapping[str, float], clock: Clock) -> None:
    """Settlement prices of now, as the stream brings them: once a second, and at once."""
    wall_ms, boot_ms = clock.wall_ms(), clock.boot_ms()
    for asset, price in settlement.items():
        if asset in prices:
            prices.settle(SettlementPrice(asset, price, wall_ms // 1_000 * 1_000, boot_ms, boot_ms - wall_ms % 1_000))


def dump(paper: Paper, path: Path) -> Path:
    """Paper's record as `python -m paper record` prints it."""
    after: int | None = 0
    with path.open("w") as file:
        while after is not None:
            page = report.read_record(paper.record, after, PAGE, paper.clock())
            for kind in ("order", "trade"):
                for row in page.body[f"{kind}s"]:  # type: ignore[attr-defined]  # a list of rows
                    file.write(json.dumps({"kind": kind, **row}) + "\n")
            after = page.next
    return path


def shown_book(book: EngineBook, token: str, outcome: int, now_ms: int) -> Book:
    """The best levels of one token, as the market channel's reader gives them."""
    bids, asks = book.levels(outcome)
    return Book(token, _levels(bids), _levels(asks), now_ms)


def _levels(levels: Any) -> tuple[Level, ...]:
    return tuple(Level(_price(price), size) for price, size in levels[:LEVELS])


def _price(units: int) -> Decimal:
    return (Decimal(units) / BASE_UNITS).normalize()


def text_of(frame: bytes) -> str:
    """The message of an unmasked text frame."""
    length = frame[1]
    return frame[2 if length < 126 else 4 if length == 126 else 10 :].decode()
