"""A thread that ends the process when the event loop stands still.

It counts its own wake-ups and not the clock, so that a process that was paused as a whole is not killed for having slept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

WAKE_EVERY_S = 0.5


class Watchdog:
    """`on_stuck` is called from the thread after the loop has not run for `limit_s` seconds of wake-ups."""

    def __init__(self, limit_s: float, on_stuck: Callable[[], None]) -> None:
        self._wakes_allowed = max(2, round(limit_s / WAKE_EVERY_S))
        self._on_stuck = on_stuck
        self._beats = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._beat(asyncio.get_running_loop())
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._end.set()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        if not self._end.is_set():
            loop.call_later(WAKE_EVERY_S / 2, self._beat, loop)

    def _run(self) -> None:
        seen, silent = self._beats, 0
        while not self._end.wait(WAKE_EVERY_S):
            silent = silent + 1 if self._beats == seen else 0
            seen = self._beats
            if silent >= self._wakes_allowed:
                self._on_stuck()
                return
