"""The books of all tokens that matter: as fresh as the venue's stream, read by REST where the stream does not reach.

A quiet book is not a stale one, and a stream that answers PING is not a live one. So silence alone condemns nothing: a book
that the stream has not spoken of for a while is read by REST at the next poll. The same again: it was quiet. Another one twice
in a row: the stream lost something, and `renew` is called for a new connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from bot.feeds.book_messages import Change
from bot.venue.types import Book, Level

QUIET_MS = 10_000  # after so long a silence REST is asked
STREAMED_MS = 20_000  # the oldest that a streamed book may be, counted from when it was heard of or confirmed
ASKED_MS = 2_500  # the same of one that only REST told of
DOUBTS = 2
TOP = 5  # as many as a decision is given


@dataclass(slots=True)
class _Kept:
    """One token. heard_ms: when stream or REST last spoke of it; changed_ms: when that was news (CLOCK_BOOTTIME)."""

    bids: dict[Decimal, Level]
    asks: dict[Decimal, Level]
    at_ms: int
    heard_ms: int
    changed_ms: int
    streamed: bool
    doubts: int = 0
    shown: Book | None = field(default=None)


class Books(Mapping[str, Book]):
    """Token id to book; one that is too old to be relied upon is not there.

    Args:
        boot_ms: CLOCK_BOOTTIME in ms.
        renew: asks for a new connection of the stream.
    """

    def __init__(self, boot_ms: Callable[[], int], renew: Callable[[], None] = lambda: None) -> None:
        self._boot_ms, self.renew = boot_ms, renew
        self._kept: dict[str, _Kept] = {}
        self.gaps = 0

    def __getitem__(self, token_id: str) -> Book:
        kept = self._kept[token_id]
        if self._boot_ms() - kept.heard_ms > (STREAMED_MS if kept.streamed else ASKED_MS):
            raise KeyError(token_id)
        if kept.shown is None:
            kept.shown = Book(token_id, _best(kept.bids, reverse=True), _best(kept.asks, reverse=False), kept.at_ms)
        return kept.shown

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def changed_ms(self, token_id: str) -> int | None:
        """When the book was last news, in CLOCK_BOOTTIME ms."""
        kept = self._kept.get(token_id)
        return None if kept is None else kept.changed_ms

    def age_ms(self, token_id: str) -> int | None:
        """How long ago stream or REST last spoke of it."""
        kept = self._kept.get(token_id)
        return None if kept is None else max(0, self._boot_ms() - kept.heard_ms)

    def take(self, book: Book) -> None:
        """A whole book out of the stream."""
        self._put(book, streamed=True)

    def change(self, change: Change) -> bool:
        """One level out of the stream; False where the book it belongs to is not known, or is newer."""
        kept = self._kept.get(change.token_id)
        if kept is None or not kept.streamed or change.at_ms < kept.at_ms:
            return False
        side = kept.bids if change.is_bid else kept.asks
        if change.size:
            side[change.price] = Level(change.price, change.size)
        else:
            side.pop(change.price, None)
        kept.at_ms, kept.shown, kept.doubts = change.at_ms, None, 0
        kept.heard_ms = kept.changed_ms = self._boot_ms()
        return True

    def lost(self) -> None:
        """The stream broke: nothing is replayed after it, so what it told is worth no more than an answer of REST."""
        for kept in self._kept.values():
            kept.streamed = False

    def missing(self, token_ids: Iterable[str]) -> list[str]:
        """Those that REST is to be asked for now."""
        now = self._boot_ms()
        kept = self._kept
        return [
            key
            for key in token_ids
            if (one := kept.get(key)) is None or not one.streamed or now - one.heard_ms > QUIET_MS
        ]

    def answer(self, books: Mapping[str, Book]) -> None:
        """Books that REST told just now. A streamed book that is newer stays."""
        for token_id, book in books.items():
            kept = self._kept.get(token_id)
            if kept is None or not kept.streamed:
                self._put(book, streamed=False)
            elif book.at_ms >= kept.at_ms:
                self._compare(kept, book)

    def keep(self, token_ids: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(token_ids)
        for token_id in [key for key in self._kept if key not in wanted]:
            del self._kept[token_id]

    def _put(self, book: Book, *, streamed: bool) -> None:
        now = self._boot_ms()
        self._kept[book.token_id] = _Kept(
            bids={level.price: level for level in book.bids},
            asks={level.price: level for level in book.asks},
            at_ms=book.at_ms,
            heard_ms=now,
            changed_ms=now,
            streamed=streamed,
            # A whole book has its best levels first already; what a change does to it is sorted when it is asked for.
            shown=Book(book.token_id, book.bids[:TOP], book.asks[:TOP], book.at_ms),
        )

    def _compare(self, kept: _Kept, book: Book) -> None:
        kept.heard_ms = self._boot_ms()
        if _best(kept.bids, reverse=True) == book.bids[:TOP] and _best(kept.asks, reverse=False) == book.asks[:TOP]:
            kept.doubts = 0
            return
        doubts = kept.doubts + 1
        self._put(book, streamed=True)
        self._kept[book.token_id].doubts = doubts
        if doubts >= DOUBTS:
            self.gaps += 1
            self.lost()
            self.renew()


def _best(side: Mapping[Decimal, Level], *, reverse: bool) -> tuple[Level, ...]:
    return tuple(map(side.__getitem__, sorted(side, reverse=reverse)[:TOP]))
