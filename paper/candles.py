"""Prices of the recent past: ticks, one-second candles, one-minute candles. Pure, bounded.

Binance's klines come from here, and so do opening references and settlement averages.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass

__all__ = ["KEPT", "Candle", "Candles", "History", "average"]

KEPT = 1000  # candles of each interval; Binance's limit for one answer


@dataclass(slots=True)
class Candle:
    """Open, high, low, close of the lead price in [start, start + interval), and the settlement price at its end."""

    start_ms: int
    open: float
    high: float
    low: float
    close: float
    settlement: float
    ticks: int = 1

    def add(self, price: float, settlement: float) -> None:
        """Extend it by one tick."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.settlement = settlement
        self.ticks += 1


class Candles:
    """The last KEPT candles of one interval, the newest still open."""

    def __init__(self, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        self.items: deque[Candle] = deque(maxlen=KEPT)

    def add(self, time_ms: int, price: float, settlement: float) -> Candle | None:
        """Add a tick; return the candle that it closed, if it closed one."""
        start = time_ms - time_ms % self.interval_ms
        last = self.items[-1] if self.items else None
        if last is not None and last.start_ms == start:
            last.add(price, settlement)
            return None
        self.items.append(Candle(start, price, price, price, price, settlement))
        return last


class History:
    """One asset's past. Ticks are kept for 90 s, which covers the longest settlement average."""

    _TICKS_MS = 90_000

    def __init__(self) -> None:
        self.seconds = Candles(1_000)
        self.minutes = Candles(60_000)
        self.settlements: deque[tuple[int, float]] = deque()

    def add(self, time_ms: int, price: float, settlement: float) -> Candle | None:
        """Add a tick; return the one-second candle that it closed, if any."""
        self.settlements.append((time_ms, settlement))
        while self.settlements[0][0] < time_ms - self._TICKS_MS:
            self.settlements.popleft()
        self.minutes.add(time_ms, price, settlement)
        return self.seconds.add(time_ms, price, settlement)

    def at(self, time_ms: int) -> float | None:
        """Return the settlement price at a time: the last one at or before it, or the oldest that is known.

        None when nothing is known yet, or when the time lies in the future.
        """
        ticks = self.settlements
        if not ticks or time_ms > ticks[-1][0]:
            return None
        if time_ms >= ticks[0][0]:
            return ticks[bisect.bisect_right(ticks, time_ms, key=lambda tick: tick[0]) - 1][1]
        known = self.minutes.items[0].settlement
        for candles in (self.minutes, self.seconds):
            for candle in candles.items:
                if candle.start_ms + candles.interval_ms > time_ms:
                    break
                known = candle.settlement
        return known

    def between(self, after_ms: int, until_ms: int) -> list[tuple[int, float]]:
        """Return (time, settlement price) in (after, until]: ticks, or ends of seconds where those are gone."""
        if self.settlements and self.settlements[0][0] <= after_ms:
            return [tick for tick in self.settlements if after_ms < tick[0] <= until_ms]
        seconds = ((candle.start_ms + 1_000, candle.settlement) for candle in self.seconds.items)
        return [tick for tick in seconds if after_ms < tick[0] <= until_ms]


def average(ticks: list[tuple[int, float]]) -> float:
    """Return the mean price of evenly spaced ticks; the list is not empty."""
    return sum(price for _, price in ticks) / len(ticks)
