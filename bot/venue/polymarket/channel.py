"""The orders channel: connections for everything that changes something at the venue (orders, heartbeats).

Closing it is part of yielding, and dying is a way of closing: afterwards nothing of ours may arrive that had not left.
A plain TCP close keeps delivering what the kernel holds, for minutes where the network stalls. So its sockets have
- SO_LINGER 0: closing, or the death of the process, discards what was not delivered and resets the connection;
- TCP_USER_TIMEOUT below the request's time limit: a network that stalls ends the connection before we give up on it.
One request a connection at a time (HTTP/1.1), so that ending one never touches another; no retries, no redirects, no
proxy from the environment. Orders have connections of their own (`http1`), of which one is always open and warm.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
import struct
import time
from contextlib import suppress

import httpx
from polymarket.clients._transport import AsyncTransport
from polymarket.clients.async_secure import _make_l2_header_resolver

from bot.venue.polymarket.client import BoundedClient, Identity, TimeLimits
from bot.venue.polymarket.http1 import BrokenError, Connection, SocketOption, Target, dial

ORDER_PATH = "/order"
_CONNECTIONS = 32
_KEEPALIVE_S = 60.0  # Below what the venue and paper (aiohttp: 75 s) keep an idle connection for.
_USER_TIMEOUT_SHARE = 0.8
_WARM_EVERY_S = 15.0


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


class OrderRequests:
    """Makes the request that posts an order: what never changes once, the rest in a few lines (venue.md 1.4).

    Raises ValueError: the secret of the credentials is no base64.
    """

    def __init__(self, target: Target, identity: Identity) -> None:
        self.target, credentials = target, identity.credentials
        try:
            self._secret = base64.urlsafe_b64decode(credentials.secret + "=" * (-len(credentials.secret) % 4))
        except ValueError:  # its text may hold a part of the secret
            raise ValueError(
                "the credentials' secret is not base64; remove their file and derive them anew with `./ns credentials`"
            ) from None
        self._head = target.head(
            "POST",
            ORDER_PATH,
            {
                "Content-Type": "application/json",
                "POLY_ADDRESS": identity.signer.address,
                "POLY_API_KEY": credentials.key,
                "POLY_PASSPHRASE": credentials.passphrase,
            },
        )

    def request(self, body: str, now_s: int) -> bytes:
        """The whole request. now_s: UTC seconds."""
        digest = hmac.digest(self._secret, f"{now_s}POST{ORDER_PATH}{body}".encode(), hashlib.sha256)
        signature = base64.urlsafe_b64encode(digest).decode("ascii")
        data = body.encode()
        head = (
            f"{self._head}POLY_SIGNATURE: {signature}\r\nPOLY_TIMESTAMP: {now_s}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return head.encode("latin-1") + data


class OrdersChannel:
    """The connections and the L2 headers. Errors are those of httpx (`post_order`) and of the library (`transport`).

    After `close` no connection is made and nothing is sent.
    """

    def __init__(
        self,
        identity: Identity,
        orders: OrderRequests,
        clob_url: str,
        ssl_context: ssl.SSLContext,
        limits: TimeLimits,
    ) -> None:
        self._client = BoundedClient(
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
        headers = _make_l2_header_resolver(identity.signer, identity.credentials)
        self.transport = AsyncTransport(base_url=clob_url, client=self._client, header_resolver=headers)
        """The library's transport over these connections, for heartbeats."""

        self._orders, self._target = orders, orders.target
        self._options, self._limits = socket_options(limits.send_s), limits
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    async def warm(self) -> None:
        """Open one connection, so that the first order does not wait for TCP and TLS, and keep one warm from now on.

        By a request that changes nothing. Raises as `post_order`.
        """
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_warm(), name="orders-channel-warm")
        await self._ask(self._target.request("GET", "/time", {}), await self._connection())

    async def post_order(self, body: str) -> httpx.Response:
        """POST exactly these bytes. The library's own transport would serialise a body again before signing it.

        Raises httpx.ConnectError (nothing was sent), httpx.ReadError (it may have been).
        """
        connection = await self._connection()  # first: a request is signed when it leaves
        return await self._ask(self._orders.request(body, int(time.time())), connection)

    def begin_order(self, body: str) -> Connection | None:
        """The same in this very turn of the loop, where a connection is open and idle; `end` waits for the answer.

        None: nothing was sent.
        """
        connection = self._idle_connection()
        if connection is not None:
            self._busy.add(connection)
            connection.begin(self._orders.request(body, int(time.time())))
        return connection

    async def end(self, connection: Connection) -> httpx.Response:
        """The answer to what was begun. Raises httpx.ReadError."""
        try:
            answer = await connection.answer()
        except BrokenError as error:
            raise httpx.ReadError(str(error)) from error
        finally:
            self._busy.discard(connection)
            if connection.usable and not self._closed:
                self._idle.append(connection)
        return httpx.Response(answer.status, content=answer.body)

    def sockets(self) -> list[socket.socket]:
        """The sockets of the open connections for orders."""
        return [connection.socket() for connection in (*self._idle, *self._busy)]

    async def close(self) -> None:
        """Abort all connections; a request in flight fails."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()
        await self._client.aclose()

    async def _ask(self, request: bytes, connection: Connection) -> httpx.Response:
        self._busy.add(connection)
        connection.begin(request)
        return await self.end(connection)

    def _idle_connection(self) -> Connection | None:
        """The idle one that was used last."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < _KEEPALIVE_S:
                return connection
            connection.abort()
        return None

    async def _connection(self) -> Connection:
        """One that is idle, or a new one. Raises httpx.ConnectError."""
        idle = self._idle_connection()
        if idle is not None:
            return idle
        self._check_open()
        if len(self._busy) >= _CONNECTIONS:
            raise httpx.ConnectError(f"all {_CONNECTIONS} connections of the orders channel are waiting for an answer")
        try:
            connection = await dial(self._target, self._options, self._limits.connect_s)
        except OSError as error:
            raise httpx.ConnectError(str(error) or type(error).__name__) from error
        try:
            self._check_open()  # it may have been closed meanwhile
        except httpx.ConnectError:
            connection.abort()
            raise
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the orders channel is closed")

    async def _keep_warm(self) -> None:
        """Use the connection that the next order would take once in a while, or make one; and let old ones go."""
        while True:
            await asyncio.sleep(_WARM_EVERY_S)
            now = asyncio.get_running_loop().time()
            if any(connection.usable and now - connection.idle_since < _WARM_EVERY_S for connection in self._idle):
                continue
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(self._limits.send_s):
                    await self._ask(self._target.request("GET", "/time", {}), await self._connection())
