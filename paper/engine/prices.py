"""Prices as a seeded random walk, correlated between assets. Pure; floats, as this is no money.

BTC moves with its own volatility, every other asset with a share of BTC's return and a part of its own. Volatility comes
and goes in clusters, and now and then the market jumps. The settlement price, the venue's Chainlink price, follows the
lead price with a lag of about a second and a small constant basis.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from paper.windows import ASSETS

__all__ = ["DECIMALS", "SPECS", "Mood", "Spec", "follow", "round_price", "sigma_second", "step"]

_YEAR_S = 365.25 * 86_400
_LAG_S = 1.0
_MOOD_S = 600.0  # how long a mood lasts
_MOOD_DEVIATION = 0.4
_JUMP_EVERY_S = 900.0
_JUMP_SHARE = 0.1  # of the variance


@dataclass(frozen=True, slots=True)
class Spec:
    """How an asset moves.

    Attributes:
        start: its price where nothing else is known, in USD.
        volatility: standard deviation of a year's log return.
        correlation: with BTC's return, 0 to 1.
        decimals: of the lead price on Binance.
        basis: settlement price over lead price, minus 1.
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
DECIMALS = {asset: SPECS[asset].decimals for asset in ASSETS}


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
    kept = math.exp(-dt_s / _MOOD_S)
    level = kept * mood.level + _MOOD_DEVIATION * math.sqrt(1 - kept * kept) * mood_noise
    return moved, Mood(level)


def follow(settlement: float, lead: float, dt_s: float, asset: str) -> float:
    """Return the settlement price ``dt_s`` seconds later: an exponential average of the lead price (lag 1 s), with basis."""
    weight = 1.0 - math.exp(-dt_s / _LAG_S)
    return settlement + weight * (lead * (1.0 + SPECS[asset].basis) - settlement)


def round_price(asset: str, price: float) -> float:
    """Round to the asset's decimals on Binance."""
    return round(price, DECIMALS[asset])
