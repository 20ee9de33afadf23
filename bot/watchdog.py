"""A thread that ends the process when the event loop stands still.

It counts its own wake-ups and not the clock, so that a process that was paused as a whole is not killed for having slept. And it
looks whether the disk stands, fsync included: then the loop waits for it, and a new process would wait just so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

WAKE_EVERY_S = 0.5


class Watchdog:
    """`on_stuck` is called from the thread after the loop has not run for `limit_s` seconds of wake-ups.

    Args:
        write: writes something to the disk that the loop writes to, and returns when it is there; an OSError counts as done.
    """

    def __init__(self, limit_s: float, on_stuck: Callable[[], None], write: Callable[[], None] = lambda: None) -> None:
        self._wakes_allowed = max(2, round(limit_s / WAKE_EVERY_S))
        self._on_stuck, self._write = on_stuck, write
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
            if silent < self._wakes_allowed:
                continue
            if not self._disk_stood() and self._beats == seen:
                self._on_stuck()
                return
            seen, silent = self._beats, 0

    def _disk_stood(self) -> bool:
        """Whether the disk let a write wait, for as long as it did."""
        began = time.monotonic()
        with suppress(OSError):
            self._write()
        return time.monotonic() - began > WAKE_EVERY_S
