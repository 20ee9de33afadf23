"""Binance's stream messages to price updates. Pure.

Forms (Binance spot streams documentation): a combined stream wraps each message as {"stream": .., "data": ..};
bookTicker has u (update id), s, b, a and no time; trade has e, E (event time, ms), s, t (trade id), p, T (ms);
ahead of a restart the server sends {"e": "serverShutdown"}.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Source(StrEnum):
    """Where a price comes from: the middle of the best bid and ask, or a trade."""

    BOOK = "book"
    TRADE = "trade"


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """A price of one asset (quote currency, USDT). venue_ms: UTC, where the message has it; boot_ms: its arrival."""

    asset: str
    price: float
    source: Source
    venue_ms: int | None
    boot_ms: int


@dataclass(frozen=True, slots=True)
class Numbered:
    """An update and its running number at Binance: rising for each asset and source."""

    number: int
    update: PriceUpdate


class Shutdown:
    """The server says that it will close this connection soon."""


def symbol(asset: str) -> str:
    """Binance's symbol of an asset: BTC is BTCUSDT."""
    return f"{asset.upper()}USDT"


def stream_path(assets: tuple[str, ...]) -> str:
    """The path of the combined stream of these assets."""
    names = [f"{symbol(asset).lower()}@{name}" for asset in assets for name in ("bookTicker", "trade")]
    return "/stream?streams=" + "/".join(names)


def parse(message: str | bytes, assets: dict[str, str], boot_ms: int) -> Numbered | Shutdown | None:
    """What a message says; None where it is of no interest (an answer to a request, a stream that we do not read).

    Args:
        assets: symbol (BTCUSDT) to asset (BTC).

    Raises:
        ValueError: the message is not JSON, or has another form.
    """
    payload = json.loads(message)
    if not isinstance(payload, dict):
        raise ValueError(f"expected an object, found {type(payload).__name__}")
    data = payload.get("data", payload)
    if not isinstance(data, dict):
        raise ValueError(f"expected data to be an object, found {type(data).__name__}")
    kind = data.get("e")
    if kind == "serverShutdown":
        return Shutdown()
    if kind == "trade":
        price, number, venue_ms, source = _price(data, "p"), _whole(data, "t"), _whole(data, "T"), Source.TRADE
    elif "u" in data and "b" in data and "a" in data:
        price, number, venue_ms, source = (
            (_price(data, "b") + _price(data, "a")) / 2,
            _whole(data, "u"),
            None,
            Source.BOOK,
        )
    else:
        return None
    asset = assets.get(str(data.get("s")))
    if asset is None:
        raise ValueError(f"expected a symbol of {sorted(assets)}, found {data.get('s')!r}")
    return Numbered(number, PriceUpdate(asset, price, source, venue_ms, boot_ms))


def _price(data: dict[str, Any], key: str) -> float:
    value = data.get(key)
    if not isinstance(value, str):
        raise ValueError(f"expected {key} to be a decimal string, found {value!r}")
    price = float(value)
    if not math.isfinite(price) or price <= 0:
        raise ValueError(f"expected {key} to be above 0, found {value!r}")
    return price


def _whole(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected {key} to be a whole number, found {value!r}")
    return value
