"""The venue's price stream RTDS: messages to prices of the settlement source (Chainlink). Pure. Forms: docs/venue.md 3.

The spot topic alone is read: the stream's 60 s averages say what the last minute was, not what the part of it was that counts
for a window, and spot prices say both, for every length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from bot.venue.decoding import (
    HIGH_PRICE,
    LAST_MS,
    LOW_PRICE,
    Code,
    OddError,
    as_float,
    as_name,
    as_object,
    as_whole,
    decode,
)

MESSAGE_BYTES = 65_536

TOPIC = "crypto_prices_chainlink"
SUBSCRIBE = json.dumps({"action": "subscribe", "subscriptions": [{"topic": TOPIC, "type": "update"}]})


@dataclass(frozen=True, slots=True)
class SettlementPrice:
    """price: USD. time_ms: when it was so, UTC ms by the venue."""

    asset: str
    price: float
    time_ms: int


def parse_settlement(message: str | bytes) -> SettlementPrice | None:
    """The price that a message brings; None where it is of no interest (PONG, empty, other topics).

    Raises OddError: it is not JSON, or has another form.
    """
    if message in ("PONG", b"PONG", "", b""):
        return None
    event = as_object(decode(message, MESSAGE_BYTES), "message")
    if event.get("topic") != TOPIC or event.get("type") != "update":
        return None
    payload = as_object(event.get("payload"), "payload")
    symbol = as_name(payload.get("symbol"), "symbol")
    asset, _, currency = symbol.upper().partition("/")
    if currency != "USD":
        raise OddError(Code.TEXT, "symbol", "a symbol such as btc/usd", symbol)
    time_ms = payload.get("timestamp")
    if isinstance(time_ms, str):
        raise OddError(Code.SHAPE, "timestamp", "a whole number", time_ms)
    return SettlementPrice(
        asset,
        as_float(payload.get("value"), "value", LOW_PRICE, HIGH_PRICE),
        as_whole(time_ms, "timestamp", 1, LAST_MS),
    )
