"""The venue's price stream RTDS: messages to prices of the settlement source (Chainlink). Pure. Forms: docs/venue.md 3.

The spot topic alone is read: the stream's 60 s averages say what the last minute was, not what the part of it was that counts
for a window, and spot prices say both, for every length.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

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

    Raises ValueError: it is not JSON, or has another form.
    """
    if message in ("PONG", b"PONG", "", b""):
        return None
    event = json.loads(message)
    if not isinstance(event, dict):
        raise ValueError(f"expected an event of the price stream, found {str(event)[:120]}")
    if event.get("topic") != TOPIC or event.get("type") != "update":
        return None
    payload = event.get("payload")
    found = payload if isinstance(payload, dict) else {}
    symbol, value, time_ms = found.get("symbol"), found.get("value"), found.get("timestamp")
    if (
        not isinstance(symbol, str)
        or type(time_ms) is not int
        or isinstance(value, bool)
        or not isinstance(value, int | float | str)
    ):
        raise ValueError(f"expected a price with symbol, value and timestamp, found {str(payload)[:120]}")
    asset, _, currency = symbol.upper().partition("/")
    if currency != "USD":
        raise ValueError(f"expected a symbol such as btc/usd, found {symbol[:40]!r}")
    try:
        price = float(value)
    except OverflowError as error:
        raise ValueError("expected a price, found an integer of more than 300 digits") from error
    if not (math.isfinite(price) and price > 0 and time_ms > 0):
        raise ValueError(f"expected a price and a time above 0, found {price} at {str(time_ms)[:40]}")
    return SettlementPrice(asset, price, time_ms)
