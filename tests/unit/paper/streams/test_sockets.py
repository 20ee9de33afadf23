"""One WebSocket's bounded way out, without a network."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from paper.engine.faults import Faults
from paper.streams.sockets import Connection, close_frame, text_frame

TRY_LATER = 1013


class Transport:
    """Keeps what is written, as a client that reads nothing leaves it."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed, self.aborted = False, asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted.set()


async def test_a_reader_that_is_too_slow_is_told_to_try_later() -> None:
    """Beyond what may wait for it the last frame closes with 1013, as the venue does, and nothing is written after it."""
    transport = Transport()
    request = cast("Any", SimpleNamespace(transport=transport, path="/ws/market"))
    connection = Connection(cast("Any", SimpleNamespace(closed=False)), request, Faults(), lambda: 0)
    frame = text_frame("x" * 60_000)
    for _ in range(80):
        connection.listener.put(frame)
        await asyncio.sleep(0)
    assert transport.closed
    assert transport.written.endswith(close_frame(TRY_LATER, "slow consumer"))
    assert len(transport.written) < 80 * len(frame)
