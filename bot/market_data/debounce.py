"""Between polls: which assets there is news of, told at once, together, and never for more than half of the time.

News is told with the `flush` after the read of the socket that brought it, or in the loop's next turn, so that what one read
brought is one evaluation. After a telling nothing is told for as long as that one took: prices that come faster than they can be
evaluated wait together, and half of the processor stays for polls, answers and heartbeats. One that waited for a disk is followed
by a short rest all the same. What is kept is a set of assets: it cannot grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.books import Books
from bot.market_data.market_channel import Best, BookEvent, Change, Doubt, Resolved, TickChange
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.venue.types import Book

LONG_AGO = float("-inf")
MOST_REST_S = 0.05


class PriceTrigger:
    """`follow` names who is told; without anybody news is dropped."""

    def __init__(self) -> None:
        self._tell: Callable[[Iterable[str]], None] | None = None
        self._waiting: set[str] = set()
        self._rests_until = LONG_AGO
        self._timer: asyncio.Handle | None = None
        self._soon = False

    def follow(self, tell: Callable[[Iterable[str]], None] | None) -> None:
        """Tell this one from now on; None tells nobody, at once."""
        self._tell = tell
        self._waiting.clear()
        self._set(None)

    def note(self, asset: str) -> None:
        """There is news of an asset."""
        if self._tell is None:
            return
        self._waiting.add(asset)
        if self._soon:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._rests_until:
            self._set(loop.call_soon(self._due), soon=True)
        elif self._timer is None:
            self._set(loop.call_at(self._rests_until, self._due))

    def flush(self) -> None:
        """Tell now what the loop's next turn would tell."""
        if self._soon:
            self._set(None)
            self._due()

    def _due(self) -> None:
        """Tell all that waits."""
        self._timer, self._soon = None, False
        if self._tell is None:
            return
        due, self._waiting = self._waiting, set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._tell(due)
        finally:
            ended = loop.time()
            self._rests_until = ended + min(ended - began, MOST_REST_S)

    def _set(self, timer: asyncio.Handle | None, *, soon: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._soon = timer, soon


# Where each message of the streams goes: prices, books and markets take it, and whoever evaluates is told of the news.


@dataclass(slots=True)
class Dispatch:
    """What the streams feed."""

    prices: Prices
    markets: Markets
    books: Books
    news: PriceTrigger

    def price(self, update: PriceUpdate) -> None:
        """A lead price."""
        self.prices.take(update)
        if update.source is Source.BOOK:  # a trade moves no lead price
            self.news.note(update.asset)

    def event(self, event: BookEvent) -> None:
        """News of a book or of a market."""
        match event:
            case Book(token_id=token_id):
                self.books.take(event)
                self._note(token_id)
            case Change(token_id=token_id):
                if self.books.change(event):
                    self._note(token_id)
            case Best():
                self.books.check(event)
            case Doubt(token_id=token_id):
                self.books.doubt(token_id)
            case TickChange(token_id=token_id, tick=tick):
                self.markets.set_tick(token_id, tick)
            case Resolved(condition_id=condition_id):
                self.markets.look_soon(condition_id)

    def _note(self, token_id: str) -> None:
        asset = self.markets.asset_of(token_id)
        if asset is not None:
            self.news.note(asset)
