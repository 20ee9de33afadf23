"""The books of all tokens that matter: as fresh as the venue's stream, read by REST where the stream does not reach.

A quiet book is not a stale one, and a stream that answers PING is not a live one. So silence alone condemns nothing: a book
that the stream has not spoken of for a while is read by REST at the next poll. The same again: it was quiet. Another one twice
in a row: the stream lost something, and `renew` is called for a new connection.

A book may also be *in doubt*: it crosses itself, it is not what a frame says of its best prices, or something about it could not
be read. Then it is not there until REST told of it anew, which is asked at once (`reread`).

A book is also a witness: an order needs its best prices told twice. A decision that waits for the second time says so
(`confirm`), and REST is asked at once. So one odd message of the stream causes no order, and a quiet book delays none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from bot.market_data.market_channel import Best, Change
from bot.venue.decoding import Code, OddError, Origin, Skips
from bot.venue.types import Book, Level

QUIET_MS = 10_000  # after so long a silence REST is asked
STREAMED_MS = 20_000  # the oldest that a streamed book may be, counted from when it was heard of or confirmed
ASKED_MS = 2_500  # the same of one that only REST told of
DOUBTS = 2
TOP = 5  # as many as a decision is given
DOUBTED_ANSWERS = 3  # so many answers of REST may be older than what the stream told last
MOST_ALARMS = 5  # a frame's best prices that so many new books in a row did not agree with mean something else


@dataclass(slots=True)
class _Kept:
    """One token. heard_ms: when stream or REST last spoke of it; told_ms: when of its best prices (CLOCK_BOOTTIME).

    doubted: how many answers of REST were taken for too old since it is in doubt; None while it is not. alarms: how often a frame
    disagreed since one agreed. awaited: whether a decision waits until its best prices are told again.
    """

    bids: dict[Decimal, Level]
    asks: dict[Decimal, Level]
    at_ms: int
    heard_ms: int
    told_ms: int
    streamed: bool
    doubts: int = 0
    doubted: int | None = None
    alarms: int = 0
    awaited: bool = False
    shown: Book | None = field(default=None)


class Books(Mapping[str, Book]):
    """Token id to book; one that is too old to be relied upon is not there.

    Args:
        boot_ms: CLOCK_BOOTTIME in ms.
        renew: asks for a new connection of the stream.
        skips: counts and logs why books were in doubt.

    Attributes:
        reread: set when REST is to be asked for a book at once; whoever asks clears it.
    """

    def __init__(
        self, boot_ms: Callable[[], int], renew: Callable[[], None] = lambda: None, skips: Skips | None = None
    ) -> None:
        self._boot_ms, self.renew = boot_ms, renew
        self._skips = skips or Skips()
        self.reread = asyncio.Event()
        self._kept: dict[str, _Kept] = {}
        self.gaps = 0

    def __getitem__(self, token_id: str) -> Book:
        entry = self._kept[token_id]
        if entry.doubted is not None:
            raise KeyError(token_id)
        if self._boot_ms() - entry.heard_ms > (STREAMED_MS if entry.streamed else ASKED_MS):
            raise KeyError(token_id)
        if entry.shown is None:
            entry.shown = Book(token_id, _best(entry.bids, reverse=True), _best(entry.asks, reverse=False), entry.at_ms)
        return entry.shown

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def told_ms(self, token_id: str) -> int | None:
        """When stream or REST last said what its best prices are, in CLOCK_BOOTTIME ms."""
        entry = self._kept.get(token_id)
        return None if entry is None else entry.told_ms

    def confirm(self, token_ids: Iterable[str]) -> None:
        """A decision waits until the best prices of these are told again: REST is asked at once."""
        for token_id in token_ids:
            if (entry := self._kept.get(token_id)) is not None:
                entry.awaited = True
                self.reread.set()

    def age_ms(self, token_id: str) -> int | None:
        """How long ago stream or REST last spoke of it."""
        entry = self._kept.get(token_id)
        return None if entry is None else max(0, self._boot_ms() - entry.heard_ms)

    def take(self, book: Book) -> None:
        """A whole book out of the stream."""
        self._put(book, streamed=True)

    def change(self, change: Change) -> bool:
        """One level out of the stream; False where the book it belongs to is not known, or is newer."""
        entry = self._kept.get(change.token_id)
        if entry is None or not entry.streamed or change.at_ms < entry.at_ms:
            return False
        if entry.doubted is not None:
            entry.at_ms = change.at_ms  # an answer that is older does not have it
            return False
        side = entry.bids if change.is_bid else entry.asks
        if change.size:
            side[change.price] = Level(change.price, change.size)
        else:
            side.pop(change.price, None)
        entry.at_ms, entry.shown, entry.doubts = change.at_ms, None, 0
        entry.heard_ms = self._boot_ms()
        return True

    def check(self, best: Best) -> bool:
        """Hold a streamed book against what the frame that changed it says of its best prices; False where it is in doubt now."""
        entry = self._kept.get(best.token_id)
        if entry is None or not entry.streamed or entry.doubted is not None or best.at_ms < entry.at_ms:
            return True  # nothing to hold against it, or the book is newer than the frame: an answer overtook it
        ours = max(entry.bids, default=None), min(entry.asks, default=None)
        if ours in best.pairs:
            entry.alarms = 0
            self._tell(entry)
        elif not self._crossed(best.token_id, entry):
            entry.alarms += 1
            if entry.alarms > MOST_ALARMS:  # new books did not help: then the book is right, and these fields are not
                return True
            pairs_text = " or ".join(f"{bid} / {ask}" for bid, ask in best.pairs)
            self._doubt(
                best.token_id,
                Code.DISAGREES,
                f"best prices of {pairs_text}, as the frame says",
                f"{ours[0]} / {ours[1]}",
            )
        return entry.doubted is None

    def doubt(self, token_id: str) -> None:
        """Something about this token could not be read."""
        entry = self._kept.get(token_id)
        if entry is not None and entry.doubted is None:
            entry.doubted = 0
            self.reread.set()

    def in_doubt(self) -> list[str]:
        """The tokens whose books are in doubt."""
        return [token_id for token_id, entry in self._kept.items() if entry.doubted is not None]

    def to_reread(self) -> list[str]:
        """The tokens whose books REST is to be asked for at once."""
        return [token_id for token_id, entry in self._kept.items() if entry.doubted is not None or entry.awaited]

    def lost(self) -> None:
        """The stream broke: nothing is replayed after it, so what it told is worth no more than an answer of REST."""
        for entry in self._kept.values():
            entry.streamed = False

    def missing(self, token_ids: Iterable[str]) -> list[str]:
        """Those that REST is to be asked for now."""
        now = self._boot_ms()
        entries = self._kept
        return [
            key
            for key in token_ids
            if (entry := entries.get(key)) is None
            or not entry.streamed
            or entry.doubted is not None
            or entry.awaited
            or now - entry.heard_ms > QUIET_MS
        ]

    def answer(self, books: Mapping[str, Book]) -> None:
        """Books that REST told just now. A streamed book that is newer stays."""
        for token_id, book in books.items():
            entry = self._kept.get(token_id)
            if entry is None or not entry.streamed:
                self._put(book, streamed=False)
            elif entry.doubted is not None:
                self._resolve(entry, book)
            elif book.at_ms >= entry.at_ms:
                self._compare(entry, book)
            elif self._boot_ms() - entry.heard_ms > STREAMED_MS:  # its time was an odd one, far ahead
                self._put(book, streamed=False)

    def keep(self, token_ids: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(token_ids)
        for token_id in [key for key in self._kept if key not in wanted]:
            del self._kept[token_id]

    def _resolve(self, entry: _Kept, book: Book) -> None:
        """Take an answer about a book in doubt, unless the stream told of something newer since; that not for ever."""
        if book.at_ms >= entry.at_ms:
            self._put(book, streamed=True)
        elif entry.doubted is not None and entry.doubted + 1 < DOUBTED_ANSWERS:
            entry.doubted += 1
        else:
            self._put(book, streamed=False)
            self.gaps += 1
            self.renew()

    def _crossed(self, token_id: str, entry: _Kept) -> bool:
        """Whether a book crosses itself: no market looks like that, so something of it was lost. It is in doubt then."""
        bid, ask = max(entry.bids, default=None), min(entry.asks, default=None)
        if bid is None or ask is None or bid < ask:
            return False
        self._doubt(token_id, Code.CROSSED, "a bid below the ask", f"{bid} / {ask}")
        return True

    def _doubt(self, token_id: str, code: Code, expected: str, reason: str) -> None:
        self._skips.note(Origin.MARKET, OddError(code, f"book {token_id[:12]}", expected, reason))
        self.doubt(token_id)

    def _put(self, book: Book, *, streamed: bool) -> None:
        now = self._boot_ms()
        before = self._kept.get(book.token_id)
        self._kept[book.token_id] = entry = _Kept(
            bids={level.price: level for level in book.bids},
            asks={level.price: level for level in book.asks},
            at_ms=book.at_ms,
            heard_ms=now,
            told_ms=now,
            streamed=streamed,
            # A whole book has its best levels first already; what a change does to it is sorted when it is asked for.
            shown=Book(book.token_id, book.bids[:TOP], book.asks[:TOP], book.at_ms),
            alarms=before.alarms if before is not None else 0,
        )
        self._crossed(book.token_id, entry)

    def _tell(self, entry: _Kept) -> None:
        entry.heard_ms = entry.told_ms = self._boot_ms()
        entry.awaited = False

    def _compare(self, entry: _Kept, book: Book) -> None:
        self._tell(entry)
        if _best(entry.bids, reverse=True) == book.bids[:TOP] and _best(entry.asks, reverse=False) == book.asks[:TOP]:
            entry.doubts = 0
            return
        doubts = entry.doubts + 1
        self._put(book, streamed=True)
        self._kept[book.token_id].doubts = doubts
        if doubts >= DOUBTS:
            self.gaps += 1
            self.lost()
            self.renew()


def _best(side: Mapping[Decimal, Level], *, reverse: bool) -> tuple[Level, ...]:
    return tuple(map(side.__getitem__, sorted(side, reverse=reverse)[:TOP]))
