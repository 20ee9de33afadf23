"""Binance's WebSockets: combined and raw streams, with its pings, its limits and its end after a day (venue.md 3)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from paper.engine.feed import Feed, Tick
from paper.engine.prices import ASSETS, DECIMALS, Candle
from paper.errors import RefusedError
from paper.streams.sockets import POLICY, Broadcaster, Connection, Sockets, read_message, strings

if TYPE_CHECKING:  # the exchange makes the streams
    from paper.engine.exchange import Exchange

# Binance's combined streams. Topics: a stream's name in lower case (``btcusdt@kline_1s``), and ``combined:NAME`` for the
# form that wraps each message with its stream's name.


QUANTITY = 0.01  # of each made-up trade
_NAMES = ("bookTicker", "trade", "aggTrade", "kline_1s", "kline_1m")


class BinanceStreams:
    """Binance's combined streams; a topic is a stream's name in lower case, such as ``btcusdt@kline_1s``."""

    def __init__(self, hub: Broadcaster, feed: Feed) -> None:
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

    def publish_closed(self, ticks: list[Tick]) -> None:
        """Send the candles that the ticks closed, and nothing else."""
        for tick in ticks:
            if tick.closed is not None:
                self._publish_klines(tick, tick.closed, f"{tick.asset}USDT")

    def publish_raw(self, stream: str, message: str) -> None:
        """Send a message of Binance's own to those who follow its stream."""
        self._hub.publish(message, stream)
        self._hub.publish(f'{{"stream":"{stream}","data":{message}}}', f"combined:{stream}")

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


def decimal8(value: float) -> str:
    """Return a number as Binance writes prices and quantities: with eight decimals."""
    return f"{value:.8f}"


def kline_row(candle: Candle, interval_ms: int) -> list[object]:
    """Return a candle in the array form of Binance's ``/api/v3/klines``."""
    prices = [decimal8(price) for price in (candle.open, candle.high, candle.low, candle.close)]
    volume, quote = decimal8(candle.ticks * QUANTITY), decimal8(candle.ticks * QUANTITY * candle.close)
    end = candle.start_ms + interval_ms - 1
    return [candle.start_ms, *prices, volume, end, quote, candle.ticks, volume, quote, "0"]


def _kline(candle: Candle, interval_ms: int, interval: str, pair: str, now_ms: int, closed: bool) -> dict[str, object]:
    row = kline_row(candle, interval_ms)
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


def best_prices(asset: str, price: float) -> tuple[str, str]:
    """Return bid and ask around a lead price: one step apart."""
    return decimal8(price), decimal8(price + 10 ** -DECIMALS[asset])


def _book_ticker(tick: Tick, pair: str, number: int) -> dict[str, object]:
    bid, ask = best_prices(tick.asset, tick.price)
    return {"u": number, "s": pair, "b": bid, "B": decimal8(1), "a": ask, "A": decimal8(1)}


def _trade(tick: Tick, pair: str, number: int) -> dict[str, object]:
    price, quantity = decimal8(tick.price), decimal8(QUANTITY)
    base = {"e": "trade", "E": tick.time_ms, "s": pair, "t": number, "p": price, "q": quantity, "T": tick.time_ms}
    return base | {"m": False, "M": True}


def _agg_trade(tick: Tick, pair: str, number: int) -> dict[str, object]:
    price, quantity = decimal8(tick.price), decimal8(QUANTITY)
    base = {"e": "aggTrade", "E": tick.time_ms, "s": pair, "a": number, "p": price, "q": quantity, "f": number}
    return base | {"l": number, "T": tick.time_ms, "m": False, "M": True}


_EVENTS: dict[str, Callable[[Tick, str, int], dict[str, object]]] = {
    "bookTicker": _book_ticker,
    "trade": _trade,
    "aggTrade": _agg_trade,
}


# Binance's WebSockets: combined and raw streams, with its pings, its limits and its end after a day (venue.md 3).


_MAX_STREAMS = 1024
_MESSAGES_A_SECOND = 5  # incoming: pings and pongs count
_PONG_LIMIT_S = 60.0
_NORMAL = 1000


def routes(exchange: Exchange, sockets: Sockets) -> list[web.RouteDef]:
    """Return Binance's stream routes."""

    async def combined(request: web.Request) -> web.StreamResponse:
        """``/stream?streams=a/b``: messages wrapped with their stream's name."""
        return await serve(request, request.query.get("streams", ""), "combined:")

    async def raw(request: web.Request) -> web.StreamResponse:
        """``/ws/STREAM``: messages as they are."""
        return await serve(request, request.match_info.get("stream", ""), "")

    async def serve(request: web.Request, streams: str, form: str) -> web.StreamResponse:
        async with sockets.open(request, autoping=False) as connection:
            stream = _Stream(exchange, connection, form)
            stream.follow(streams.split("/"))
            keeper = asyncio.create_task(stream.keep(), name="binance keeper")
            try:
                await stream.read()
            finally:
                exchange.hub.leave(connection.listener)
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
        return connection.socket

    return [web.get("/stream", combined), web.get("/ws", raw), web.get("/ws/{stream}", raw)]


class _Stream:
    """One connection. ``form`` is the prefix of its topics."""

    def __init__(self, exchange: Exchange, connection: Connection, form: str) -> None:
        self._hub = exchange.hub
        self._clock = exchange.clock
        self._settings = exchange.settings
        self._connection = connection
        self._socket = connection.socket
        self._form = form
        self._loop = asyncio.get_running_loop()
        self._last_pong = self._loop.time()
        self._incoming: deque[float] = deque(maxlen=_MESSAGES_A_SECOND + 1)

    def follow(self, names: list[str]) -> None:
        """Subscribe to streams that exist, up to the limit of a connection."""
        for name in names:
            topic = binance_topic(name)
            if topic is not None and len(self._connection.listener.topics) < _MAX_STREAMS:
                self._hub.subscribe(self._connection.listener, self._form + topic)

    async def read(self) -> None:
        """Take what the client sends until it ends.

        Raises:
            RefusedError: 1008, too many messages a second, or no JSON.
        """
        async for message in self._socket:
            self._count()
            if message.type == WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type == WSMsgType.PONG:
                self._last_pong = self._loop.time()
            elif message.type == WSMsgType.TEXT:
                self._connection.listener.say(json.dumps(self._answer(read_message(message))))

    async def keep(self) -> None:
        """Ping as Binance does; end the connection without pongs, and at its age, announced by ``serverShutdown``."""
        settings, started = self._settings, self._loop.time()
        end, announced = started + settings.binance_lifetime, False
        next_ping = started + settings.binance_ping
        while True:
            notice = max(started, end - settings.binance_notice)
            await asyncio.sleep(max(0.0, min(next_ping, end if announced else notice) - self._loop.time()))
            now = self._loop.time()
            if now >= end:
                await self._socket.close(code=_NORMAL)
                return
            if now >= notice and not announced:
                announced = True
                self._connection.listener.say(json.dumps({"e": "serverShutdown", "E": self._clock()}))
            if now >= next_ping:
                if now - self._last_pong > settings.binance_ping + _PONG_LIMIT_S:
                    await self._socket.close(code=POLICY, message=b"Pong timeout")
                    return
                await self._socket.ping(str(self._clock()).encode())
                next_ping = now + settings.binance_ping

    def _count(self) -> None:
        now = self._loop.time()
        self._incoming.append(now)
        if len(self._incoming) > _MESSAGES_A_SECOND and now - self._incoming[0] < 1.0:
            raise RefusedError(POLICY, "Too many requests")

    def _answer(self, message: Any) -> dict[str, object]:
        method = message.get("method") if isinstance(message, dict) else None
        names = strings(message.get("params")) if isinstance(message, dict) else []
        listener = self._connection.listener
        if method == "SUBSCRIBE":
            self.follow(names)
        elif method == "UNSUBSCRIBE":
            for name in names:
                self._hub.unsubscribe(listener, self._form + (binance_topic(name) or ""))
        elif method != "LIST_SUBSCRIPTIONS":
            return {"error": {"code": 2, "msg": "Invalid request"}, "id": None}
        listed = sorted(topic.removeprefix(self._form) for topic in listener.topics)
        return {"result": listed if method == "LIST_SUBSCRIPTIONS" else None, "id": message.get("id")}
