"""The venue's market channel: messages to events. Pure. Forms: docs/venue.md 3, and recordings of October 2026.

A frame is one event or a list of events: the first frame of the live channel is one list of all books. An event that cannot be
read costs itself. Where it names its token, that token's book is in `Doubt`: what the channel says next builds on what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from bot.venue.decoding import (
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
    as_units,
    decode,
    each,
)
from bot.venue.types import Book

MESSAGE_BYTES = 4 << 20
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
    payload = decode(raw, MESSAGE_BYTES)
    found: list[BookEvent] = []
    for index, event in enumerate(as_list(payload, "frame") if isinstance(payload, list) else [payload]):
        try:
            found.extend(_read(event, lambda error: counted.note(Origin.MARKET, error)))
        except OddError as error:
            doubtful = _doubt(event)
            if not isinstance(payload, list) and not doubtful:
                raise
            counted.note(Origin.MARKET, OddError(error.code, f"[{index}]", "a market event", str(error)))
            found.extend(doubtful)
    return found


def _read(value: object, odd: Callable[[OddError], None]) -> list[BookEvent]:
    event = as_object(value, "event")
    kind = event.get("event_type")
    if kind == "book":
        return [_book(event, odd)]
    if kind == "price_change":
        return _changes(event, odd)
    if kind == "tick_size_change":
        tick = as_price(event.get("new_tick_size"), "new_tick_size")
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
    found: list[BookEvent] = []
    pairs: dict[str, list[tuple[Decimal | None, Decimal | None]]] = {}

    def read(value: object, where: str) -> None:
        row = as_object(value, where)
        token_id = as_name(row.get("asset_id"), f"{where}.asset_id")
        try:
            found.append(_change(row, token_id, at_ms, where))
            if (pair := _best(row, where)) is not None:
                pairs.setdefault(token_id, []).append(pair)
        except OddError:
            found.append(Doubt(token_id))
            raise

    for _ in each(as_list(event.get("price_changes"), "price_changes"), "price_changes", read, odd):
        pass
    found.extend(Best(token_id, tuple(said)) for token_id, said in pairs.items())
    return found


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
