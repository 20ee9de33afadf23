"""WebSockets: what all channels share. A channel says what a message does; this runs the connection."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from paper.engine.faults import FaultOrder, Faults
from paper.errors import RefusedError

# Who listens to what: topics, and what waits to be written to each connection.
#
# A message is framed once for all its listeners, and everything that one turn of the event loop brings to a connection is
# written at once: a system call a message would be most of the exchange's work.


_FINAL_TEXT, _FINAL_CLOSE = 0x81, 0x88
_SHORT, _LONG = 125, 65_535


def text_frame(message: str) -> bytes:
    """Return a WebSocket text frame as servers send it (RFC 6455, 5.2: final, not masked)."""
    payload = message.encode()
    size = len(payload)
    if size <= _SHORT:
        return bytes((_FINAL_TEXT, size)) + payload
    if size <= _LONG:
        return bytes((_FINAL_TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FINAL_TEXT, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return the frame that ends a WebSocket with a code and a short reason (RFC 6455, 5.5.1)."""
    payload = code.to_bytes(2, "big") + reason.encode()
    return bytes((_FINAL_CLOSE, len(payload))) + payload


def frame_text(frame: bytes) -> str:
    """Return the message of a text frame of ``text_frame``; of a list without its brackets."""
    size = frame[1]
    text = frame[2 if size <= _SHORT else 4 if size == 126 else 10 :].decode()
    return text[1:-1] if text.startswith("[") else text


class Listener:
    """One connection's part of the hub.

    Args:
        write: takes the frames of one turn of the loop, in order; bounding what a slow connection holds is its duty.
    """

    def __init__(self, write: Callable[[list[bytes]], None]) -> None:
        self._write = write
        self._waiting: list[bytes] = []
        self.topics: set[str] = set()

    def put(self, frame: bytes) -> None:
        """Write a frame at the end of this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(frame)

    def say(self, message: str) -> None:
        """Write a message to this connection alone."""
        self.put(text_frame(message))

    def _flush(self) -> None:
        frames, self._waiting = self._waiting, []
        self._write(frames)


class Broadcaster:
    """Topics and their listeners."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)

    def wanted(self, *topics: str) -> bool:
        """Whether anybody listens; saves building messages for nobody."""
        return any(topic in self._listeners for topic in topics)

    def publish(self, message: str, *topics: str) -> None:
        """Send a message to everybody who listens to one of these topics, once."""
        chosen: set[Listener] = set()
        for topic in topics:
            chosen |= self._listeners.get(topic, set())
        if chosen:
            frame = text_frame(message)
            for listener in chosen:
                listener.put(frame)

    def subscribe(self, listener: Listener, topic: str) -> None:
        """Add a listener to a topic."""
        listener.topics.add(topic)
        self._listeners[topic].add(listener)

    def unsubscribe(self, listener: Listener, topic: str) -> None:
        """Remove a listener from a topic."""
        listener.topics.discard(topic)
        listeners = self._listeners.get(topic, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(topic, None)

    def leave(self, listener: Listener) -> None:
        """Remove a listener from everything."""
        for topic in tuple(listener.topics):
            self.unsubscribe(listener, topic)


# WebSockets: what all channels share. A channel says what a message does; this runs the connection.


POLICY = 1008
_PONGS = {"PING": "PONG", "ping": "pong"}  # small letters: real-time-data-client
_GOING_AWAY = 1001
_TRY_LATER = 1013
_LOST_EACH = 3  # of the frames under the fault that loses some
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
        self._seen = 0  # frames under the fault that loses some

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
        if self._faults.active("lost_events", self.path, now):
            numbered = [*enumerate(frames, self._seen)]
            self._seen += len(frames)
            frames = [frame for number, frame in numbered if number % _LOST_EACH]
        if self._faults.active("odd_events", self.path, now):
            frames = [text_frame(f'["odd",{frame_text(frame)}]') for frame in frames]
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
        await asyncio.gather(*(connection.socket.close(code=_GOING_AWAY) for connection in [*self._open]))

    def drop(self, path: str) -> int:
        """Break the connections whose path starts with ``path``, without a word; return how many."""
        chosen = [connection for connection in self._open if connection.path.startswith(path)]
        for connection in chosen:
            connection.abort()
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
        """Hand every JSON message on until the other side ends. ``PING`` and ``ping`` are answered once the channel has begun.

        Raises:
            RefusedError: 1008, a message is no JSON, or PING came before the first subscription (venue.md 3).
        """
        async for message in connection.socket:
            if message.type != WSMsgType.TEXT:
                continue
            if message.data in _PONGS:
                if not began():
                    raise RefusedError(POLICY, "subscribe first")
                await connection.socket.send_str(_PONGS[message.data])
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
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
