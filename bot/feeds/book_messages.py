"""The venue's market channel: messages to events. Pure. Forms: docs/venue.md 3."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from bot.venue.types import BASE_UNITS, Book, Level


@dataclass(frozen=True, slots=True)
class Change:
    """One level of one token's book: its size in base units from now on, 0 where it is gone. is_bid: of the buyers' side."""

    token_id: str
    is_bid: bool
    price: Decimal
    size: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class TickChange:
    """The tick of one token's market."""

    token_id: str
    tick: Decimal


@dataclass(frozen=True, slots=True)
class Resolved:
    """A market resolved; the venue's answer to a look-up says how."""

    condition_id: str


BookEvent = Book | Change | TickChange | Resolved


def parse_books(message: str | bytes) -> list[BookEvent]:
    """What a message says; nothing where it is of no interest (PONG, trades, new markets).

    Raises ValueError: it is not JSON, or has another form.
    """
    if message in ("PONG", b"PONG"):
        return []
    payload = json.loads(message)
    events = payload if isinstance(payload, list) else [payload]
    found: list[BookEvent] = []
    try:
        for event in events:
            found.extend(_read(event))
    except (KeyError, TypeError, InvalidOperation, AttributeError) as error:
        raise ValueError(f"expected a market event, found {str(payload)[:120]} ({type(error).__name__})") from error
    return found


def _read(event: dict[str, Any]) -> Iterable[BookEvent]:
    kind = event.get("event_type")
    if kind == "book":
        bids = tuple(sorted(_levels(event["bids"]), key=lambda level: -level.price))
        asks = tuple(sorted(_levels(event["asks"]), key=lambda level: level.price))
        yield Book(str(event["asset_id"]), bids, asks, int(event["timestamp"]))
    elif kind == "price_change":
        at_ms = int(event["timestamp"])
        for change in event["price_changes"]:
            is_bid = {"BUY": True, "SELL": False}[change["side"]]
            yield Change(str(change["asset_id"]), is_bid, _price(change["price"]), _size(change["size"]), at_ms)
    elif kind == "tick_size_change":
        yield TickChange(str(event["asset_id"]), _price(event["new_tick_size"]))
    elif kind == "market_resolved":
        yield Resolved(str(event["market"]))


def _levels(rows: list[dict[str, Any]]) -> Iterable[Level]:
    return (Level(_price(row["price"]), _size(row["size"])) for row in rows)


def _price(text: object) -> Decimal:
    price = Decimal(str(text))
    if not 0 < price < 1:
        raise ValueError(f"expected a price between 0 and 1, found {text!r:.40}")
    return price


def _size(text: object) -> int:
    size = Decimal(str(text))
    if not size >= 0 or not size.is_finite():
        raise ValueError(f"expected a size of at least 0, found {text!r:.40}")
    return int(size * BASE_UNITS)
