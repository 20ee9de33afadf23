"""Binance's stream messages to price updates. Pure.

Forms (Binance spot streams documentation): a combined stream wraps each message as {"stream": .., "data": ..};
bookTicker has u (update id), s, b, a and no time; trade has e, E (event time, ms), s, t (trade id), p, T (ms);
ahead of a restart the server sends {"e": "serverShutdown"}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bot.venue.decoding import HIGH_PRICE, LOW_PRICE, Code, OddError, as_float, as_ms, as_object, as_whole, decode

MESSAGE_BYTES = 65_536
_LAST_NUMBER = 10**18


class Source(StrEnum):
    """Where a price comes from: the middle of the best bid and ask, or a trade."""

    BOOK = "book"
    TRADE = "trade"


@dataclass(frozen=True, slots=True)
class PriceUpdate:
    """A price of one asset (quote currency, USDT). venue_ms: UTC, where the message has it; boot_ms: its arrival.

    number: its running number at Binance, rising for each asset and source; 0 where it has none.
    """

    asset: str
    price: float
    source: Source
    venue_ms: int | None
    boot_ms: int
    number: int = field(default=0, compare=False)


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


def stream_url(base: str, assets: tuple[str, ...]) -> str:
    """Of the combined stream of these assets. base: for example wss://data-stream.binance.vision."""
    names = [f"{symbol(asset).lower()}@{name}" for asset in assets for name in ("bookTicker", "trade")]
    return base.rstrip("/") + "/stream?streams=" + "/".join(names)


def parse(message: str | bytes, assets: dict[str, str], boot_ms: int) -> Numbered | Shutdown | None:
    """What a message says; None where it is of no interest (an answer to a request, a stream that we do not read).

    Args:
        assets: symbol (BTCUSDT) to asset (BTC).

    Raises:
        OddError: the message is not JSON, or has another form.
    """
    payload = as_object(decode(message, MESSAGE_BYTES), "message")
    data = as_object(payload.get("data", payload), "data")
    kind = data.get("e")
    if kind == "serverShutdown":
        return Shutdown()
    if kind == "trade":
        price, number, source = _price(data, "p"), _whole(data, "t"), Source.TRADE
        venue_ms: int | None = as_ms(data.get("T"), "T")
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
        raise OddError(Code.TEXT, "s", f"a symbol of {sorted(assets)}", data.get("s"))
    return Numbered(number, PriceUpdate(asset, price, source, venue_ms, boot_ms, number))


def _price(data: dict[str, object], key: str) -> float:
    value = data.get(key)
    if not isinstance(value, str):  # Binance writes all prices as texts; a number would have lost digits
        raise OddError(Code.SHAPE, key, "a decimal string", value)
    return as_float(value, key, LOW_PRICE, HIGH_PRICE)


def _whole(data: dict[str, object], key: str) -> int:
    value = data.get(key)
    if isinstance(value, str):
        raise OddError(Code.SHAPE, key, "a whole number", value)
    return as_whole(value, key, 0, _LAST_NUMBER)
