"""Whether a decision can become an order at all: outside the strategy's reach, before risk is asked. Pure."""

from __future__ import annotations

from decimal import Decimal

from bot.strategy.api import Decision, Inputs
from bot.venue.types import BASE_UNITS
from ledger.values import Outcome

SIZE_STEP = BASE_UNITS // 100  # sizes have two decimals (venue.md 2.3)


def unsound(decision: object, inputs: Inputs) -> str | None:
    """What is wrong with a decision in itself, whatever the limits say, or None. Prices and sizes are as in Decision."""
    if not isinstance(decision, Decision):
        return f"expected a Decision, found {type(decision).__name__}"
    if decision.action not in ("none", "enter", "exit"):
        return f"expected the action none, enter or exit, found {decision.action!r:.40}"
    if decision.action == "none":
        return None
    if not isinstance(decision.outcome, Outcome):
        return f"an order needs an outcome, found {decision.outcome!r:.40}"
    return _unsound_price(decision, inputs) or _unsound_size(decision, inputs)


def _unsound_price(decision: Decision, inputs: Inputs) -> str | None:
    price, tick = decision.price, inputs.tick
    if not isinstance(price, Decimal) or not price.is_finite() or not tick <= price <= 1 - tick:
        return f"expected a Decimal price from {tick} to {1 - tick}, found {price!r:.40}"
    if price % tick:
        return f"price {price} is not on the tick {tick}"
    if decision.action == "exit":
        return None  # however low: it meets the best bid there is
    asks = inputs.asks_up if decision.outcome is Outcome.UP else inputs.asks_down
    if not asks or price < asks[0].price:
        return f"nothing is offered at {price} that an entry could meet"
    return None


def _unsound_size(decision: Decision, inputs: Inputs) -> str | None:
    size = decision.size
    if isinstance(size, bool) or not isinstance(size, int) or size < inputs.min_size or size % SIZE_STEP:
        return f"expected a size of at least {inputs.min_size} base units in steps of {SIZE_STEP}, found {size!r:.40}"
    if decision.action == "exit" and (decision.outcome is not inputs.held or size > inputs.held_shares):
        return f"an exit of {size} {decision.outcome} is more than is held ({inputs.held_shares} {inputs.held})"
    return None
