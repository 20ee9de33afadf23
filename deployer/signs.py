"""Signs of life, by the deployer's own samples.

A duration here counts the deployer's own wake-ups: a sample adds at most MAX_GAP_MS, so that a machine or a deployer that
slept does not make everybody look stuck. Nothing counts while the deployer's own probe write to the bus fails: then it is the
bus that stands, and killing would help nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from bus import Bus, Clock, Seen, write_atomically

MAX_GAP_MS = 500
PROBE_EVERY_S = 0.5
PROBE_FRESH_MS = 2_000


class Stillness:
    """How long each living instance's sequence has stood still, in ms."""

    def __init__(self) -> None:
        self._last_ms: int | None = None
        self._sequences: dict[str, int] = {}
        self._still_ms: dict[str, int] = {}

    def sample(self, instances: Iterable[Seen], boot_ms: int, *, bus_answers: bool) -> Mapping[str, int]:
        """Take one sample; returns the durations."""
        gap_ms = 0 if self._last_ms is None else min(MAX_GAP_MS, max(0, boot_ms - self._last_ms))
        self._last_ms = boot_ms
        living = {seen.id: seen.sequence for seen in instances if seen.alive and seen.document is not None}
        still: dict[str, int] = {}
        for instance_id, sequence in living.items():
            if bus_answers and self._sequences.get(instance_id) == sequence:
                still[instance_id] = self._still_ms.get(instance_id, 0) + gap_ms
            else:
                still[instance_id] = 0
        self._sequences, self._still_ms = living, still
        return dict(still)


class Since:
    """When keys were first seen, as long as they are seen without a break. Times in ms of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def note(self, keys: Iterable[str], boot_ms: int) -> Mapping[str, int]:
        """Take one sample; returns the times."""
        self._first = {key: self._first.get(key, boot_ms) for key in keys}
        return dict(self._first)


class Probe:
    """Writes a file to the bus again and again, in a thread, so that a disk that hangs does not hang the deployer."""

    def __init__(self, bus: Bus, clock: Clock, on_written: Callable[[float], None] = lambda _seconds: None) -> None:
        """on_written: called with the seconds that a write took."""
        self._path, self._clock, self._on_written = bus.directory / ".deployer-probe", clock, on_written
        self._answered_ms: int | None = None

    def answers(self) -> bool:
        """Whether a write went through lately."""
        return self._answered_ms is not None and self._clock.boot_ms() - self._answered_ms < PROBE_FRESH_MS

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = time.perf_counter()
            try:
                await asyncio.to_thread(write_atomically, self._path, b"", durable=True)
                self._answered_ms = self._clock.boot_ms()
                self._on_written(time.perf_counter() - began)
            except OSError:
                self._answered_ms = None
            await asyncio.sleep(PROBE_EVERY_S)
