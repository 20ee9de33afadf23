"""A WebSocket connection that hands a message over in the same turn of the loop in which it was read.

The library puts each message into a queue and wakes a task for it: a turn of the loop between a price and the look at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event


class StraightConnection(ClientConnection):
    """As the library's, but for whole text messages once `follow` was called. All others are queued for `recv` as ever."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._take: Callable[[bytes], None] | None = None
        self._after_read: Callable[[], None] = lambda: None

    def follow(self, take: Callable[[bytes], None], after_read: Callable[[], None]) -> None:
        """Hand over from now on. Neither may raise.

        Args:
            take: called with each whole text message, undecoded.
            after_read: called once all messages of one read of the socket were taken.
        """
        self._take, self._after_read = take, after_read

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        self._after_read()

    def process_event(self, event: Event) -> None:
        """Called by the library for each frame."""
        if self._take is not None and isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin:
            self._take(bytes(event.data))
        else:
            super().process_event(event)
