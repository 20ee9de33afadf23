"""Prices in the record: one row a second, for a day; what a restart goes on from."""

from __future__ import annotations

import json

from paper.engine.feed import Tick
from paper.engine.record import Record

__all__ = ["PriceLog"]

_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_KEPT_MS = 90_000_000
_READ_MS = 60_000_000  # as far back as a thousand one-minute candles reach
_READ_FINE_MS = 1_000_000  # every second of the last thousand


class PriceLog:
    """Writes the prices of whole seconds, and reads them at a start."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def write(self, ticks: list[Tick]) -> None:
        """Record the ticks of whole seconds."""
        seconds: dict[int, list[Tick]] = {}
        for tick in ticks:
            if tick.time_ms % _SECOND_MS == 0:
                seconds.setdefault(tick.time_ms, []).append(tick)
        for time_ms, group in seconds.items():
            lead = json.dumps({tick.asset: tick.price for tick in group})
            settlement = json.dumps({tick.asset: tick.settlement for tick in group})
            self._record.add("INSERT OR REPLACE INTO prices VALUES (?, ?, ?)", (time_ms, lead, settlement))
            if time_ms % _MINUTE_MS == 0:
                self._record.add("DELETE FROM prices WHERE time_ms < ?", (time_ms - _KEPT_MS,))

    def read(self, now_ms: int) -> list[Tick]:
        """Return what is recorded, oldest first: each second of late, and quarters of a minute before."""
        sql = (
            "SELECT time_ms, lead, settlement FROM prices "
            "WHERE time_ms > ? AND (time_ms > ? OR time_ms % 15000 = 0) ORDER BY time_ms"
        )
        found: list[Tick] = []
        for time_ms, lead, settlement in self._record.query(sql, [now_ms - _READ_MS, now_ms - _READ_FINE_MS]):
            assert isinstance(time_ms, int), "times are integers"
            settled = json.loads(str(settlement))
            for asset, price in json.loads(str(lead)).items():
                found.append(Tick(time_ms, asset, price, settled[asset], None))
        return found
