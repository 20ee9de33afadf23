"""One-second closes of one asset, and the volatility realised by them. Pure.

Seconds are whole seconds of CLOCK_BOOTTIME, so that a step of the wall clock tears no hole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bot.feeds.history import Kline
from bot.feeds.messages import PriceUpdate, Source


@dataclass(frozen=True, slots=True)
class Volatility:
    """Standard deviation of the log price after one second; after t seconds it is that times sqrt(t).

    samples: the returns behind it; with few of them it is a guess.
    """

    per_sqrt_second: float
    samples: int


class Candles:
    """The last `capacity` one-second closes; seconds without an update are not there."""

    def __init__(self, capacity: int = 900) -> None:
        self._closes: deque[tuple[int, float]] = deque(maxlen=capacity)

    def add(self, update: PriceUpdate) -> None:
        """Take an update. Trades are left out: they jump between bid and ask, which would count as volatility.

        An update of an earlier second than the last is left out too.
        """
        if update.source is Source.BOOK:
            self._put(update.boot_ms // 1000, update.price)

    def seed(self, klines: Iterable[Kline], utc_to_boot_ms: int) -> None:
        """Put history (oldest first) before what is there already; history of later seconds is left out.

        Args:
            utc_to_boot_ms: what is added to a UTC time to make it a CLOCK_BOOTTIME.
        """
        known = list(self._closes)
        self._closes.clear()
        for kline in klines:
            second = (kline.open_ms + utc_to_boot_ms) // 1000
            if not known or second < known[0][0]:
                self._put(second, kline.close)
        self._closes.extend(known)

    def closes(self) -> list[tuple[int, float]]:
        """(second of CLOCK_BOOTTIME, close), oldest first."""
        return list(self._closes)

    def volatility(self, half_life_s: float = 120.0, floor: float = 1e-6) -> Volatility:
        """Realised volatility, recent seconds weighing more; never below the floor, which is also the answer to no data.

        Each return r over a gap of dt seconds counts as dt seconds of variance r^2 / dt (a random walk's best
        estimate), weighed by 0.5 ** (age / half_life_s): sqrt(sum(w * r^2) / sum(w * dt)).
        """
        if len(self._closes) < 2:
            return Volatility(floor, 0)
        newest = self._closes[-1][0]
        squares = seconds = 0.0
        previous_second, previous = self._closes[0]
        for second, close in list(self._closes)[1:]:
            weight = 0.5 ** ((newest - second) / half_life_s)
            squares += weight * math.log(close / previous) ** 2
            seconds += weight * (second - previous_second)
            previous_second, previous = second, close
        return Volatility(max(floor, math.sqrt(squares / seconds)), len(self._closes) - 1)

    def _put(self, second: int, close: float) -> None:
        if self._closes and second <= self._closes[-1][0]:
            if second == self._closes[-1][0]:
                self._closes[-1] = (second, close)
            return
        self._closes.append((second, close))
