"""The orders channel: connections for everything that changes something at the venue (orders, cancels, heartbeats).

Closing it is part of yielding, and dying is a way of closing: afterwards nothing of ours may arrive that had not left.
A plain TCP close keeps delivering what the kernel holds, for minutes where the network stalls. So its sockets have
- SO_LINGER 0: closing, or the death of the process, discards what was not delivered and resets the connection;
- TCP_USER_TIMEOUT below the request's time limit: a network that stalls ends the connection before we give up on it.
One request a connection at a time (HTTP/1.1), so that ending one never touches another; no retries, no redirects, no
proxy from the environment.
"""

from __future__ import annotations

import socket
import ssl
import struct

import httpx
from polymarket.clients._transport import AsyncTransport
from polymarket.clients.async_secure import _make_l2_header_resolver

from bot.venue.polymarket.client import Identity, TimeLimits

SocketOption = tuple[int, int, int] | tuple[int, int, bytes]

_CONNECTIONS = 32
_KEEPALIVE_S = 60.0  # Below what the venue and paper (aiohttp: 75 s) keep an idle connection for.
_USER_TIMEOUT_SHARE = 0.8


def socket_options(send_s: float) -> list[SocketOption]:
    """What is set on every socket of the channel; TCP_USER_TIMEOUT only where the platform has it (Linux)."""
    options: list[SocketOption] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    ]
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if user_timeout is not None:
        options.append((socket.IPPROTO_TCP, user_timeout, int(send_s * 1000 * _USER_TIMEOUT_SHARE)))
    return options


class OrdersChannel:
    """The connections and the L2 headers. Errors are those of httpx (`post_exact`) and of the library (`transport`)."""

    def __init__(self, identity: Identity, clob_url: str, ssl_context: ssl.SSLContext, limits: TimeLimits) -> None:
        self._client = httpx.AsyncClient(
            base_url=clob_url,
            timeout=httpx.Timeout(limits.send_s, connect=limits.connect_s),
            trust_env=False,
            transport=httpx.AsyncHTTPTransport(
                verify=ssl_context,
                retries=0,
                limits=httpx.Limits(
                    max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_KEEPALIVE_S
                ),
                socket_options=socket_options(limits.send_s),
            ),
        )
        self._headers = _make_l2_header_resolver(identity.signer, identity.credentials)
        self.transport = AsyncTransport(base_url=clob_url, client=self._client, header_resolver=self._headers)
        """The library's transport over these connections, for cancels and heartbeats."""

    async def warm(self) -> httpx.Response:
        """Open one connection, so that the first order does not wait for TCP and TLS. A request that changes nothing."""
        return await self._client.get("/time")

    async def post_exact(self, path: str, body: str) -> httpx.Response:
        """POST exactly these bytes. The library's own transport would serialise a body again before signing it."""
        headers = {**await self._headers("POST", path, body), "Content-Type": "application/json"}
        return await self._client.post(path, content=body.encode("utf-8"), headers=headers)

    async def close(self) -> None:
        """Abort all connections; a request in flight fails."""
        await self._client.aclose()
