"""Where recorded times stand on the clock of now. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from paper.engine.markets import Window, parse_timeframe
from paper.errors import UsageError

LEAST_S = 5  # of a window, as everywhere in paper


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Recorded time to shown time: ``shown = shown_ms + (recorded - recorded_ms) / speed``.

    Windows keep their places on the grid, shortened by the speed: at 10, a window of 5m is one of 30s.
    """

    recorded_ms: int = 0
    """A time of the recording that lies on the grid of all its windows."""
    shown_ms: int = 0
    """When that is shown, on the shortened grid."""
    speed: float = 1.0

    def shown(self, recorded_ms: int) -> int:
        """The shown time of a recorded one."""
        if self.speed == 1.0:
            return recorded_ms + self.shown_ms - self.recorded_ms
        return self.shown_ms + round((recorded_ms - self.recorded_ms) / self.speed)

    def length(self, ms: int) -> int:
        """A length of time as it is shown."""
        return ms if self.speed == 1.0 else round(ms / self.speed)

    def timeframe(self, name: str) -> str:
        """The shown name of a timeframe.

        Raises:
            UsageError: it would be no whole number of seconds, or less than 5.
        """
        if self.speed == 1.0:
            return name
        seconds = parse_timeframe(name) / self.speed
        if seconds != round(seconds) or seconds < LEAST_S:
            raise UsageError(
                f"--speed {self.speed:g}: windows of {name} would last {seconds:g} s; give a speed that makes whole seconds, "
                f"{LEAST_S} at least"
            )
        return f"{round(seconds)}s"

    def window(self, asset: str, timeframe: str, start_ms: int) -> Window:
        """The shown window of a recorded one. Raises UsageError, as ``timeframe`` does."""
        return Window(asset, self.timeframe(timeframe), self.shown(start_ms))


def place(first_ms: int, last_ms: int, timeframes: tuple[str, ...], speed: float, now_ms: int) -> TimeMap:
    """Lay a recording onto the clock of now, window grid upon window grid.

    A long recording is joined where the grid of now stands, so that its first part is passed over; one of less than four
    of its longest windows begins with the next of these.

    Args:
        first_ms, last_ms: of the recording.
        timeframes: of its windows.

    Raises:
        UsageError: the speed does not fit its windows.
    """
    grid = math.lcm(*(parse_timeframe(name) for name in timeframes)) * 1000 if timeframes else 60_000
    probe = TimeMap(speed=speed)
    for name in timeframes:
        probe.timeframe(name)
    shown_grid = round(grid / speed)
    begin = first_ms - first_ms % grid
    shown = now_ms - now_ms % shown_grid
    offset = (first_ms - begin) / speed
    if last_ms - first_ms < 4 * grid and shown + offset < now_ms:
        shown += shown_grid
    return TimeMap(begin, shown, speed)
