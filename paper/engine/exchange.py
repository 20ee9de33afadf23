"""The exchange: joins engine, markets, prices and record, and runs them on a clock.

Everything happens on one event loop and in small synchronous steps, so the engine sees one call at a time. What a step
changes is buffered in the record in the same step; a request's answer waits until that is durable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from paper.engine.book import Book
from paper.engine.faults import Faults
from paper.engine.feed import TICK_MS, Feed, Tape, shift_ms
from paper.engine.funds import Accounts, Funds
from paper.engine.journal import Journal
from paper.engine.keys import Heartbeats, Keys, Limits
from paper.engine.market_maker import HOUSE, PURSES, MarketMaker
from paper.engine.markets import Market, Markets, windows_at
from paper.engine.matching import Engine
from paper.engine.orders import Orders
from paper.engine.record import PriceLog, Record
from paper.engine.relayer import Relayer
from paper.settings import Settings
from paper.streams.binance import BinanceStreams
from paper.streams.prices import PriceStreams
from paper.streams.sockets import Broadcaster
from paper.streams.venue import MarketStreams, UserStreams

__all__ = ["Exchange"]

_LISTED_AHEAD = 3
_HOUSE_MONEY = 10**15
_EACH_SECOND_MS = 1_000


class Exchange:
    """The whole exchange without its wire.

    Args:
        settings: how it behaves.
        record: its durable record.
        tapes: the tape of each asset that has one.
        clock: UTC ms.
    """

    def __init__(self, settings: Settings, record: Record, tapes: dict[str, Tape], clock: Callable[[], int]) -> None:
        self.settings = settings
        self.record = record
        self.clock = clock
        self.hub = Broadcaster()
        self.faults = Faults()
        self.engine = Engine(small_takers=settings.small_takers)
        self.limits = Limits(settings.rate_tier)
        self.keys = Keys(record, self.shown_ms)
        self.heartbeats = Heartbeats(record, settings.heartbeat_ms, clock())
        self.feed = self.make_feed(tapes)
        self.markets = self.make_markets()
        self.market_streams = MarketStreams(self.hub)
        self.price_streams = PriceStreams(self.hub, self.feed, clock, settings.stream_delay, settings.seed)
        self.binance_streams = BinanceStreams(self.hub, self.feed)
        journal = Journal(record, UserStreams(self.hub, settings.trade_form), clock, settings.settle_ms)
        self._journal = journal
        self.funds = Funds(settings, record, self.engine)
        self.accounts = Accounts(self.engine, journal, self.funds, settings.start_balance_units)
        self.orders = Orders(
            settings,
            self.engine,
            self.markets,
            self.accounts,
            self.funds,
            journal,
            self.market_streams,
            self.faults,
        )
        self.relayer = Relayer(record, self.engine, self.markets, self.accounts, self.funds, journal, clock)
        self.prices = PriceLog(record)
        self._traders = MarketMaker(random.Random(settings.seed))
        self._each_second_ms = 0

    @property
    def mirrors(self) -> str:
        """What it shows in the place of prices of its own making; "" for nothing."""
        return ""

    def make_feed(self, tapes: dict[str, Tape]) -> Feed:
        """Return where prices come from."""
        settings = self.settings
        shift = _tape_shift(settings, self.record, tapes, self.clock())
        return Feed(settings.seed, tapes, shift, basis_bp=settings.basis, basis_drift_bp=settings.basis_drift)

    def make_markets(self) -> Markets:
        """Return where markets come from."""
        return Markets(self.settings, self.record, self.feed.history, self.engine)

    def shown_ms(self) -> int:
        """The time that clients are shown and judged by, UTC ms: the clock's, unless a fault makes it wrong."""
        now = self.clock()
        fault = self.faults.active("wrong_clock", "/", now)
        return now + round(fault.offset_s * 1000) if fault is not None else now

    def start(self) -> None:
        """Bring balances, prices, markets and resting orders back from the record, and everything up to now."""
        for purse in PURSES:
            self.engine.deposit(purse, _HOUSE_MONEY, "house")
        self.accounts.restore(self.record)
        now = self.clock()
        self.prices.write(self.feed.begin(now, self.prices.read(now)))
        for market in self.markets.load_unresolved():
            self.markets.book(market)
        self.orders.restore()
        self.tick()

    async def run(self) -> None:
        """Move prices and markets every 100 ms until cancelled.

        Raises:
            RecordError: the record cannot be written.
        """
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self.tick()
            await self.record.durable()
            await asyncio.sleep(max(0.001, TICK_MS / 1000 - (loop.time() - started)))

    def tick(self) -> None:
        """Do everything that is due at the clock's time."""
        now = self.clock()
        ticks = self.feed.advance(now)
        self.prices.write(ticks)
        self.binance_streams.publish(ticks)
        self.price_streams.publish(ticks)
        self.orders.fail_trades(now)
        self.funds.mine(now)
        self.keep_house(now)
        for market in [*self.markets.by_condition.values()]:
            self.advance(market, now)

    def keep_house(self, now: int) -> None:
        """Once a second: new windows, silent keys, and what is long over."""
        if now >= self._each_second_ms:
            self._each_second_ms = now + _EACH_SECOND_MS
            self.list_windows(now)
            silent = self.heartbeats.silent(now)
            if silent:
                self.orders.cancel_keys(silent)
            self.markets.forget_old(now)

    def advance(self, market: Market, now: int) -> None:
        """Do what is due in one market."""
        window = market.window
        if market.winner is not None:
            return
        is_near = now >= window.start_ms - 2 * window.duration_ms
        if not is_near and window.condition_id not in self.engine.books:
            return  # nobody has traded it, and the house does not yet
        book = self.markets.book(market)
        if market.reference is None and now >= window.start_ms:
            self.markets.set_reference(market)
        if now < window.end_ms:
            market.note_middle(book, now)
            self.orders.end_all(book.expired(now), "CANCELED_EXPIRED_ORDER")
            if is_near and self.settings.house and self._traders.is_due(market, now):
                averaged = self.markets.averaged(market, now)
                for placement in self._traders.trade(self.engine, market, self.feed, averaged, now):
                    self.orders.placed(placement, market, "")
            old_tick = book.tick
            if self.markets.change_tick(market):
                self.market_streams.publish_tick(book, old_tick, now)
            self.market_streams.publish_changes(book, now)
            return
        if market.due_ms is None:
            self.orders.end_all(book.orders(), "CANCELED_MARKET_RESOLVED")
            market.due_ms = window.end_ms + self._resolution_ms(market, now)
        if market.reference is not None and now >= market.due_ms:
            self.resolve(market, book, now)

    def _resolution_ms(self, market: Market, now: int) -> int:
        """How long the resolution takes: the window's own draw, and what a fault adds."""
        settings = self.settings
        delay_s = settings.resolution_delay * (
            1 + settings.resolution_spread * market.window.draw("resolution", settings.seed)
        )
        fault = self.faults.strike(("late_resolution",), "", "/", now)
        return round((delay_s + (fault.delay_s if fault is not None else 0)) * 1000)

    def resolve(self, market: Market, book: Book, now: int) -> None:
        """Resolve a market whose books are empty, and pay."""
        self.orders.fail_trades(now, book.condition_id)
        self.markets.resolve(market, now)
        market.last_price, market.volume = book.last_price, book.volume
        paid = None if self.settings.redeem == "auto" else HOUSE
        self.funds.forget(book.token_ids)
        entries = self.engine.settle(book.condition_id, (market.payout(0), market.payout(1)), paid)
        self._journal.entries(entries, now)
        self.funds.arrived([entry for entry in entries if entry.wallet not in HOUSE], now)
        self._traders.forget(book.condition_id)
        self.record.after(lambda: self.market_streams.publish_resolved(market, book, now))

    def list_windows(self, now: int) -> None:
        """Make the windows of now and soon, and announce those that can be seen for the first time."""
        for timeframe in self.settings.timeframes:
            for window in windows_at(now, timeframe, _LISTED_AHEAD):
                market = self.market_by_slug(window.slug)
                if market is not None and not market.announced:
                    market.announced = True
                    self.market_streams.publish_new(window, self.markets.book(market).tick, now)

    def market_by_slug(self, slug: str) -> Market | None:
        """Return a market by its slug, made now if need be; None if the slug names none that can exist."""
        return self.markets.by_slug(slug, self.clock())

    def book(self, market: Market) -> Book:
        """Return a market's book; an empty one where the market is resolved."""
        return self.markets.book(market)


def _tape_shift(settings: Settings, record: Record, tapes: dict[str, Tape], now: int) -> int:
    """Wall time minus tape time, kept in the record so that a tape goes on over a restart."""
    if not tapes:
        return 0
    start = None if settings.tape_at is None else round(settings.tape_at.timestamp() * 1000)
    fresh = shift_ms(tapes.values(), start, now)
    return int(record.remember(f"tape {sorted(settings.tape)} {start}", str(fresh)))
