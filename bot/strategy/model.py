"""What a window will end as: by the lead price, by the market, and by both. Pure mathematics in floats.

Each part is here for what it is worth out of sample on recordings (docs/explanation/model.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import replace

from bot.strategy.api import Inputs

LEAST_BELIEF = 0.002
"""Nothing is believed more firmly. Recorded on 5m windows: what a model called 0.997 happened in 0.944."""


def distance(inputs: Inputs) -> tuple[float, float, float] | None:
    """How far above the strike the settlement is expected, its deviation, and the basis' part of that; None: not known.

    All three are of the log price. A driftless log-normal lead price. Before the average begins, the average of the last A
    seconds of a Brownian motion has the variance s^2 * (T + A/3), T seconds ahead of A. Inside it, the known part counts with
    its weight and the rest has the variance s^2 * r/3 over the r seconds that are left. What the lead may be off by for its
    basis adds to it, as far as the lead counts.
    """
    if inputs.lead_price is None or inputs.volatility is None or inputs.lead_price <= 0:
        return None
    if inputs.strike is None:
        return _ahead(inputs, inputs.lead_price, inputs.volatility)
    if inputs.strike <= 0:
        return None
    average = inputs.average_ms / 1000
    left = max(0.0, (inputs.end_ms - inputs.now_ms) / 1000)
    if left >= average or inputs.average_price is None or inputs.average_seconds <= 0:
        ahead, rest = max(0.0, left - average), min(left, average)
        deviation = math.hypot(inputs.volatility * math.sqrt(ahead + rest / 3), inputs.basis_sd)
        return math.log(inputs.lead_price / inputs.strike), deviation, inputs.basis_sd
    known_s = min(inputs.average_seconds, average)
    rest = max(0.0, average - known_s)
    share = rest / average
    expected = (1 - share) * inputs.average_price + share * inputs.lead_price
    basis_sd = share * inputs.basis_sd
    return (
        math.log(expected / inputs.strike),
        math.hypot(share * inputs.volatility * math.sqrt(rest / 3), basis_sd),
        basis_sd,
    )


def _ahead(inputs: Inputs, lead: float, volatility: float) -> tuple[float, float, float] | None:
    """The same of a window that has not begun, while its strike's own average runs.

    Of the strike's A seconds k are known, and r lie ahead. The settlement less the strike then has the variance
    s^2 * (T + A/3 - r^2/A + r^3/(3 A^2)), T seconds ahead of the settlement's average.
    """
    average = inputs.average_ms / 1000
    known_s = min(inputs.strike_seconds, average)
    if inputs.now_ms >= inputs.start_ms or inputs.strike_average is None or known_s <= 0:
        return None
    rest = average - known_s
    ahead = (inputs.end_ms - inputs.now_ms) / 1000 - average
    variance = max(0.0, ahead + average / 3 - rest**2 / average + rest**3 / (3 * average**2))
    share = known_s / average  # the rest of the strike moves with the lead: its basis cancels out
    strike = share * inputs.strike_average + (1 - share) * lead
    basis_sd = share * inputs.basis_sd
    return math.log(lead / strike), math.hypot(volatility * math.sqrt(variance), basis_sd), basis_sd


def probability_up(inputs: Inputs, floor: float) -> float | None:
    """The model's probability that the settlement ends at or above the strike; None while something is unknown.

    floor: of the volatility, per sqrt(second).
    """
    found = distance(floored(inputs, floor))
    if found is None:
        return None
    above, deviation, _ = found
    return float(above >= 0) if deviation == 0 else tails(above / deviation)


def floored(inputs: Inputs, floor: float) -> Inputs:
    """The inputs with a volatility of at least `floor`."""
    if inputs.volatility is None or inputs.volatility >= floor:
        return inputs
    return replace(inputs, volatility=floor)


def tails(z: float) -> float:
    """The distribution of a move in its deviations: Student's t of 4 degrees of freedom, scaled to the variance 1.

    Beyond 1.96 deviations lie 5.0 %, beyond three 1.3 %; recorded were 4.9 to 5.6 % and 0.8 to 1.5 %, where a normal has 0.27 %.
    """
    if math.isinf(z):
        return float(z > 0)
    square = z * z / (2 + z * z)  # x^2 / (4 + x^2) of x = z * sqrt(2)
    return min(1.0, max(0.0, 0.5 + 0.75 * math.copysign(math.sqrt(square), z) * (1 - square / 3)))


def market_up(inputs: Inputs) -> float | None:
    """The market's own probability of Up: the middle of the best prices of both books; None where both are empty.

    A token of Down at p is one of Up at 1 - p. Where nobody bids or offers it is the price's own bound.
    """
    bids = [float(level.price) for level in inputs.bids_up[:1]] + [
        1 - float(level.price) for level in inputs.asks_down[:1]
    ]
    asks = [float(level.price) for level in inputs.asks_up[:1]] + [
        1 - float(level.price) for level in inputs.bids_down[:1]
    ]
    if not bids and not asks:
        return None
    return (max(bids, default=0.0) + min(asks, default=1.0)) / 2


def believe(model: float, market: float | None, weight: float) -> float:
    """Model and market as evidence of one thing: the mean of their log odds, the market's by `weight` (0 to 1)."""
    if market is None:
        weight = 0.0
    odds = (1 - weight) * _log_odds(model) + weight * _log_odds(0.5 if market is None else market)
    return 1 / (1 + math.exp(-odds))


def _log_odds(probability: float) -> float:
    held = min(max(probability, LEAST_BELIEF), 1 - LEAST_BELIEF)
    return math.log(held / (1 - held))
