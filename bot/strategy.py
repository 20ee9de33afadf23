"""The snipe strategy: late in a window the lead price knows more than the book. Pure: equal inputs give equal decisions.

The mathematics is in floats; what leaves it (price, size) is Decimal on the market's tick and integer base units.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Any, Literal

from bot.venue.types import BASE_UNITS, Level, Outcome

Action = Literal["none", "enter", "exit"]

MIN_STAKE = Decimal(1)  # marketable orders are at least 1 pUSD (venue.md 2.3)
SIZE_STEP = BASE_UNITS // 100  # sizes have two decimals (venue.md 2.3)


_FRACTIONS = ("snipe_fraction", "kelly", "max_price")
_WHOLE = ("confirmations",)
_LARGEST = 1e12


@dataclass(frozen=True, slots=True)
class Parameters:
    """What control may change without a deploy.

    snipe_fraction: the snipe window, as a part of the window's length. min_edge: probability above the price, fee included,
    that an entry needs. exit_edge: how far the price must be above the probability for an exit. confirmations: polls in a row
    that must agree. kelly: fraction of the Kelly stake. bankroll, max_stake: pUSD. max_price: the dearest entry.
    min_volatility: floor of the volatility, per sqrt(second).
    """

    snipe_fraction: float = 0.3
    min_edge: float = 0.03
    exit_edge: float = 0.05
    confirmations: int = 2
    kelly: float = 0.25
    bankroll: float = 1000.0
    max_stake: float = 25.0
    max_price: float = 0.97
    min_volatility: float = 2e-5


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that one decision depends on.

    *_ms: UTC ms. strike, lead_price, average_*: prices in USDT. volatility: of the log price per sqrt(second).
    average_seconds, average_price: the part of the settlement average that is known already. bids, asks: best levels first.
    held: the outcome and shares (base units) held of this window. streak_*: the evaluation state left by the last poll.
    blocked: why no order may be placed in this slot whatever the strategy says ("" when it may).
    """

    slot: str
    window: str
    now_ms: int
    start_ms: int
    end_ms: int
    average_ms: int
    strike: float | None
    lead_price: float | None
    volatility: float | None
    average_seconds: float
    average_price: float | None
    asks_up: tuple[Level, ...]
    bids_up: tuple[Level, ...]
    asks_down: tuple[Level, ...]
    bids_down: tuple[Level, ...]
    tick: Decimal
    min_size: int
    fee_rate: float
    fee_exponent: int
    held: Outcome | None
    held_shares: int
    streak_window: str
    streak_outcome: str
    streak: int
    blocked: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in one slot and why; streak_* is the evaluation state for the next poll.

    price: limit, on the tick. size: base units of shares. probability_up and edge are for people.
    """

    action: Action
    reason: str
    outcome: Outcome | None = None
    price: Decimal | None = None
    size: int = 0
    probability_up: float | None = None
    edge: float | None = None
    in_snipe: bool = False
    streak_window: str = ""
    streak_outcome: str = ""
    streak: int = 0


def read_parameters(values: dict[str, Any], before: Parameters | None = None) -> tuple[Parameters, tuple[str, ...]]:
    """The parameters out of control's table, and one sentence for each value that was refused.

    A name that is not there has its default. A refused value leaves that of `before`, the last good ones.
    """
    known = asdict(before or Parameters())
    good: dict[str, float | int] = {}
    refused = []
    for name, value in values.items():
        if name not in known:
            refused.append(f"strategy.{name}: no such parameter; known are {', '.join(known)}")
        elif (wrong := _wrong(name, value)) is not None:
            refused.append(f"strategy.{name}: expected {wrong}, found {value!r:.80}; {known[name]} stays")
            good[name] = known[name]
        else:
            good[name] = int(value) if name in _WHOLE else float(value)
    return replace(Parameters(), **good), tuple(refused)  # type: ignore[arg-type]  # names and types were checked above


def _wrong(name: str, value: object) -> str | None:
    """What was expected of a value that cannot be taken, or None."""
    if (
        isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST
    ):  # NaN is refused, too
        return f"a number from 0 to {_LARGEST:g}"
    if name in _FRACTIONS and value > 1:
        return "at most 1"
    if name in _WHOLE and not (value >= 1 and value == int(value)):
        return "a whole number of at least 1"
    return None


def probability_up(inputs: Inputs, floor: float) -> float | None:
    """The probability that the settlement average ends at or above the strike; None while something is unknown.

    A driftless log-normal lead price. Before the average begins, the average of the last A seconds of a Brownian motion has
    the variance s^2 * (T + A/3), T seconds ahead of A. Inside it, the known part counts with its weight and the rest has the
    variance s^2 * r/3 over the r seconds that are left.
    """
    if inputs.strike is None or inputs.lead_price is None or inputs.volatility is None:
        return None
    if inputs.strike <= 0 or inputs.lead_price <= 0:
        return None
    volatility = max(inputs.volatility, floor)
    average = inputs.average_ms / 1000
    left = max(0.0, (inputs.end_ms - inputs.now_ms) / 1000)
    if left >= average or inputs.average_price is None or inputs.average_seconds <= 0:
        ahead, rest = max(0.0, left - average), min(left, average)
        deviation = volatility * math.sqrt(ahead + rest / 3)
        if deviation == 0:
            return float(inputs.lead_price >= inputs.strike)
        return _normal(math.log(inputs.lead_price / inputs.strike) / deviation)
    known = min(inputs.average_seconds, average)
    rest = max(0.0, average - known)
    expected = (known * inputs.average_price + rest * inputs.lead_price) / average
    deviation = rest / average * inputs.lead_price * volatility * math.sqrt(rest / 3)
    if deviation == 0:
        return float(expected >= inputs.strike)
    return _normal((expected - inputs.strike) / deviation)


def decide(inputs: Inputs, parameters: Parameters) -> Decision:
    """What to do in one slot now."""
    length = inputs.end_ms - inputs.start_ms
    in_snipe = inputs.end_ms - parameters.snipe_fraction * length <= inputs.now_ms < inputs.end_ms
    probability = probability_up(inputs, parameters.min_volatility)
    if probability is None:
        missing = "strike" if inputs.strike is None else "lead price" if inputs.lead_price is None else "volatility"
        return Decision("none", f"no {missing} yet", in_snipe=in_snipe)
    seen = Decision("none", "", probability_up=probability, in_snipe=in_snipe)
    if inputs.held is not None and inputs.held_shares > 0:
        return _exit(inputs, parameters, seen, probability)
    return _entry(inputs, parameters, seen, probability)


def _entry(inputs: Inputs, parameters: Parameters, seen: Decision, probability: float) -> Decision:
    outcome, chance, asks = _better_side(inputs, probability)
    if not asks:
        return replace(seen, reason="no offers")
    best = asks[0].price
    edge = chance - float(best) - _fee(inputs, float(best))
    seen = replace(seen, edge=edge, outcome=outcome)
    if not seen.in_snipe:
        return replace(seen, reason="before the snipe window")
    if float(best) > parameters.max_price:
        return replace(seen, reason=f"{outcome} costs {best}, more than {parameters.max_price:g}")
    if edge < parameters.min_edge:
        return replace(seen, reason=f"edge {edge:+.3f} is below {parameters.min_edge:g}")
    same = inputs.streak_window == inputs.window and inputs.streak_outcome == outcome
    streak = inputs.streak + 1 if same else 1
    seen = replace(seen, streak_window=inputs.window, streak_outcome=outcome, streak=streak)
    if streak < parameters.confirmations:
        return replace(seen, reason=f"confirmation {streak} of {parameters.confirmations}")
    if inputs.blocked:
        return replace(seen, reason=inputs.blocked)
    # Up to the price at which the edge is used up, never past it.
    limit = _highest_price(inputs, chance - parameters.min_edge, parameters)
    size = _entry_size(inputs, parameters, chance, float(best), limit, asks)
    if size < inputs.min_size or Decimal(size) / BASE_UNITS * limit < MIN_STAKE:
        return replace(seen, reason=f"size {Decimal(size) / BASE_UNITS:.2f} is below the venue's minimum")
    return replace(seen, action="enter", price=limit, size=size, reason=f"edge {edge:+.3f} at {best}")


def _exit(inputs: Inputs, parameters: Parameters, seen: Decision, probability: float) -> Decision:
    outcome = inputs.held
    assert outcome is not None, "an exit needs a position"
    chance, bids = (probability, inputs.bids_up) if outcome is Outcome.UP else (1 - probability, inputs.bids_down)
    if not bids:
        return replace(seen, outcome=outcome, reason="holding; no bids")
    best = bids[0].price
    gain = float(best) - _fee(inputs, float(best)) - chance
    seen = replace(seen, outcome=outcome, edge=-gain)
    if gain < parameters.exit_edge:
        return replace(seen, reason=f"holding; worth {chance:.3f}, bid {best}")
    size = inputs.held_shares // SIZE_STEP * SIZE_STEP
    if size < inputs.min_size:
        return replace(seen, reason="holding; too small to sell")
    if inputs.blocked:
        return replace(seen, reason=f"exit waits: {inputs.blocked}")
    # A book that is older than a change of the tick may show a price off the tick; lower still meets the same bid.
    price = max(inputs.tick, best // inputs.tick * inputs.tick)
    return replace(seen, action="exit", price=price, size=size, reason=f"the bid pays {gain:.3f} more than it is worth")


def _better_side(inputs: Inputs, probability: float) -> tuple[Outcome, float, tuple[Level, ...]]:
    edge_up = probability - float(inputs.asks_up[0].price) if inputs.asks_up else -1.0
    edge_down = (1 - probability) - float(inputs.asks_down[0].price) if inputs.asks_down else -1.0
    if edge_up >= edge_down:
        return Outcome.UP, probability, inputs.asks_up
    return Outcome.DOWN, 1 - probability, inputs.asks_down


def _entry_size(
    inputs: Inputs, parameters: Parameters, chance: float, best: float, limit: Decimal, asks: tuple[Level, ...]
) -> int:
    price = best + _fee(inputs, best)
    kelly = max(0.0, (chance - price) / (1 - price)) if price < 1 else 0.0
    stake = min(parameters.bankroll * kelly * parameters.kelly, parameters.max_stake)
    wanted = int(Decimal(stake) / limit * BASE_UNITS)
    offered = sum(level.size for level in asks if level.price <= limit)
    return min(wanted, offered) // SIZE_STEP * SIZE_STEP


def _highest_price(inputs: Inputs, worth: float, parameters: Parameters) -> Decimal:
    """The highest price on the tick at which price + fee is at most `worth`."""
    price = min(worth, parameters.max_price)
    for _ in range(4):  # the fee is a small, smooth function of the price: this has settled well before
        price = min(worth - _fee(inputs, price), parameters.max_price)
    limit = inputs.tick * (Decimal(price) / inputs.tick).to_integral_value(ROUND_DOWN)
    while limit > inputs.tick and float(limit) + _fee(inputs, float(limit)) > worth:
        limit -= inputs.tick
    return min(max(limit, inputs.tick), 1 - inputs.tick)


def _fee(inputs: Inputs, price: float) -> float:
    """Taker fee a share (venue.md 2.3)."""
    inside = max(0.0, price * (1 - price))
    return float(inputs.fee_rate * inside**inputs.fee_exponent)


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
