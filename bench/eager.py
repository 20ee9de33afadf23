"""A strategy that only wants orders: it enters every window in its first half, and leaves every second one before its end."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bot.strategy.api import Decision, Inputs
from bot.venue.types import BASE_UNITS
from ledger.values import Outcome

__all__ = ["Eager"]

_SHARES = 10 * BASE_UNITS
_STEP = BASE_UNITS // 100  # a sale is of whole hundredths of a share; a BUY that spends its money leaves less
_REACH = Decimal("0.03")  # beyond the best price, so that it is met in spite of the hold


@dataclass(frozen=True, slots=True)
class _Nothing:
    """It has no parameters."""


class Eager:
    """See above. Which outcome it buys follows from slot and window."""

    parameters = _Nothing

    def decide(self, inputs: Inputs, parameters: _Nothing) -> Decision:  # noqa: ARG002  it has none
        """What to do in one slot now."""
        length = inputs.end_ms - inputs.start_ms
        passed = (inputs.now_ms - inputs.start_ms) / length
        number = inputs.start_ms // length + len(inputs.slot) + ord(inputs.slot[0])
        if inputs.blocked:
            return Decision("none", inputs.blocked)
        if inputs.held is not None:
            bids = inputs.bids_up if inputs.held is Outcome.UP else inputs.bids_down
            size = inputs.held_shares // _STEP * _STEP
            if number % 2 or not 0.6 <= passed < 0.9 or not bids or not size:
                return Decision("none", "holding")
            price = max(inputs.tick, bids[0].price - _REACH)
            return Decision("exit", "half of the windows are left early", inputs.held, price, size)
        outcome = Outcome.UP if number % 3 else Outcome.DOWN
        asks = inputs.asks_up if outcome is Outcome.UP else inputs.asks_down
        if not 0.05 <= passed < 0.5 or not asks or asks[0].price > Decimal("0.9"):
            return Decision("none", "before the snipe window")
        return Decision("enter", "eager", outcome, min(asks[0].price + _REACH, 1 - inputs.tick), _SHARES)
