"""Books out of events: what is offered now, and whether that can be believed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from recording.events import ONE, BookEvent, ChangeEvent, Level

_ODD_MS = 60_000  # a time that lies so far ahead of what comes after it was none of the venue's


@dataclass(slots=True)
class BookState:
    """One token's book: prices and sizes in base units."""

    token_id: str
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    venue_ms: int = 0
    recv_ms: int = 0
    doubt: str = ""
    """Why it is not to be believed until the next snapshot; "" where it is."""

    def best(self) -> tuple[int | None, int | None]:
        """The best bid and ask; None for a side without offers."""
        return max(self.bids, default=None), min(self.asks, default=None)

    def levels(self) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Bids and asks, best first."""
        return tuple(sorted(self.bids.items(), reverse=True)), tuple(sorted(self.asks.items()))

    def take(self, event: BookEvent | ChangeEvent) -> bool:
        """Take what an event says; False where it is older than what is known, and changes nothing.

        A snapshot is believed. A change that crosses the book, or after which the best prices are not those that the frame
        names, puts it into doubt: something was lost (poly-websockets issue 25).
        """
        if event.venue_ms < self.venue_ms <= event.venue_ms + _ODD_MS:
            return False
        self.venue_ms, self.recv_ms = event.venue_ms, event.recv_ms
        if isinstance(event, BookEvent):
            self.bids, self.asks = dict(event.bids), dict(event.asks)
            self.doubt = "its snapshot is crossed" if self._is_crossed() else ""
            return True
        side = self.bids if event.is_bid else self.asks
        if event.size:
            side[event.price] = event.size
        else:
            side.pop(event.price, None)
        return True

    def check(self, event: ChangeEvent) -> None:
        """Hold the book against the best prices that the last change of a frame names."""
        if self._is_crossed():
            self.doubt = self.doubt or "it is crossed"
        best_bid, best_ask = max(self.bids, default=0), min(self.asks, default=ONE)
        if event.best_bid is not None and event.best_ask is not None:
            if (event.best_bid, event.best_ask) != (best_bid, best_ask):
                self.doubt = self.doubt or "its best prices are not those that the venue names"
            elif not self._is_crossed():
                self.doubt = ""

    def _is_crossed(self) -> bool:
        bid, ask = self.best()
        return bid is not None and ask is not None and bid >= ask


class BookStates:
    """The books of many tokens."""

    def __init__(self) -> None:
        self.books: dict[str, BookState] = {}
        self.stale = 0
        """Events that were older than what was known."""

    def take(self, event: BookEvent | ChangeEvent) -> BookState | None:
        """Take an event; the book that it changed, or None where it changed none.

        A change of a book that was never seen changes nothing: what else is in it, nobody knows.
        """
        book = self.books.get(event.token_id)
        if book is None:
            if isinstance(event, ChangeEvent):
                return None
            book = self.books[event.token_id] = BookState(event.token_id)
        if not book.take(event):
            self.stale += 1
            return None
        if isinstance(event, ChangeEvent):
            book.check(event)
        return book

    def doubt(self, token_id: str, why: str) -> None:
        """Put a book into doubt; all of them where the token is not told."""
        for book in [self.books[token_id]] if token_id in self.books else [] if token_id else self.books.values():
            book.doubt = book.doubt or why

    def forget(self, token_ids: tuple[str, ...]) -> None:
        """Drop the books of a market that is over."""
        for token in token_ids:
            self.books.pop(token, None)
