"""Plays a recording into a mirror, at its own pace or faster."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from paper.errors import UsageError
from paper.mirror.clock import TimeMap, place
from paper.mirror.mirror import Mirror
from recording import Frame, MarketEvent, Note, NoteKind, Origin, Reader, RecordingError, decode
from recording.reader import GAP_MS

_LOG = logging.getLogger("paper")
_LONG_GAP_MS = 600_000  # what is longer is passed over: the windows after it begin with the next ones of now
_AT_ONCE = 100  # frames of one moment between two turns of the loop
_SCANNED = 2_000_000  # items that are looked through for the windows' lengths


class Player:
    """A recording that is to be played.

    Args:
        path: of the recording.
        speed: how many times faster than it was; 1 for its own pace.

    Raises:
        UsageError: there is no recording that can be read, it has no markets, or the speed does not fit its windows.
    """

    def __init__(self, path: Path, speed: float) -> None:
        self._speed = speed
        try:
            self.reader = Reader(path)
            self._first_ms, self._last_ms, self.timeframes = _look_through(self.reader)
        except RecordingError as error:
            raise UsageError(f"--recording {error}") from error
        if not self.timeframes:
            raise UsageError(f"--recording {path}: it tells of no Up/Down market; expected frames of the source gamma")
        self.shown_timeframes = tuple(TimeMap(speed=speed).timeframe(name) for name in self.timeframes)

    def times(self, now_ms: int) -> TimeMap:
        """Where the recording stands on the clock of now."""
        return place(self._first_ms, self._last_ms, self.timeframes, self._speed, now_ms)

    async def play(self, mirror: Mirror, clock: Callable[[], int]) -> None:
        """Play it to its end, and say what was wrong with it."""
        before_ms, count = 0, 0
        for item in self.reader:
            if before_ms and item.recv_ms - before_ms > GAP_MS:
                mirror.lost(Origin.CLOB, f"nothing was recorded for {(item.recv_ms - before_ms) / 1000:.0f} s")
                mirror.opened(Origin.CLOB)
                if item.recv_ms - before_ms > _LONG_GAP_MS:
                    mirror.times = place(item.recv_ms, item.recv_ms, self.timeframes, self._speed, clock())
            before_ms, count = item.recv_ms, count + 1
            wait_ms = mirror.times.shown(item.recv_ms) - clock()
            if wait_ms > 0 or count % _AT_ONCE == 0:
                await asyncio.sleep(max(0, wait_ms) / 1000)
            _hand(mirror, item)
        mirror.lost(Origin.CLOB, "the recording has ended")  # what books were at its end, they are no more
        facts = {str(kind): number for kind, number in self.reader.counts.items()}
        _LOG.info("recording ended", extra={"facts": {"frames": self.reader.frames, "problems": facts}})
        for problem in self.reader.problems[:20]:
            _LOG.warning("recording problem", extra={"facts": {"kind": str(problem.kind), "reason": problem.text}})


def _hand(mirror: Mirror, item: Frame | Note) -> None:
    if isinstance(item, Frame):
        mirror.take(item)
    elif item.kind is NoteKind.OPENED:
        mirror.opened(item.source)
    elif item.kind is NoteKind.LOST:
        mirror.lost(item.source, item.reason)


def _look_through(reader: Reader) -> tuple[int, int, tuple[str, ...]]:
    """When a recording begins and ends (or a time up to which it surely goes on), and the lengths of its windows."""
    first_ms = last_ms = 0
    timeframes: dict[str, None] = {}
    for item in itertools.islice(reader, _SCANNED):
        first_ms, last_ms = first_ms or item.recv_ms, item.recv_ms
        if isinstance(item, Frame) and item.source == Origin.GAMMA:
            timeframes |= {event.timeframe: None for event in decode(item) if isinstance(event, MarketEvent)}
    return first_ms, last_ms, tuple(timeframes)
