"""The market maker's mind: the fair probability of Up, and quotes around it. Pure.

It sees the settlement price, which lags the lead price by about a second, and requotes about once a second. Whoever watches
the lead price sometimes finds it late: that is the edge that a sniper looks for.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from paper.money import ONE

__all__ = ["Quote", "fair_up", "quotes"]

_LEVELS = 6
_EDGE = 0.012  # half spread at a fair price of 0.5, in collateral per share


@dataclass(frozen=True, slots=True)
class Quote:
    """Offer to buy Up (``is_bid``) or to sell it: ``up_price`` in terms of Up and ``size`` shares, both base units."""

    is_bid: bool
    up_price: int
    size: int


def fair_up(
    price: float,
    reference: float,
    sigma: float,
    left_s: float,
    averaging_s: float,
    averaged: float,
) -> float:
    """Return the probability that the average of the window's last seconds ends at or above the opening reference.

    The average of a Brownian path over A seconds that lie T seconds ahead has the variance sigma^2 (T - A + A / 3); once
    the averaging has begun, only its remaining part is uncertain.

    Args:
        price: settlement price now.
        reference: opening reference.
        sigma: standard deviation of one second's log return.
        left_s: seconds to the window's end, above 0.
        averaging_s: length A of the average in seconds.
        averaged: mean settlement price since the averaging began; unused before.
    """
    if left_s >= averaging_s:
        mean, spread = price, sigma * math.sqrt(left_s - averaging_s + averaging_s / 3)
    else:
        share = left_s / averaging_s
        mean = share * price + (1 - share) * averaged
        spread = sigma * share * math.sqrt(left_s / 3)
    z = math.log(mean / reference) / max(spread, 1e-9)
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def quotes(fair: float, tick: int, rng: random.Random) -> list[Quote]:
    """Return the quotes for a fair probability of Up: up to six levels a side, none at or beyond 0 and 1.

    The spread narrows towards 0 and 1; sizes (20 to 200 shares) grow away from the best price.
    """
    half = _EDGE * (0.4 + 2.4 * fair * (1 - fair)) * rng.uniform(0.8, 1.4)
    best_bid = math.floor((fair - half) * ONE / tick) * tick
    best_ask = math.ceil((fair + half) * ONE / tick) * tick
    found: list[Quote] = []
    for level in range(_LEVELS):
        for is_bid, price in ((True, best_bid - level * tick), (False, best_ask + level * tick)):
            size = rng.randint(20, 60) * (1 + level // 2) * ONE
            if tick <= price <= ONE - tick:
                found.append(Quote(is_bid, price, size))
    return found
