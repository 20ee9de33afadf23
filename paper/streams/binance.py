"""Binance's WebSockets: combined and raw streams, with its pings, its limits and its end after a day (venue.md 3)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

from aiohttp import WSMsgType, web

from paper.engine.exchange import Exchange
from paper.errors import RefusedError
from paper.streams.sockets import POLICY, Connection, Sockets, read_message, strings
from paper.streams_binance import binance_topic

__all__ = ["routes"]

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
