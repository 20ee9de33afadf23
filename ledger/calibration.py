"""Predicted against happened: scores, bins and what they say in words. Pure; equal arguments give equal results.

Every interval is of 95 %. Those of scores are bootstrapped by window, since the horizons of one window are one event.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ledger.predictions import Prediction

LEAST = 1e-3
"""Log loss is taken of probabilities between this and 1 less this: a mid of 0 or 1 would make it infinite."""
BINS = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
DRAWS = 2_000
LEAST_WINDOWS = 30
"""Fewer windows say nothing of who knows better."""
HOUR_MS = 3_600_000
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Score:
    """How good the predictions of one kind were. Lower is better; a coin has 0.25 and 0.693."""

    n: int
    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Row:
    """One horizon, asset, timeframe or hour: model, market and what was believed, on the predictions that have all three."""

    name: str
    model: Score
    market: Score
    belief: Score
    worse_by: float
    """Brier of the model less that of the market: above 0 the market was better."""
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What that says."""
        if self.model.n < LEAST_WINDOWS:
            return f"{self.model.n} windows say nothing"
        if self.low > 0:
            return "the market knew better than the model"
        if self.high < 0:
            return "the model knew better than the market"
        return "no difference can be shown"


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions between two bounds: how many, what they said on average, what happened, and its Wilson interval."""

    low: float
    high: float
    n: int
    said: float
    happened: float
    least: float
    most: float


def winners(predictions: Iterable[Prediction], known: Mapping[str, str]) -> dict[str, float]:
    """How windows ended, by slug: 1 for Up, 0 for Down. Void windows are left out.

    known: as the venue resolved those that were traded. Of the others the strike of the next window tells: it is the final
    average of this one (recorded, docs/reference/venue.md), and Up wins where it is not below the strike.
    """
    ended = {window: float(winner == "Up") for window, winner in known.items() if winner in ("Up", "Down")}
    strikes = {p.window: p.strike for p in predictions if p.strike is not None}
    for slug, strike in strikes.items():
        following = following_slug(slug)
        if slug not in known and following in strikes:
            ended[slug] = float(strikes[following] >= strike)
    return ended


def following_slug(slug: str) -> str:
    """The next window's slug: of btc-updown-5m-1792638000 it is btc-updown-5m-1792638300 (venue.md 2.1)."""
    series, _, start_s = slug.rpartition("-")
    timeframe = series.rpartition("-")[2]
    return f"{series}-{int(start_s) + int(timeframe[:-1]) * _SECONDS[timeframe[-1]]}"


def score(rows: Sequence[tuple[float, float]]) -> Score:
    """Of (probability of Up, 1 for Up and 0 for Down)."""
    if not rows:
        return Score(0, math.nan, math.nan)
    brier = sum((p - y) ** 2 for p, y in rows) / len(rows)
    held = [(min(max(p, LEAST), 1 - LEAST), y) for p, y in rows]
    loss = -sum(math.log(p if y == 1 else 1 - p) for p, y in held) / len(rows)
    return Score(len(rows), brier, loss)


def wilson(happened: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a frequency: Wilson's, which also holds near 0 and 1. (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    share, square = happened / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def bins(rows: Sequence[tuple[float, float]]) -> list[Bin]:
    """Reliability: (probability of Up, what happened) by what was said; bins without predictions are left out."""
    made = []
    for low, high in pairwise(BINS):
        inside = [(p, y) for p, y in rows if low <= p < high or (p == high == 1.0)]
        if not inside:
            continue
        n, ups = len(inside), sum(y for _, y in inside)
        least, most = wilson(ups, n)
        made.append(Bin(low, high, n, sum(p for p, _ in inside) / n, ups / n, least, most))
    return made


def bootstrap(by_window: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """The 95 % interval of the mean of these values, one for each window. (nan, nan) of none."""
    if not by_window:
        return math.nan, math.nan
    source, n = random.Random(seed), len(by_window)
    means = sorted(sum(source.choices(by_window, k=n)) / n for _ in range(DRAWS))
    return means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS) - 1]


@dataclass(frozen=True, slots=True)
class Scored:
    """A prediction that can be judged: it has a model's and a market's probability, and its window ended."""

    prediction: Prediction
    model: float
    market: float
    belief: float
    ended: float


def scored(predictions: Iterable[Prediction], ended: Mapping[str, float]) -> list[Scored]:
    """Those that can be judged."""
    return [
        Scored(p, p.model, p.market, p.model if p.belief is None else p.belief, ended[p.window])
        for p in predictions
        if p.model is not None and p.market is not None and p.window in ended
    ]


def row(name: str, judged: Sequence[Scored]) -> Row:
    """How model, market and belief did on these."""
    worse: dict[str, list[float]] = defaultdict(list)
    for one in judged:
        worse[one.prediction.window].append((one.model - one.ended) ** 2 - (one.market - one.ended) ** 2)
    means = [sum(values) / len(values) for values in worse.values()]
    low, high = bootstrap(means)
    return Row(
        name,
        score([(one.model, one.ended) for one in judged]),
        score([(one.market, one.ended) for one in judged]),
        score([(one.belief, one.ended) for one in judged]),
        sum(means) / len(means) if means else math.nan,
        low,
        high,
    )


def table(judged: Sequence[Scored], name: Callable[[Prediction], str]) -> list[Row]:
    """One row for each name, in the order of the names' first predictions."""
    groups: dict[str, list[Scored]] = {}
    for one in judged:
        groups.setdefault(name(one.prediction), []).append(one)
    return [row(key, group) for key, group in groups.items()]


def basis_by_hour(predictions: Iterable[Prediction]) -> list[tuple[int, str, int, float, float, float]]:
    """(hour in UTC ms, asset, readings, least, mean and most basis in bp) of each hour and asset."""
    groups: dict[tuple[int, str], list[float]] = defaultdict(list)
    for p in predictions:
        if p.basis is not None:
            groups[p.at_ms // HOUR_MS * HOUR_MS, p.window.partition("-")[0].upper()].append(p.basis * 1e4)
    return [(at, asset, len(b), min(b), sum(b) / len(b), max(b)) for (at, asset), b in sorted(groups.items())]


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the horizons say in words."""
    said = []
    for r in rows:
        difference = (
            f"Brier {r.model.brier:.3f} against {r.market.brier:.3f}, {r.worse_by:+.3f} [{r.low:+.3f}, {r.high:+.3f}]"
        )
        said.append(f"{r.name}: {r.verdict}" + (f" ({difference}, {r.model.n} windows)" if r.model.n else ""))
    return said
