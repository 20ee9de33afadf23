"""Where each message of the streams goes: prices, books and markets take it, and whoever evaluates is told of the news."""

from __future__ import annotations

from dataclasses import dataclass

from bot.feeds import PriceUpdate, Source
from bot.feeds.book_messages import Best, BookEvent, Change, Doubt, Resolved, TickChange
from bot.market_data.books import Books
from bot.market_data.debounce import News
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.venue.types import Book


@dataclass(slots=True)
class Routes:
    """What the streams feed."""

    prices: Prices
    markets: Markets
    books: Books
    news: News

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
