"""Time on the bus: one clock for all containers of a host, and the grid of ticks on it.

A tick is named by its scheduled time in milliseconds: `anchor.wall_ms + k * interval_ms`. When it is due is decided on
CLOCK_BOOTTIME alone, so a step of the wall clock neither repeats nor skips one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    @property
    def boot_id(self) -> str:
        """Names the kernel's run; boot times of different runs do not compare."""

    def boot_ms(self) -> int:
        """Milliseconds of CLOCK_BOOTTIME."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""


class SystemClock:
    """The kernel's clocks."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(_BOOTTIME) // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC runs on through sleep, which is what is wanted here.
_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return f"booted-{(time.time_ns() - time.clock_gettime_ns(_BOOTTIME)) // 60_000_000_000}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the grid of ticks is fastened: one moment on both clocks, in ms, and the interval in ms."""

    wall_ms: int
    boot_ms: int
    boot_id: str
    interval_ms: int

    def tick_at(self, boot_ms: int) -> int:
        """The newest tick that is due at `boot_ms`."""
        return self.wall_ms + (boot_ms - self.boot_ms) // self.interval_ms * self.interval_ms

    def due_ms(self, tick: int) -> int:
        """The boot time in ms at which `tick` is due."""
        return self.boot_ms + tick - self.wall_ms

    def next_tick(self, boot_ms: int) -> int:
        """The first tick that is due after `boot_ms`."""
        return self.tick_at(boot_ms) + self.interval_ms


def new_anchor(clock: Clock, interval_ms: int, last_tick: int | None) -> Anchor:
    """A new grid on round wall times, all of whose future ticks are later than `last_tick`.

    Needed at the first start, after a reboot (boot times start anew) and when the interval changes. Where the wall clock
    stands behind the last tick, the grid goes on from that tick instead.
    """
    wall_ms, boot_ms = clock.wall_ms(), clock.boot_ms()
    start = wall_ms // interval_ms * interval_ms
    fastened = Anchor(start, boot_ms - (wall_ms - start), clock.boot_id, interval_ms)
    if last_tick is not None and fastened.tick_at(boot_ms) <= last_tick:
        return Anchor(last_tick, boot_ms, clock.boot_id, interval_ms)
    return fastened
