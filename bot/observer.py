"""What the metrics show of the world around an instance: looked at when Prometheus asks, so that no poll pays for it."""

from __future__ import annotations

import os
from collections.abc import Callable

from bot.lifecycle.context import World
from bot.lifecycle.metrics import Metrics
from bus import DocumentError, read_status


class Observer:
    """Fills the gauges that nobody tells of: feeds, the disk, and on a standby what the lease holder published.

    Args:
        is_active: whether this instance holds the lease; then it publishes status itself.
    """

    def __init__(self, world: World, metrics: Metrics, is_active: Callable[[], bool]) -> None:
        self._world, self._metrics, self._is_active = world, metrics, is_active
        self._counted = {"connects": 1, "gaps": 0, "parse_errors": 0}
        self._skipped: dict[tuple[str, str], int] = {}
        metrics.interval.set(world.settings.interval_ms / 1000)
        metrics.prepare(((slot.id, slot.asset) for slot in world.slots), (feed.name for feed in world.feed_status()))
        metrics.before_scrape(self.look)

    def look(self) -> None:
        """Look at everything once."""
        self._look_at_feeds()
        self._look_at_disk()
        offset = self._world.account.clock_offset_ms
        if offset is not None:
            self._metrics.clock_offset.set(offset / 1000)
        if not self._is_active():
            try:
                self._metrics.note_status(read_status(self._world.bus).body)
            except DocumentError:
                return  # nobody traded yet, or a newer release does: what was known stays

    def _look_at_feeds(self) -> None:
        metrics, now_ms = self._metrics, self._world.clock.wall_ms()
        for feed in self._world.feed_status():
            metrics.feed_connected.labels(feed.name).set(feed.connected)
            if feed.age_ms is not None:
                metrics.feed_time.labels(feed.name).set((now_ms - feed.age_ms) / 1000)
        state = self._world.feed.state()
        for name, counter in (
            ("connects", metrics.reconnects),
            ("gaps", metrics.gaps),
            ("parse_errors", metrics.parse_errors),
        ):
            found = getattr(state, name)
            counter.inc(max(0, found - self._counted[name]))
            self._counted[name] = max(found, self._counted[name])

        for (origin, code), count in self._world.skips.counts.items():
            metrics.skipped.labels(origin, code).inc(count - self._skipped.get((origin, code), 0))
            self._skipped[origin, code] = count

    def _look_at_disk(self) -> None:
        metrics, bus = self._metrics, self._world.bus
        for file, path in (("db", bus.ledger), ("wal", bus.ledger.with_name(f"{bus.ledger.name}-wal"))):
            try:
                metrics.ledger_bytes.labels(file).set(path.stat().st_size)  # never an open: that would drop its locks
            except OSError:
                metrics.ledger_bytes.labels(file).set(0)
        try:
            room = os.statvfs(bus.directory)
        except OSError:
            return
        metrics.bus_free.set(room.f_bavail * room.f_frsize)
        metrics.bus_size.set(room.f_blocks * room.f_frsize)
        metrics.fsync_failed.set(bus.fsync_failed.exists())
