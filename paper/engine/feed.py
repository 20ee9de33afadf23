"""The price source: moves all assets on a fixed grid of ticks, from a walk or from tapes. Pure: time comes in.

A restart carries on: the gap since the last known prices is walked in seconds (15 s where it is long), so that prices
stay continuous and windows that ended meanwhile can be settled.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from paper.candles import KEPT, Candle, History
from paper.engine.prices import SPECS, Mood, follow, round_price, sigma_second, step
from paper.tape import Tape
from paper.windows import ASSETS

__all__ = ["TICK_MS", "Feed", "Tick"]

TICK_MS = 100
_MINUTE_MS = 60_000
_FAR_MS = 15_000


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of one asset: lead price and settlement price in USD; ``closed`` is the second that it closed."""

    time_ms: int
    asset: str
    price: float
    settlement: float
    closed: Candle | None


class Feed:
    """Prices of all assets up to ``time_ms``.

    Args:
        seed: of all randomness.
        tapes: the tape of each asset that has one.
        shift_ms: wall time minus tape time; the same for all tapes.
    """

    def __init__(self, seed: int, tapes: dict[str, Tape], shift_ms: int) -> None:
        self._seed = seed
        self._tapes = tapes
        self._shift_ms = shift_ms
        self._rng = random.Random(seed)
        self._exact: dict[str, float] = {}
        self._mood = Mood()
        self.settlement: dict[str, float] = {}
        self.history = {asset: History() for asset in ASSETS}
        self.time_ms = 0

    @property
    def lead(self) -> dict[str, float]:
        """The lead prices, rounded as on Binance."""
        return {asset: round_price(asset, price) for asset, price in self._exact.items()}

    def sigma(self, asset: str) -> float:
        """Standard deviation of one second's log return, as lively as the market is now."""
        return sigma_second(asset) * self._mood.factor

    def begin(self, now_ms: int, past: list[Tick]) -> list[Tick]:
        """Take over the recorded past, fill what is missing up to ``now_ms`` and return that, oldest first.

        Args:
            past: from the record, oldest first; empty at a first start, which makes up a past that ends at the start
                prices or at the tapes' prices of now.
        """
        now_ms -= now_ms % TICK_MS
        for tick in past:
            self.history[tick.asset].add(tick.time_ms, tick.price, tick.settlement)
            self._exact[tick.asset], self.settlement[tick.asset] = tick.price, tick.settlement
            self.time_ms = tick.time_ms
        # Reseeded by time, so that a restart does not replay the noise of the start before it.
        self._rng.seed(f"{self._seed}:{self.time_ms}")
        ticks = self.advance(now_ms) if past else self._make_up_past(now_ms)
        self._rng.seed(f"{self._seed}:{now_ms}")
        return ticks

    def advance(self, now_ms: int) -> list[Tick]:
        """Move to ``now_ms`` in steps of TICK_MS and return the ticks; long pauses are walked in seconds."""
        now_ms -= now_ms % TICK_MS
        return [tick for time_ms in self._grid(now_ms) for tick in self._move(time_ms)]

    def _grid(self, until_ms: int) -> list[int]:
        """Times from the present one (excluded) to ``until_ms``: quarters of a minute while far, then seconds, then ticks."""
        times: list[int] = []
        at = self.time_ms
        while at < until_ms:
            left = until_ms - at
            size = _FAR_MS if left > KEPT * 1000 + _MINUTE_MS else 1000 if left > 10_000 else TICK_MS
            at = at - at % size + size
            times.append(at)
        return times

    def _tape_prices(self, time_ms: int) -> dict[str, float]:
        """What the tapes say; nothing after a tape's end, where the walk takes over, nor before its start."""
        at = time_ms - self._shift_ms
        return {
            asset: tape.price(at, TICK_MS, self._seed)
            for asset, tape in self._tapes.items()
            if tape.start_ms <= at < tape.end_ms
        }

    def _move(self, time_ms: int) -> list[Tick]:
        dt_s = (time_ms - self.time_ms) / 1000
        exact, self._mood = step(self._exact, self._mood, dt_s, self._rng, self._tape_prices(time_ms))
        return self._arrive(time_ms, exact)

    def _arrive(self, time_ms: int, exact: dict[str, float]) -> list[Tick]:
        dt_s = (time_ms - self.time_ms) / 1000
        self._exact, self.time_ms = exact, time_ms
        ticks: list[Tick] = []
        for asset in ASSETS:
            price = round_price(asset, exact[asset])
            settlement = round(follow(self.settlement[asset], price, dt_s, asset), 8)
            self.settlement[asset] = settlement
            closed = self.history[asset].add(time_ms, price, settlement)
            ticks.append(Tick(time_ms, asset, price, settlement, closed))
        return ticks

    def _make_up_past(self, now_ms: int) -> list[Tick]:
        """Walk backwards from the start prices, or from where the tapes stand; what the tapes know of it, they say."""
        self.time_ms = now_ms - KEPT * _MINUTE_MS
        prices, mood = {asset: spec.start for asset, spec in SPECS.items()}, Mood()
        prices |= {a: tape.price(now_ms - self._shift_ms, TICK_MS, self._seed) for a, tape in self._tapes.items()}
        path = [(now_ms, prices)]
        for later, earlier in itertools.pairwise(reversed([self.time_ms, *self._grid(now_ms)])):
            prices, mood = step(prices, mood, (later - earlier) / 1000, self._rng)
            path.append((earlier, prices))
        self.settlement = dict(prices)
        return [
            tick
            for time_ms, exact in reversed(path)
            for tick in self._arrive(time_ms, exact | self._tape_prices(time_ms))
        ]
