"""The last two minutes of one asset's settlement prices, and the known part of a settlement average out of them. Pure."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from bot.feeds.settlement_messages import SettlementPrice

MOST_SILENT_MS = 3_000
"""The stream brings a price a second; where longer none is known, the average of the others is not relied upon."""


class Settled:
    """Filled by `add`, which is told one price a second; asked at every price of the lead."""

    def __init__(self, capacity: int = 120) -> None:
        self._prices: deque[tuple[int, float]] = deque(maxlen=capacity)
        self._parts: dict[int, tuple[int, float] | None] = {}  # until the next price: one for each average that runs

    def add(self, price: SettlementPrice) -> None:
        """Take a price. One that is not later than the last is left out."""
        if not self._prices or price.time_ms > self._prices[-1][0]:
            self._prices.append((price.time_ms, price.price))
            self._parts.clear()

    def known(self, from_ms: int, to_ms: int) -> tuple[float, float] | None:
        """(seconds, mean price) of the part of (from, to] that is known, which ends with the newest price.

        None unless prices cover it: none is missing for more than MOST_SILENT_MS, be it at the begin, between, or at the end.
        Times: UTC ms; to_ms is now.
        """
        if from_ms not in self._parts:
            self._parts[from_ms] = self._part(from_ms)
        part = self._parts[from_ms]
        if part is None or not -MOST_SILENT_MS <= to_ms - part[0] <= MOST_SILENT_MS:
            return None
        return (part[0] - from_ms) / 1000, part[1]

    def _part(self, from_ms: int) -> tuple[int, float] | None:
        """(time of the newest price, mean) of the prices after `from_ms`."""
        prices = []
        for time_ms, price in reversed(self._prices):
            if time_ms <= from_ms:
                break
            prices.append((time_ms, price))
        times = [*(time_ms for time_ms, _ in prices), from_ms]
        if not prices or any(later - earlier > MOST_SILENT_MS for later, earlier in pairwise(times)):
            return None
        return times[0], sum(price for _, price in prices) / len(prices)
