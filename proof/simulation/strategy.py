"""A strategy that keeps orders on the way at every handover: it enters each window soon, and leaves most of them again.

It counts its looks at each window, as confirmations are counted, and wants a look at every price late in a window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from bot.strategy.api import Decision, Inputs
from bot.venue.types import BASE_UNITS
from ledger.values import Outcome

SHARES = 10 * BASE_UNITS
_LATE = 0.2  # the part of a window in which every price is looked at
_REACH = Decimal("0.03")  # beyond the best price, so that it is met in spite of the hold


@dataclass(frozen=True, slots=True)
class _Nothing:
    """It has no parameters."""


class BrokenError(Exception):
    """What a broken commit's strategy raises."""


class Restless:
    """Equal inputs give equal decisions. kind: of the commit; a sick one raises, always or once it trades."""

    parameters = _Nothing

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def decide(self, inputs: Inputs, parameters: _Nothing) -> Decision:  # noqa: ARG002  # it has none
        """What to do in one slot now."""
        look_from_ms = inputs.end_ms - int(_LATE * (inputs.end_ms - inputs.start_ms))
        looks = inputs.streak + 1 if inputs.streak_window == inputs.window else 1
        return replace(
            self._decide(inputs), every_price_from_ms=look_from_ms,
            streak_window=inputs.window, streak_outcome=Outcome.UP, streak=looks, streak_ms=inputs.seen_ms,
        )  # fmt: skip

    def _decide(self, inputs: Inputs) -> Decision:
        if self._kind == "sick" or (self._kind == "sick-active" and not inputs.blocked.startswith("standby")):
            raise BrokenError(f"this commit is {self._kind}")
        length = inputs.end_ms - inputs.start_ms
        passed = (inputs.now_ms - inputs.start_ms) / length
        number = inputs.start_ms // length + len(inputs.slot) + ord(inputs.slot[0])
        if inputs.blocked:
            return Decision("none", inputs.blocked)
        if inputs.held is not None:
            bids = inputs.bids_up if inputs.held is Outcome.UP else inputs.bids_down
            size = inputs.held_shares // 10_000 * 10_000
            if number % 4 == 0 or not 0.2 <= passed < 0.95 or not bids or size < inputs.min_size:
                return Decision("none", "holding")
            return Decision("exit", "left early", inputs.held, max(inputs.tick, bids[0].price - _REACH), size)
        outcome = Outcome.UP if number % 3 else Outcome.DOWN
        asks = inputs.asks_up if outcome is Outcome.UP else inputs.asks_down
        if not -0.9 <= passed < 0.8 or not asks or asks[0].price > Decimal("0.9"):
            return Decision("none", "not now")
        return Decision("enter", "restless", outcome, min(asks[0].price + _REACH, 1 - inputs.tick), SHARES)
