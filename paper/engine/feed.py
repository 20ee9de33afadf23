"""The price source: moves all assets on a fixed grid of ticks, from a walk or from tapes. Pure: time comes in.

A restart carries on: the gap since the last known prices is walked in seconds (15 s where it is long), so that prices
stay continuous and windows that ended meanwhile can be settled.
"""

from __future__ import annotations

import bisect
import csv
import functools
import itertools
import math
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from paper.engine.prices import (
    ASSETS,
    KEPT,
    SPECS,
    Basis,
    Candle,
    History,
    Mood,
    follow,
    round_price,
    sigma_second,
    step,
)
from paper.errors import UsageError

# Price tapes: bars from a CSV file, bridged into ticks so that every bar is reproduced exactly.
#
# The file has the header ``time,open,high,low,close,volume``; ``time`` is ISO 8601 UTC, the start of the bar.
# Bars may be missing; the last close stands until the next bar. The bar length is the shortest step in the file.


_MINUTE_MS = 60_000
_HEADER = ["time", "open", "high", "low", "close", "volume"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. ``time_ms`` is UTC ms of its start; prices in quote currency, low <= open, close <= high."""

    time_ms: int
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True, slots=True)
class Tape:
    """Bars in rising order of time, all of ``length_ms``."""

    name: str
    bars: tuple[Bar, ...]
    length_ms: int

    @property
    def start_ms(self) -> int:
        """When the first bar starts."""
        return self.bars[0].time_ms

    @property
    def end_ms(self) -> int:
        """When the last bar ends."""
        return self.bars[-1].time_ms + self.length_ms

    def price(self, at_ms: int, tick_ms: int, seed: int) -> float:
        """Return the price at a time of the tape, the same for the same arguments.

        Args:
            at_ms: UTC ms in the tape's own time; before the first bar its open, in a gap and after the end the last close.
            tick_ms: distance of ticks; divides the bar length.
            seed: of the bridge inside the bars.
        """
        index = bisect.bisect_right(self.bars, at_ms, key=lambda bar: bar.time_ms) - 1
        if index < 0:
            return self.bars[0].open
        bar = self.bars[index]
        tick = (at_ms - bar.time_ms) // tick_ms
        count = self.length_ms // tick_ms
        if tick >= count:
            return bar.close
        return _bridged(bar, count, f"{seed}:{self.name}:{bar.time_ms}")[tick]


def shift_ms(tapes: Collection[Tape], at_ms: int | None, now_ms: int) -> int:
    """Return wall time minus tape time for a replay of all tapes together that starts now.

    Minutes of the tapes fall on minutes of the clock, so that every bar is reproduced exactly: the first bar is joined where
    the clock stands in its minute.

    Args:
        tapes: at least one.
        at_ms: where in the tapes to start, UTC ms, or None for the start of the time that they share.

    Raises:
        UsageError: they share no time, or ``at_ms`` is outside of it.
    """
    start, end = max(tape.start_ms for tape in tapes), min(tape.end_ms for tape in tapes)
    if start >= end:
        names = ", ".join(tape.name for tape in tapes)
        raise UsageError(f"tapes {names} share no time; give tapes of the same days")
    if at_ms is not None and not start <= at_ms < end:
        shared = f"{_iso(start)} to {_iso(end)}"
        raise UsageError(f"--tape-at {_iso(at_ms)} is outside of the tapes; give a time from {shared}")
    begin = start if at_ms is None else at_ms
    return now_ms - now_ms % _MINUTE_MS - (begin - begin % _MINUTE_MS)


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat()


@functools.lru_cache(maxsize=32)
def _bridged(bar: Bar, count: int, seed: str) -> list[float]:
    return bridge(bar, count, random.Random(seed))


def bridge(bar: Bar, count: int, rng: random.Random) -> list[float]:
    """Return ``count`` (at least 4) prices that start at the open, end at the close and reach exactly high and low.

    The nearer extreme is visited first, as a rule; between the corners a random bridge wanders inside the bar.
    """
    first, second = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    places = [0, *sorted(rng.sample(range(1, count - 1), 2)), count - 1]
    corners = [bar.open, first, second, bar.close]
    roughness = (bar.high - bar.low) * 0.15
    path: list[float] = []
    for (i, a), (j, b) in itertools.pairwise(zip(places, corners, strict=True)):
        path.append(a)
        for k in range(i + 1, j):
            along = (k - i) / (j - i)
            wander = rng.gauss(0.0, roughness) * math.sqrt(along * (1 - along))
            path.append(min(bar.high, max(bar.low, a + (b - a) * along + wander)))
    return [*path, bar.close]


def load_tape(path: Path) -> Tape:
    """Read a tape.

    Raises:
        UsageError: the file cannot be read or a row is bad; the text names file, line and fault.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            bars = _read(path, csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"tape {path}: cannot be read ({error}); give the path of a CSV file") from error
    if len(bars) < 2:
        raise UsageError(f"tape {path}: expected at least 2 bars, found {len(bars)}")
    length = min(b.time_ms - a.time_ms for a, b in itertools.pairwise(bars))
    return Tape(path.name, tuple(bars), length)


def _read(path: Path, rows: Iterable[list[str]]) -> list[Bar]:
    bars: list[Bar] = []
    for number, row in enumerate(rows, start=1):
        where = f"tape {path}, line {number}"
        if number == 1:
            if row != _HEADER:
                raise UsageError(f"{where}: expected the header {','.join(_HEADER)}, found {','.join(row)}")
            continue
        bar = _parse(where, row)
        if bars and bar.time_ms <= bars[-1].time_ms:
            raise UsageError(f"{where}: time {row[0]} is not after the bar before it; sort the file by time")
        bars.append(bar)
    return bars


def _parse(where: str, row: list[str]) -> Bar:
    if len(row) != len(_HEADER):
        raise UsageError(f"{where}: expected {len(_HEADER)} fields, found {len(row)}")
    try:
        moment = datetime.fromisoformat(row[0])
        open_, high, low, close = (float(text) for text in row[1:5])
    except ValueError as error:
        raise UsageError(f"{where}: {error}; expected an ISO 8601 time and decimal prices") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not (math.isfinite(high) and 0 < low <= min(open_, close) and max(open_, close) <= high):
        raise UsageError(
            f"{where}: expected 0 < low <= open, close <= high, found open {row[1]} high {row[2]} low {row[3]} close {row[4]}"
        )
    return Bar(round(moment.timestamp() * 1000), open_, high, low, close)


# The price source: moves all assets on a fixed grid of ticks, from a walk or from tapes. Pure: time comes in.


TICK_MS = 100
_A_MINUTE_MS = 60_000
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
        basis_bp, basis_drift_bp: by how much the lead price stands above the settlement price, and how far that drifts.
    """

    def __init__(
        self,
        seed: int,
        tapes: dict[str, Tape],
        shift_ms: int,
        *,
        basis_bp: float = 0.0,
        basis_drift_bp: float = 0.0,
    ) -> None:
        self.basis = Basis(basis_bp, basis_drift_bp, str(seed))
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
        if past:
            self.basis.bp = (1 - self.settlement["BTC"] / (self._exact["BTC"] * (1 + SPECS["BTC"].basis))) * 1e4
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
            size = _FAR_MS if left > KEPT * 1000 + _A_MINUTE_MS else 1000 if left > 10_000 else TICK_MS
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
        self.basis.advance(dt_s)
        ticks: list[Tick] = []
        for asset in ASSETS:
            price = round_price(asset, exact[asset])
            settlement = round(follow(self.settlement[asset], price, dt_s, asset, self.basis.factor), 8)
            self.settlement[asset] = settlement
            closed = self.history[asset].add(time_ms, price, settlement)
            ticks.append(Tick(time_ms, asset, price, settlement, closed))
        return ticks

    def _make_up_past(self, now_ms: int) -> list[Tick]:
        """Walk backwards from the start prices, or from where the tapes stand; what the tapes know of it, they say."""
        self.time_ms = now_ms - KEPT * _A_MINUTE_MS
        prices, mood = {asset: spec.start for asset, spec in SPECS.items()}, Mood()
        prices |= {a: tape.price(now_ms - self._shift_ms, TICK_MS, self._seed) for a, tape in self._tapes.items()}
        path = [(now_ms, prices)]
        for later, earlier in itertools.pairwise(reversed([self.time_ms, *self._grid(now_ms)])):
            prices, mood = step(prices, mood, (later - earlier) / 1000, self._rng)
            path.append((earlier, prices))
        self.settlement = {asset: price * self.basis.factor for asset, price in prices.items()}
        return [
            tick
            for time_ms, exact in reversed(path)
            for tick in self._arrive(time_ms, exact | self._tape_prices(time_ms))
        ]
