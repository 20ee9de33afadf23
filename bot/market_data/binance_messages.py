"""Binance's stream messages to price updates. Pure.

Forms (Binance spot streams documentation): a combined stream wraps each message as {"stream": .., "data": ..};
bookTicker has u (update id), s, b, a and no time; trade has e, E (event time, ms), s, t (trade id), p, T (ms);
ahead of a restart the server sends {"e": "serverShutdown"}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

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


def stream_path(assets: tuple[str, ...]) -> str:
    """The path of the combined stream of these assets."""
    names = [f"{symbol(asset).lower()}@{name}" for asset in assets for name in ("bookTicker", "trade")]
    return "/stream?streams=" + "/".join(names)


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


# A WebSocket connection that hands a message over in the same turn of the loop in which it was read.
#
# The library puts each message into a queue and wakes a task for it: a turn of the loop between a price and the look at it.


class InlineConnection(ClientConnection):
    """As the library's, but for whole text messages once `follow` was called. All others are queued for `recv` as ever."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._take: Callable[[bytes], None] | None = None
        self._after_read: Callable[[], None] = lambda: None

    def follow(self, take: Callable[[bytes], None], after_read: Callable[[], None]) -> None:
        """Hand over from now on. Neither may raise.

        Args:
            take: called with each whole text message, undecoded.
            after_read: called once all messages of one read of the socket were taken.
        """
        self._take, self._after_read = take, after_read

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        self._after_read()

    def process_event(self, event: Event) -> None:
        """Called by the library for each frame."""
        if self._take is not None and isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin:
            self._take(bytes(event.data))
        else:
            super().process_event(event)
