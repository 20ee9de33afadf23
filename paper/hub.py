"""Who listens to what: topics, and what waits to be written to each connection.

A message is framed once for all its listeners, and everything that one turn of the event loop brings to a connection is
written at once: a system call a message would be most of the exchange's work.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

__all__ = ["Hub", "Listener", "close_frame", "text_frame"]

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


class Hub:
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
