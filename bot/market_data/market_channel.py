"""The venue's market channel: one connection that follows the books of the tokens that are wanted now.

Nothing is replayed after a reconnect: `on_lost` says so, and each subscription begins with a whole book. PING goes out every
10 s and only after the first subscription (before it the venue closes with 1008); an answer to it shows that the connection
stands and nothing more, so whether books are fresh is judged elsewhere (`bot.market_data.books`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from bot.venue.decoding import (
    STREAM_BYTES,
    Code,
    OddError,
    Origin,
    Skips,
    as_decimal,
    as_levels,
    as_list,
    as_ms,
    as_name,
    as_object,
    as_price,
    as_tick,
    as_units,
    decode,
    each,
)
from bot.venue.stream import Reader, Send, Stream, Timing
from bot.venue.types import Book

# The venue's market channel: messages to events. Pure. Forms: docs/reference/venue.md 3, and recordings of October 2026.
#
# A frame is one event or a list of events: the first frame of the live channel is one list of all books. An event that cannot
# be read costs itself. Where it names its token, that token's book is in `Doubt`: what the channel says next builds on what was
# lost.


_TEXTS = (b"PONG", b"")


@dataclass(frozen=True, slots=True)
class Change:
    """One level of one token's book: its size in base units from now on, 0 where it is gone. is_bid: of the buyers' side."""

    token_id: str
    is_bid: bool
    price: Decimal
    size: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Best:
    """What a frame says of a token's best prices once all of it was applied: (bid, ask), None for a side without offers.

    A frame with several changes may say so after each of them: one of these pairs is right.
    """

    token_id: str
    pairs: tuple[tuple[Decimal | None, Decimal | None], ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something about one token could not be read: its book may be another one by now."""

    token_id: str


@dataclass(frozen=True, slots=True)
class TickChange:
    """The tick of one token's market."""

    token_id: str
    tick: Decimal


@dataclass(frozen=True, slots=True)
class Resolved:
    """A market resolved; the venue's answer to a look-up says how."""

    condition_id: str


BookEvent = Book | Change | Best | Doubt | TickChange | Resolved


def parse_books(message: str | bytes, skips: Skips | None = None) -> list[BookEvent]:
    """What a message says; nothing where it is of no interest (PONG, trades, new markets).

    Args:
        skips: counts and logs the events that could not be read.

    Raises:
        OddError: nothing of it can be read: it is no JSON, or neither an event nor a list of events.
    """
    raw = message.encode("utf-8", "replace") if isinstance(message, str) else message
    if raw in _TEXTS:
        return []
    counted = skips or Skips()
    payload = decode(raw, STREAM_BYTES)
    events: list[BookEvent] = []
    for index, event in enumerate(as_list(payload, "frame") if isinstance(payload, list) else [payload]):
        try:
            events.extend(_read(event, lambda error: counted.note(Origin.MARKET, error)))
        except OddError as error:
            doubtful = _doubt(event)
            if not isinstance(payload, list) and not doubtful:
                raise
            counted.note(Origin.MARKET, OddError(error.code, f"[{index}]", "a market event", str(error)))
            events.extend(doubtful)
    return events


def _read(value: object, odd: Callable[[OddError], None]) -> list[BookEvent]:
    event = as_object(value, "event")
    kind = event.get("event_type")
    if kind == "book":
        return [_book(event, odd)]
    if kind == "price_change":
        return _changes(event, odd)
    if kind == "tick_size_change":
        tick = as_tick(event.get("new_tick_size"), "new_tick_size")
        return [TickChange(as_name(event.get("asset_id"), "asset_id"), tick)]
    if kind == "market_resolved":
        return [Resolved(as_name(event.get("market"), "market"))]
    return []


def _book(event: dict[str, object], odd: Callable[[OddError], None]) -> Book:
    bids = sorted(as_levels(event.get("bids"), "bids", odd), key=lambda level: -level.price)
    asks = sorted(as_levels(event.get("asks"), "asks", odd), key=lambda level: level.price)
    token_id = as_name(event.get("asset_id"), "asset_id")
    return Book(token_id, tuple(bids), tuple(asks), as_ms(event.get("timestamp"), "timestamp"))


def _changes(event: dict[str, object], odd: Callable[[OddError], None]) -> list[BookEvent]:
    """The changes of a frame, then for each token what the frame says of its best prices."""
    at_ms = as_ms(event.get("timestamp"), "timestamp")
    events: list[BookEvent] = []
    pairs: dict[str, list[tuple[Decimal | None, Decimal | None]]] = {}

    def read(value: object, where: str) -> None:
        row = as_object(value, where)
        token_id = as_name(row.get("asset_id"), f"{where}.asset_id")
        try:
            events.append(_change(row, token_id, at_ms, where))
            if (pair := _best(row, where)) is not None:
                pairs.setdefault(token_id, []).append(pair)
        except OddError:
            events.append(Doubt(token_id))
            raise

    for _ in each(as_list(event.get("price_changes"), "price_changes"), "price_changes", read, odd):
        pass
    events.extend(Best(token_id, tuple(said), at_ms) for token_id, said in pairs.items())
    return events


def _change(row: dict[str, object], token_id: str, at_ms: int, where: str) -> Change:
    side = row.get("side")
    if side not in ("BUY", "SELL"):
        raise OddError(Code.TEXT, f"{where}.side", "BUY or SELL", side)
    price, size = as_price(row.get("price"), f"{where}.price"), as_units(row.get("size"), f"{where}.size")
    return Change(token_id, side == "BUY", price, size, at_ms)


def _best(row: dict[str, object], where: str) -> tuple[Decimal | None, Decimal | None] | None:
    """The best bid and ask that are named beside; None where they are not. 0 and 1 stand for a side without offers."""
    if row.get("best_bid") in (None, "") or row.get("best_ask") in (None, ""):
        return None
    bid = as_decimal(row.get("best_bid"), f"{where}.best_bid", 0, 1)
    ask = as_decimal(row.get("best_ask"), f"{where}.best_ask", 0, 1)
    return bid if 0 < bid < 1 else None, ask if 0 < ask < 1 else None


def _doubt(value: object) -> Iterable[Doubt]:
    """The token whose book an event that cannot be read may have changed."""
    if not isinstance(value, dict) or value.get("event_type") not in ("book", "price_change"):
        return ()
    try:
        return (Doubt(as_name(value.get("asset_id"), "asset_id")),)
    except OddError:
        return ()


_MOST_TOKENS = 450  # beyond 500 a connection loses books (venue.md 3)
BOOKS_TIMING = Timing(stale_after_s=25.0, ping_s=10.0)


class MarketChannel(Reader):
    """Follows books.

    Args:
        wanted: the tokens to follow now.
        on_event: called in the loop for each event; must not block.
        on_lost: called when the connection is lost.
        skips: counts what could not be read.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        wanted: Callable[[], Iterable[str]],
        on_event: Callable[[BookEvent], None],
        on_lost: Callable[[], None],
        skips: Skips | None = None,
    ) -> None:
        self.stream, self._skips = stream, skips or Skips()
        self._wanted, self._on_event, self._on_lost = wanted, on_event, on_lost
        self._followed: set[str] = set()
        self._began = False

    def renew(self) -> None:
        """Replace the connection."""
        self.stream.renew("renewed: a book of it differed from the venue's answer")

    async def run(self) -> None:
        """Follow until cancelled."""
        await self.stream.run(self)

    def wants(self) -> bool:
        """See `Reader`."""
        return bool(self._tokens())

    def lost(self) -> None:
        """See `Reader`."""
        self._on_lost()

    def take(self, message: str | bytes) -> bool:
        """See `Reader`. An answer to PING is a sign of life here: books may stand still for long."""
        try:
            events = parse_books(message, self._skips)
        except OddError as error:
            self._skips.count(Origin.MARKET, error.code)
            self.stream.note_odd(error)
            return True
        for event in events:
            self._on_event(event)
        return True

    async def talk(self, send: Send, first: bool) -> None:
        """See `Reader`. Subscribe to what is wanted, again and again."""
        if first:
            self._followed, self._began = set(), False
        wanted = self._tokens()
        if more := sorted(wanted - self._followed):
            head = {"operation": "subscribe"} if self._began else {"type": "market"}
            await send(json.dumps({**head, "assets_ids": more, "custom_feature_enabled": True}))
            self._began = True
        if less := sorted(self._followed - wanted):
            await send(json.dumps({"operation": "unsubscribe", "assets_ids": less}))
        self._followed = wanted

    def _tokens(self) -> set[str]:
        return set(list(self._wanted())[:_MOST_TOKENS])
