"""Binance's combined streams. Topics: a stream's name in lower case (``btcusdt@kline_1s``), and ``combined:NAME`` for the
form that wraps each message with its stream's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from paper.candles import Candle
from paper.engine.feed import Feed, Tick
from paper.engine.prices import DECIMALS
from paper.hub import Hub
from paper.windows import ASSETS

__all__ = ["BinanceStreams", "binance_topic", "kline_row"]

_NAMES = ("bookTicker", "trade", "aggTrade", "kline_1s", "kline_1m")


class BinanceStreams:
    """Binance's combined streams; a topic is a stream's name in lower case, such as ``btcusdt@kline_1s``."""

    def __init__(self, hub: Hub, feed: Feed) -> None:
        self._hub = hub
        self._feed = feed
        self._count = 0

    def publish(self, ticks: list[Tick]) -> None:
        """Send what the ticks mean to each stream that somebody listens to."""
        for tick in ticks:
            self._count += 1
            pair = f"{tick.asset}USDT"
            for name, event in _EVENTS.items():
                self._send(f"{pair.lower()}@{name}", event, tick, pair, self._count)
            if tick.closed is not None:
                self._publish_klines(tick, tick.closed, pair)

    def _publish_klines(self, tick: Tick, closed: Candle, pair: str) -> None:
        """Each second: the candle that closed, and the minute in progress."""
        self._send(f"{pair.lower()}@kline_1s", _kline, closed, 1_000, "1s", pair, tick.time_ms, True)
        minutes = self._feed.history[tick.asset].minutes.items
        topic = f"{pair.lower()}@kline_1m"
        if len(minutes) > 1 and minutes[-1].start_ms == tick.time_ms:
            self._send(topic, _kline, minutes[-2], 60_000, "1m", pair, tick.time_ms, True)
        if minutes:
            self._send(topic, _kline, minutes[-1], 60_000, "1m", pair, tick.time_ms, False)

    def _send(self, stream: str, build: Callable[..., dict[str, object]], *arguments: object) -> None:
        wrapped = f"combined:{stream}"
        if self._hub.wanted(stream, wrapped):
            message = json.dumps(build(*arguments))
            self._hub.publish(message, stream)
            self._hub.publish(f'{{"stream":"{stream}","data":{message}}}', wrapped)


def binance_topic(stream: str) -> str | None:
    """Return the topic of a stream name, or None if paper has no such stream."""
    symbol, _, name = stream.partition("@")
    if symbol.upper().removesuffix("USDT") not in ASSETS or not symbol.lower().endswith("usdt"):
        return None
    return f"{symbol.lower()}@{name}" if name in _NAMES else None


def kline_row(candle: Candle, interval_ms: int, decimals: int) -> list[object]:
    """Return a candle in the array form of Binance's ``/api/v3/klines``."""
    prices = [f"{price:.{decimals}f}" for price in (candle.open, candle.high, candle.low, candle.close)]
    volume = f"{candle.ticks * 0.01:.5f}"
    end = candle.start_ms + interval_ms - 1
    quote = f"{candle.ticks * 0.01 * candle.close:.5f}"
    return [candle.start_ms, *prices, volume, end, quote, candle.ticks, volume, quote, "0"]


def _kline(candle: Candle, interval_ms: int, interval: str, pair: str, now_ms: int, closed: bool) -> dict[str, object]:
    row = kline_row(candle, interval_ms, DECIMALS[pair.removesuffix("USDT")])
    start, open_, high, low, close, volume, end, quote, count, taker, taker_quote, _ = row
    inner = {
        "t": start,
        "T": end,
        "s": pair,
        "i": interval,
        "f": 0,
        "L": 0,
        "o": open_,
        "c": close,
        "h": high,
        "l": low,
    }
    inner |= {"v": volume, "n": count, "x": closed, "q": quote, "V": taker, "Q": taker_quote, "B": "0"}
    return {"e": "kline", "E": now_ms, "s": pair, "k": inner}


def _book_ticker(tick: Tick, pair: str, number: int) -> dict[str, object]:
    decimals = DECIMALS[tick.asset]
    step = 10**-decimals
    bid, ask = f"{tick.price:.{decimals}f}", f"{tick.price + step:.{decimals}f}"
    return {"u": number, "s": pair, "b": bid, "B": "1.00000", "a": ask, "A": "1.00000"}


def _trade(tick: Tick, pair: str, number: int) -> dict[str, object]:
    price = f"{tick.price:.{DECIMALS[tick.asset]}f}"
    base = {"e": "trade", "E": tick.time_ms, "s": pair, "t": number, "p": price, "q": "0.01000", "T": tick.time_ms}
    return base | {"m": False, "M": True}


def _agg_trade(tick: Tick, pair: str, number: int) -> dict[str, object]:
    price = f"{tick.price:.{DECIMALS[tick.asset]}f}"
    base = {"e": "aggTrade", "E": tick.time_ms, "s": pair, "a": number, "p": price, "q": "0.01000", "f": number}
    return base | {"l": number, "T": tick.time_ms, "m": False, "M": True}


_EVENTS: dict[str, Callable[[Tick, str, int], dict[str, object]]] = {
    "bookTicker": _book_ticker,
    "trade": _trade,
    "aggTrade": _agg_trade,
}
