"""One-second closes of one asset, and the volatility realised by them. Pure.

Seconds are whole seconds of CLOCK_BOOTTIME, so that a step of the wall clock tears no hole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bot.feeds.history import Kline
from bot.market_data.binance_messages import PriceUpdate, Source


@dataclass(frozen=True, slots=True)
class Volatility:
    """Standard deviation of the log price after one second; after t seconds it is that times sqrt(t).

    samples: the returns behind it; with few of them it is a guess.
    """

    per_sqrt_second: float
    samples: int


class Candles:
    """The last `capacity` one-second closes; seconds without an update are not there.

    The volatility is carried along, so that asking for it at every price costs nothing: what it sums up besides the newest
    close changes once a second. Its memory is its half-life, not the capacity.
    """

    def __init__(self, capacity: int = 900, half_life_s: float = 120.0) -> None:
        self._closes: deque[tuple[int, float]] = deque(maxlen=capacity)
        self._half_life_s = half_life_s
        self._squares = self._seconds = 0.0  # of all returns but the newest, weighed as of the close before the newest

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
        self._squares = self._seconds = 0.0
        for kline in klines:
            second = (kline.open_ms + utc_to_boot_ms) // 1000
            if not known or second < known[0][0]:
                self._put(second, kline.close)
        for second, close in known:
            self._put(second, close)

    def closes(self) -> list[tuple[int, float]]:
        """(second of CLOCK_BOOTTIME, close), oldest first."""
        return list(self._closes)

    def between(self, from_boot_ms: int, to_boot_ms: int) -> list[float]:
        """The closes of the seconds that begin in [from, to), newest first. Looks at no older ones."""
        found = []
        for second, close in reversed(self._closes):
            if second * 1000 < from_boot_ms:
                break
            if second * 1000 < to_boot_ms:
                found.append(close)
        return found

    def volatility(self, floor: float = 1e-6) -> Volatility:
        """Realised volatility, recent seconds weighing more; never below the floor, which is also the answer to no data.

        Each return r over a gap of dt seconds counts as dt seconds of variance r^2 / dt (a random walk's best
        estimate), weighed by 0.5 ** (age / half_life_s): sqrt(sum(w * r^2) / sum(w * dt)).
        """
        if len(self._closes) < 2:
            return Volatility(floor, 0)
        squares, seconds = self._with_newest()
        return Volatility(max(floor, math.sqrt(squares / seconds)), len(self._closes) - 1)

    def _with_newest(self) -> tuple[float, float]:
        """Both sums with the newest return, weighed as of the newest close."""
        (before, previous), (second, close) = self._closes[-2], self._closes[-1]
        fading = 0.5 ** ((second - before) / self._half_life_s)
        return self._squares * fading + math.log(close / previous) ** 2, self._seconds * fading + second - before

    def _put(self, second: int, close: float) -> None:
        if self._closes and second <= self._closes[-1][0]:
            if second == self._closes[-1][0]:
                self._closes[-1] = (second, close)
            return
        if len(self._closes) >= 2:
            self._squares, self._seconds = self._with_newest()
        self._closes.append((second, close))
