"""WebSockets: what all channels share. A channel says what a message does; this runs the connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from paper.engine.faults import FaultOrder, Faults
from paper.errors import RefusedError
from paper.hub import Listener, close_frame

__all__ = ["POLICY", "Connection", "Sockets", "strings"]

POLICY = 1008
_GOING_AWAY = 1001
_TRY_LATER = 1013
_FLUSH_S = 5.0  # for a slow reader to see why
_MAX_MESSAGE = 1 << 20
_MAX_UNSENT = 4 << 20  # bytes that a connection may be behind

OnText = Callable[[Any], Awaitable[None]]


class Connection:
    """One open WebSocket: what it follows, and its bounded way out."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, faults: Faults, clock: Callable[[], int]):
        self.socket = socket
        self.request = request
        self.listener = Listener(self._write)
        self._faults = faults
        self._clock = clock
        self._kept_back: bytes | None = None

    @property
    def path(self) -> str:
        """The path that it was opened with."""
        return self.request.path

    def abort(self) -> None:
        """Break the connection without a word."""
        if self.request.transport is not None:
            self.request.transport.abort()

    def _write(self, frames: list[bytes]) -> None:
        """Write frames, as far as faults let them; a connection that is too far behind is broken."""
        transport = self.request.transport
        if transport is None or transport.is_closing() or self.socket.closed:
            return
        if self._faults.armed or self._kept_back is not None:
            frames = self._distort(frames)
        transport.write(b"".join(frames))
        if transport.get_write_buffer_size() > _MAX_UNSENT:
            # As the venue ends a slow reader. The code waits behind what is unsent: who reads no more never sees it.
            transport.write(close_frame(_TRY_LATER, "slow consumer"))
            transport.close()
            asyncio.get_running_loop().call_later(_FLUSH_S, transport.abort)

    def _distort(self, frames: list[bytes]) -> list[bytes]:
        now = self._clock()
        if self._faults.active("freeze_streams", self.path, now):
            return []
        if self._faults.active("duplicate_events", self.path, now):
            frames = [frame for frame in frames for _ in (1, 2)]
        if self._kept_back is not None:
            frames, self._kept_back = [*frames, self._kept_back], None
        elif self._faults.active("reorder_events", self.path, now):
            self._kept_back = frames.pop()  # what comes next overtakes it
        return frames


class Sockets:
    """All open WebSockets."""

    def __init__(self, faults: Faults, clock: Callable[[], int]) -> None:
        self._faults = faults
        self._clock = clock
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def close_all(self) -> None:
        """Close every WebSocket: the server goes away."""
        await asyncio.gather(*(one.socket.close(code=_GOING_AWAY) for one in [*self._open]))

    def drop(self, path: str) -> int:
        """Break the connections whose path starts with ``path``, without a word; return how many."""
        chosen = [one for one in self._open if one.path.startswith(path)]
        for one in chosen:
            one.abort()
        return len(chosen)

    def arm(self, order: FaultOrder) -> dict[str, object]:
        """Arm what a fault order asks for, or do it now; return what was done."""
        if order.kind == "drop_streams":
            return {"dropped": self.drop(order.path)}
        faults = order.faults(self._clock())
        for fault in faults:
            self._faults.arm(fault)
        return faults[0].body

    @asynccontextmanager
    async def open(self, request: web.Request, *, autoping: bool = True) -> AsyncIterator[Connection]:
        """Accept a WebSocket and know it until it ends. A refusal on the way closes it: its status is the close code."""
        socket = web.WebSocketResponse(max_msg_size=_MAX_MESSAGE, compress=False, timeout=1.0, autoping=autoping)
        await socket.prepare(request)
        connection = Connection(socket, request, self._faults, self._clock)
        self._open.add(connection)
        try:
            yield connection
        except RefusedError as error:
            await socket.close(code=error.status, message=error.text.encode()[:100])
        finally:
            self._open.discard(connection)

    async def talk(self, connection: Connection, on_message: OnText, began: Callable[[], bool]) -> None:
        """Hand every JSON message on until the other side ends. ``PING`` is answered once the channel has begun.

        Raises:
            RefusedError: 1008, a message is no JSON, or PING came before the first subscription (venue.md 3).
        """
        async for message in connection.socket:
            if message.type != WSMsgType.TEXT:
                continue
            if message.data == "PING":
                if not began():
                    raise RefusedError(POLICY, "subscribe first")
                await connection.socket.send_str("PONG")
                continue
            await on_message(read_message(message))


def read_message(message: WSMessage) -> Any:
    """Return a message's JSON.

    Raises:
        RefusedError: 1008, it is none.
    """
    try:
        return json.loads(message.data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(POLICY, "invalid message") from error


def strings(value: object) -> list[str]:
    """Return the texts of a list; nothing of what is no list."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
