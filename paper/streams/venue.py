"""The venue's WebSockets: the market and the user channel."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from paper.engine.exchange import Exchange
from paper.errors import RefusedError
from paper.hub import Listener
from paper.streams.sockets import POLICY, Sockets, strings
from paper.streams_market import NEW_MARKETS

__all__ = ["routes"]


def routes(exchange: Exchange, sockets: Sockets) -> list[web.RouteDef]:
    """Return the routes of both channels."""
    hub = exchange.hub

    def follow(listener: Listener, token: str, *, custom: bool) -> None:
        market = exchange.markets.of_token(token, exchange.clock())
        if market is None:
            return
        if custom:
            hub.subscribe(listener, f"custom:{token}")
        if f"token:{token}" not in listener.topics:
            hub.subscribe(listener, f"token:{token}")
            outcome = market.window.token_ids.index(token)
            listener.say(exchange.market_streams.snapshot(exchange.book(market), outcome, exchange.clock()))

    async def market(request: web.Request) -> web.StreamResponse:
        """Subscribe by asset ids; each new one is answered with its book."""
        async with sockets.open(request) as connection:
            listener = connection.listener
            began, custom = False, False

            async def on_message(message: Any) -> None:
                nonlocal began, custom
                if not isinstance(message, dict):
                    raise RefusedError(POLICY, "invalid message")
                began, custom = True, bool(message.get("custom_feature_enabled", custom))
                if custom:
                    hub.subscribe(listener, NEW_MARKETS)
                for token in strings(message.get("assets_ids")):
                    if message.get("operation") == "unsubscribe":
                        hub.unsubscribe(listener, f"token:{token}")
                        hub.unsubscribe(listener, f"custom:{token}")
                    else:
                        follow(listener, token, custom=custom)

            try:
                await sockets.talk(connection, on_message, lambda: began)
            finally:
                hub.leave(listener)
        return connection.socket

    async def user(request: web.Request) -> web.StreamResponse:
        """The first message authenticates; ``markets`` limits what is sent."""
        async with sockets.open(request) as connection:
            listener = connection.listener
            address = ""

            async def on_message(message: Any) -> None:
                nonlocal address
                if not isinstance(message, dict):
                    raise RefusedError(POLICY, "invalid message")
                if "auth" in message:
                    address = _authenticate(exchange, message["auth"])
                if not address:
                    raise RefusedError(POLICY, "authenticate first")
                topics = {f"user:{address}:{one.lower()}" for one in strings(message.get("markets"))}
                if message.get("operation") == "unsubscribe":
                    for topic in topics:
                        hub.unsubscribe(listener, topic)
                elif topics:
                    hub.unsubscribe(listener, f"user:{address}")
                    for topic in topics:
                        hub.subscribe(listener, topic)
                elif not listener.topics:
                    hub.subscribe(listener, f"user:{address}")

            try:
                await sockets.talk(connection, on_message, lambda: address != "")
            finally:
                hub.leave(listener)
        return connection.socket

    return [web.get("/ws/market", market), web.get("/ws/user", user)]


def _authenticate(exchange: Exchange, auth: object) -> str:
    """Return the address of the credentials.

    Raises:
        RefusedError: 1008, they are no active API key's.
    """
    given = auth if isinstance(auth, dict) else {}
    key = exchange.keys.check_credentials(given.get("apiKey"), given.get("secret"), given.get("passphrase"))
    if key is None:
        raise RefusedError(POLICY, "authentication failed")
    return key.address
