"""What a capture sees, into a recording; and one capture for several who listen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from recording.format import NoteKind
from recording.streams import Sink
from recording.writer import FLUSH_EVERY_S, Writer


class Recorder:
    """Writes every frame, and when connections stood, into a recording."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def frame(self, source: str, text: str) -> None:
        """Write a message that came now."""
        self.writer.add(source, text)

    def opened(self, source: str) -> None:
        """Note that a connection stands."""
        self.writer.note(NoteKind.OPENED, source)

    def lost(self, source: str, reason: str) -> None:
        """Note that a connection is gone."""
        self.writer.note(NoteKind.LOST, source, reason)

    async def run(self) -> None:
        """Flush twice a second, in a thread, until cancelled; ends the recording in order then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY_S)
                await asyncio.to_thread(self.writer.flush)
        finally:
            self.writer.close()


class Tee:
    """Hands each frame to several sinks, in order."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = tuple(sinks)

    def frame(self, source: str, text: str) -> None:
        """Hand a message on."""
        for sink in self._sinks:
            sink.frame(source, text)

    def opened(self, source: str) -> None:
        """Hand it on."""
        for sink in self._sinks:
            sink.opened(source)

    def lost(self, source: str, reason: str) -> None:
        """Hand it on."""
        for sink in self._sinks:
            sink.lost(source, reason)
