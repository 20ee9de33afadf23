"""Which connections the panel keeps open: those that wait for a request are few and short, whoever opened them.

A connection waits from its first byte until the guard admits a request on it, and again once that one is answered. While it
waits it proves nothing, so it costs little: it has a deadline, each peer has a limit, and where there are too many the oldest
goes. A new connection is therefore never turned away, and whoever has a token, or asks for Halt, finds a place.
What is served is limited by token, in the guard.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

DEADLINE_S = 5.0
PEER_LIMIT = 32
WAITING_LIMIT = 64
# One that came just now may have sent its request already: it is read before anybody decides about it.
GRACE_S = 0.25
HARD_LIMIT = 400

Client = tuple[str, int]


class Closable(Protocol):
    """What can be ended at once."""

    def abort(self) -> None:
        """End it without waiting for what was not sent yet."""


@dataclass(slots=True)
class _Waiting:
    peer: str
    since_s: float
    timer: asyncio.TimerHandle


class Connections:
    """All connections of one panel, by the address of their other end. Belongs to one event loop."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._open: dict[Client, Closable] = {}
        self._waiting: dict[Client, _Waiting] = {}  # the one that waits longest first
        self.evicted = 0

    @property
    def waiting(self) -> int:
        """How many wait for a request that may be answered."""
        return len(self._waiting)

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, client: Client, connection: Closable) -> None:
        """A connection was made; one that waited too long may go for it."""
        self._open[client] = connection
        self.waits(client)
        self._make_room(client[0])

    def waits(self, client: Client) -> None:
        """From now on it has DEADLINE_S to bring a request that is admitted."""
        if client not in self._open:
            return
        self._stop_waiting(client)
        timer = asyncio.get_running_loop().call_later(DEADLINE_S, self.drop, client)
        self._waiting[client] = _Waiting(client[0], self._now_s(), timer)

    def serves(self, client: Client | None) -> None:
        """Its request was admitted."""
        if client is not None:
            self._stop_waiting(client)

    def closed(self, client: Client) -> None:
        """It ended by itself."""
        self._stop_waiting(client)
        self._open.pop(client, None)

    def drop(self, client: Client) -> None:
        """End it now."""
        connection = self._open.get(client)
        self.closed(client)
        if connection is not None:
            self.evicted += 1
            connection.abort()

    def _stop_waiting(self, client: Client) -> None:
        waiting = self._waiting.pop(client, None)
        if waiting is not None:
            waiting.timer.cancel()

    def _make_room(self, peer: str) -> None:
        """Drop the longest waiting of a peer that has too many, and of the peer with the most where all are too many."""
        while len(of_peer := self._of(peer)) > PEER_LIMIT and self._drop_first(of_peer):
            pass
        while len(self._waiting) > WAITING_LIMIT:
            peers = {waiting.peer for waiting in self._waiting.values()}
            if not self._drop_first(max(map(self._of, peers), key=len)):
                return

    def _of(self, peer: str) -> list[Client]:
        return [client for client, waiting in self._waiting.items() if waiting.peer == peer]

    def _drop_first(self, clients: list[Client]) -> bool:
        in_grace = self._now_s() - self._waiting[clients[0]].since_s < GRACE_S
        if in_grace and len(self._waiting) <= HARD_LIMIT:
            return False
        self.drop(clients[0])
        return True


def protocol_of(connections: Connections) -> type[H11Protocol]:
    """uvicorn's protocol, which tells `connections` what becomes of each one."""

    class Counted(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                connections.opened(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.closed(self.client)
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.client is not None:
                connections.waits(self.client)

    return Counted


def count_handshakes(config: Config, connections: Connections) -> None:
    """Let the connections of a panel with TLS count from their first byte on, and not only once they have shaken hands.

    uvicorn hears of a connection after its handshake, for which asyncio gives it a minute.
    """
    config.load()
    context, counted = config.ssl, config.http_protocol_class
    if context is None:
        return
    config.ssl = None

    def make(**named: object) -> asyncio.Protocol:
        make_inner = cast(Callable[..., asyncio.Protocol], counted)
        return _Handshake(lambda: make_inner(**named), context, connections)

    config.http_protocol_class = make  # type: ignore[assignment]  # uvicorn only calls it


class _Handshake(asyncio.Protocol):
    """A connection before TLS; it hands over to the protocol behind once that stands."""

    def __init__(self, make: Callable[[], asyncio.Protocol], context: ssl.SSLContext, connections: Connections) -> None:
        self._make, self._context, self._connections = make, context, connections
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast(asyncio.Transport, transport)
        raw.pause_reading()  # what comes now is for TLS
        peer = raw.get_extra_info("peername")
        if peer:
            self._client = (str(peer[0]), int(peer[1]))
            self._connections.opened(self._client, raw)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(raw), name="handshake")

    async def _shake_hands(self, raw: asyncio.Transport) -> None:
        early = _Early()
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                raw, early, self._context, server_side=True, ssl_handshake_timeout=DEADLINE_S
            )
        except (OSError, ssl.SSLError, TimeoutError):  # a stranger's doing: plain HTTP, a scan, silence
            secured = None
        if secured is None or early.lost:
            raw.abort()
            if self._client is not None:
                self._connections.closed(self._client)
            return
        protocol = self._make()
        protocol.connection_made(secured)
        secured.set_protocol(protocol)
        if early.data:
            protocol.data_received(bytes(early.data))


class _Early(asyncio.Protocol):
    """Keeps what comes right behind the handshake, before the protocol that it is for is told of the connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
