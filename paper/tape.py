"""Price tapes: bars from a CSV file, bridged into ticks so that every bar is reproduced exactly.

The file has the header ``time,open,high,low,close,volume``; ``time`` is ISO 8601 UTC, the start of the bar.
Bars may be missing; the last close stands until the next bar. The bar length is the shortest step in the file.
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

from paper.errors import UsageError

__all__ = ["Bar", "Tape", "bridge", "load_tape", "shift_ms"]

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
