"""Builds give way to the trader: they are held back while it may want to snipe, and never for long.

`next_hold` decides (pure): a build stands still while a snipe window is open, at most WINDOW_MS of one and `most_ms` of all
that open while it is made, so that it always ends. What holds it is the runtime's: signals to processes, a paused group of
containers. `Held` is what both need: a gate before a build's next part, and time limits that do not count while it is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

WINDOW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Hold:
    """How builds have been held: window_ms in the window that is open, total_ms since a build began. at_ms: of the last look."""

    held: bool = False
    window_ms: int = 0
    total_ms: int = 0
    at_ms: int = 0


def next_hold(before: Hold, now_ms: int, *, builds: bool, in_snipe: bool, most_ms: int) -> Hold:
    """The hold from now on.

    now_ms: CLOCK_BOOTTIME. builds: a build that may be held back is made. in_snipe: a window is open. most_ms: of one build; 0:
    none is held.
    """
    if not builds:
        return Hold(at_ms=now_ms)
    more_ms = max(0, now_ms - before.at_ms) if before.held else 0
    window_ms = before.window_ms + more_ms if in_snipe else 0
    total_ms = before.total_ms + more_ms
    held = in_snipe and window_ms < WINDOW_MS and total_ms < most_ms
    return Hold(held, window_ms, total_ms, now_ms)


class Held:
    """Whether builds are held now, for what waits for it."""

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()
        self._limits: dict[asyncio.Timeout, float] = {}  # the seconds that each had left when builds were held

    @property
    def held(self) -> bool:
        """Whether builds shall stand still."""
        return not self._free.is_set()

    def set(self, held: bool) -> None:
        """Hold, or let go."""
        if held == self.held:
            return
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            if held and (when := limit.when()) is not None:
                self._limits[limit] = max(0.0, when - now)
            limit.reschedule(None if held else now + self._limits[limit])
        if held:
            self._free.clear()
        else:
            self._free.set()

    async def passed(self) -> None:
        """Wait until builds may go on; as long as the one who calls `set` lets it."""
        await self._free.wait()

    @asynccontextmanager
    async def limit(self, seconds: float | None) -> AsyncIterator[None]:
        """asyncio.timeout without the time for which builds are held."""
        if seconds is None:
            yield
            return
        async with asyncio.timeout(None if self.held else seconds) as limit:
            self._limits[limit] = seconds
            try:
                yield
            finally:
                del self._limits[limit]
