"""The exchange of a mirror: everything as ever, but that markets, books, prices and outcomes are heard of."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from paper.engine.exchange import Exchange
from paper.engine.feed import Tape
from paper.engine.markets import Market
from paper.engine.record import Record
from paper.errors import UsageError
from paper.mirror.books import MirroredBook
from paper.mirror.feed import MirrorFeed
from paper.mirror.markets import MirrorMarkets
from paper.settings import Settings

_KIND = "prices"  # of the record: of whose making they are


class MirrorExchange(Exchange):
    """The exchange without its wire.

    Args:
        source: what it mirrors, for people.

    Raises:
        UsageError: its data folder holds an exchange of prices of another making.
    """

    feed: MirrorFeed
    markets: MirrorMarkets

    def __init__(self, settings: Settings, record: Record, clock: Callable[[], int], source: str) -> None:
        self._source = source
        super().__init__(settings, record, {}, clock)
        check_kind(record, "mirror")
        self._count = itertools.count(1)
        self._began_ms = clock()
        self.mirrored: dict[str, MirroredBook] = {}

    @property
    def mirrors(self) -> str:
        """What it mirrors."""
        return self._source

    def make_feed(self, tapes: dict[str, Tape]) -> MirrorFeed:  # noqa: ARG002
        """Return the prices that are heard of."""
        return MirrorFeed()

    def make_markets(self) -> MirrorMarkets:
        """Return the markets that are heard of."""
        return MirrorMarkets(self.settings, self.record, self.feed.history, self.engine)

    def mirrored_book(self, market: Market) -> MirroredBook:
        """Return a market's book as the real exchange has it."""
        condition = market.window.condition_id
        known = self.mirrored.get(condition)
        if known is None:
            known = self.mirrored[condition] = MirroredBook(self.engine, self.book(market), self._name)
        return known

    def tick(self) -> None:
        """Do everything that is due at the clock's time."""
        now = self.clock()
        ticks = self.feed.advance(now)
        self.prices.write(ticks)
        self.binance_streams.publish_closed(ticks)
        self.orders.fail_trades(now)
        self.funds.mine(now)
        self.keep_house(now)
        for market in [*self.markets.by_condition.values()]:
            self.advance(market, now)

    def list_windows(self, now: int) -> None:
        """Windows are heard of; none is made."""

    def advance(self, market: Market, now: int) -> None:
        """Close a market at its end, and let it end as it really did once that is known."""
        window = market.window
        if market.winner is not None:
            return
        if now < window.end_ms:
            book = self.engine.books.get(window.condition_id)
            if book is not None:
                market.note_middle(book, now)
                self.orders.end_all(book.expired(now), "CANCELED_EXPIRED_ORDER")
            return
        if market.due_ms is None:
            market.due_ms = window.end_ms
            self.mirrored_book(market).withdraw(now)
            self.orders.end_all(self.book(market).orders(), "CANCELED_MARKET_RESOLVED")
            self.market_streams.publish_changes(self.book(market), now)
        if window.condition_id in self.markets.outcomes:
            self.resolve(market, self.book(market), now)
            self.mirrored.pop(window.condition_id, None)

    def _name(self) -> str:
        """An id of an order of the house; that of another run is another one."""
        return f"0x{self._began_ms:016x}{next(self._count):048x}"


def check_kind(record: Record, kind: str) -> None:
    """Keep prices of two makings apart: what was bought at the one cannot end at the other.

    Raises:
        UsageError: the folder was begun with the other kind.
    """
    known = record.meta(_KIND)
    if known is None and kind != "mirror":
        return  # folders of older releases say nothing
    began = known or ("walk" if record.query("SELECT 1 FROM markets LIMIT 1") else kind)
    if began != kind:
        raise UsageError(
            f"data folder {record.path.parent} was begun with {_SAID[began]}, and this is {_SAID[kind]}: what was bought there "
            "cannot end here; give another --data (with make run: BUS_DIR=volumes/other PAPER_DATA=.run/paper-other make run)"
        )
    record.remember(_KIND, kind)


_SAID = {"mirror": "real prices", "walk": "prices of paper's own making"}
