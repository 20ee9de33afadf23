"""Prices as a seeded random walk, correlated between assets. Pure; floats, as this is no money.

BTC moves with its own volatility, every other asset with a share of BTC's return and a part of its own. Volatility comes
and goes in clusters, and now and then the market jumps. The settlement price, the venue's Chainlink price in USD, follows
the lead price, Binance's in USDT, with a lag of about a second and a basis: one of all assets that drifts, and a small one
of each. Recorded: Binance above Chainlink by 4.3, 4.6, 5.0 bp (p10, p50, p90 of 72 window ends of six assets, 1 October
2026), by -3.3 bp on 28 September, by -8.5 bp on 5 August.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import deque
from dataclasses import dataclass

# Prices of the recent past: ticks, one-second candles, one-minute candles. Pure, bounded.
#
# Binance's klines come from here, and so do opening references and settlement averages.


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
        price = self.minutes.items[0].settlement
        for candles in (self.minutes, self.seconds):
            for candle in candles.items:
                if candle.start_ms + candles.interval_ms > time_ms:
                    break
                price = candle.settlement
        return price

    def between(self, after_ms: int, until_ms: int) -> list[tuple[int, float]]:
        """Return (time, settlement price) in (after, until]: ticks, or ends of seconds where those are gone."""
        if self.settlements and self.settlements[0][0] <= after_ms:
            return [tick for tick in self.settlements if after_ms < tick[0] <= until_ms]
        seconds = ((candle.start_ms + 1_000, candle.settlement) for candle in self.seconds.items)
        return [tick for tick in seconds if after_ms < tick[0] <= until_ms]


def average(ticks: list[tuple[int, float]]) -> float:
    """Return the mean price of evenly spaced ticks; the list is not empty."""
    return sum(price for _, price in ticks) / len(ticks)


# Prices as a seeded random walk, correlated between assets. Pure; floats, as this is no money.


_YEAR_S = 365.25 * 86_400
_LAG_S = 1.0
_MOOD_S = 600.0  # how long a mood lasts
_MOOD_DEVIATION = 0.4
_JUMP_EVERY_S = 900.0
_JUMP_SHARE = 0.1  # of the variance
_BASIS_S = 3_600.0  # how long the basis stays away from its mean
_BP = 1e-4


@dataclass(frozen=True, slots=True)
class Spec:
    """How an asset moves.

    Attributes:
        start: its price where nothing else is known, in USD.
        volatility: standard deviation of a year's log return.
        correlation: with BTC's return, 0 to 1.
        decimals: of the lead price on Binance.
        basis: settlement price over lead price, minus 1, besides the basis of all assets.
    """

    start: float
    volatility: float
    correlation: float
    decimals: int
    basis: float


SPECS = {
    "BTC": Spec(87_000.0, 0.50, 1.0, 2, 0.000012),
    "ETH": Spec(2_850.0, 0.70, 0.85, 2, -0.000015),
    "SOL": Spec(132.0, 0.85, 0.80, 2, 0.000020),
    "XRP": Spec(2.05, 0.85, 0.70, 4, -0.000020),
    "DOGE": Spec(0.146, 0.95, 0.75, 5, 0.000030),
    "BNB": Spec(845.0, 0.60, 0.75, 2, 0.000010),
}
ASSETS = tuple(SPECS)
DECIMALS = {asset: spec.decimals for asset, spec in SPECS.items()}


@dataclass(frozen=True, slots=True)
class Mood:
    """How lively the market is. ``level`` is a log: an Ornstein-Uhlenbeck process, so that lively times cluster.

    All assets share it, as they do in fact.
    """

    level: float = 0.0

    @property
    def factor(self) -> float:
        """Volatility now over its long-run value; the mean of its square is 1."""
        return math.exp(self.level - _MOOD_DEVIATION**2)


class Basis:
    """By how much the lead price stands above the settlement price: an Ornstein-Uhlenbeck process that all assets share.

    Args:
        mean_bp: what it returns to, in basis points of the price.
        drift_bp: its standard deviation in the long run.
        seed: of its own noise, so that it changes no price of the walk.
    """

    def __init__(self, mean_bp: float, drift_bp: float, seed: str) -> None:
        self._mean, self._drift = mean_bp, drift_bp
        self._rng = random.Random(f"basis:{seed}")
        self.bp = mean_bp + drift_bp * self._rng.gauss(0.0, 1.0)

    @property
    def factor(self) -> float:
        """Settlement price over lead price."""
        return 1.0 - self.bp * _BP

    def advance(self, dt_s: float) -> None:
        """Let a time pass, in seconds."""
        decay = math.exp(-dt_s / _BASIS_S)
        noise = self._drift * math.sqrt(1 - decay * decay) * self._rng.gauss(0.0, 1.0)
        self.bp = self._mean + (self.bp - self._mean) * decay + noise


def sigma_second(asset: str) -> float:
    """Standard deviation of one second's log return in the long run."""
    return SPECS[asset].volatility / math.sqrt(_YEAR_S)


def step(
    prices: dict[str, float], mood: Mood, dt_s: float, rng: random.Random, given: dict[str, float] | None = None
) -> tuple[dict[str, float], Mood]:
    """Return all prices and the mood ``dt_s`` seconds later.

    A part of the variance comes in jumps: rare, large, and shared like everything else.

    Args:
        prices: the price of every asset, unrounded.
        dt_s: the time that passes, in seconds.
        rng: draws the same number of values at every call, so that a tape does not change the other assets' noise.
        given: prices that a tape dictates; the other assets follow a dictated BTC with their correlation.
    """
    given = given or {}
    noise = {asset: rng.gauss(0.0, 1.0) for asset in ASSETS}
    mood_noise, jump_chance, jump_noise = rng.gauss(0.0, 1.0), rng.random(), rng.gauss(0.0, 1.0)
    scale = math.sqrt(dt_s) * mood.factor
    jump = 0.0
    if jump_chance < 1 - math.exp(-dt_s / _JUMP_EVERY_S):
        # In units of the step's deviation, and so sized that jumps make up their share of the variance.
        jump = jump_noise * math.sqrt(_JUMP_SHARE / (1 - math.exp(-dt_s / _JUMP_EVERY_S)))
    calm = math.sqrt(1 - _JUMP_SHARE)
    btc_sigma = sigma_second("BTC") * scale
    lead = math.log(given["BTC"] / prices["BTC"]) / btc_sigma if "BTC" in given else calm * noise["BTC"] + jump
    moved: dict[str, float] = {}
    for asset in ASSETS:
        rho = SPECS[asset].correlation
        z = lead if asset == "BTC" else rho * lead + math.sqrt(1 - rho * rho) * noise[asset]
        moved[asset] = given.get(asset) or prices[asset] * math.exp(sigma_second(asset) * scale * z)
    decay = math.exp(-dt_s / _MOOD_S)
    level = decay * mood.level + _MOOD_DEVIATION * math.sqrt(1 - decay * decay) * mood_noise
    return moved, Mood(level)


def follow(settlement: float, lead: float, dt_s: float, asset: str, factor: float = 1.0) -> float:
    """Return the settlement price ``dt_s`` seconds later: an exponential average of the lead price (lag 1 s), with basis.

    Args:
        factor: settlement price over lead price, of all assets.
    """
    weight = 1.0 - math.exp(-dt_s / _LAG_S)
    return settlement + weight * (lead * factor * (1.0 + SPECS[asset].basis) - settlement)


def round_price(asset: str, price: float) -> float:
    """Round to the asset's decimals on Binance."""
    return round(price, DECIMALS[asset])
