"""What a strategy is: from all that is known of one slot to one decision. Pure: equal inputs give equal decisions.

BOT_STRATEGY names the class that trades (docs/strategy.md); `bot.strategy.snipe` is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from bot.venue.types import Level
from ledger.values import Outcome

Action = Literal["none", "enter", "exit"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that one decision depends on.

    *_ms: UTC ms. strike, lead_price, average_*: prices in USDT. volatility: of the log price per sqrt(second).
    average_seconds, average_price: the part of the settlement average that is known already. bids, asks: best levels first.
    held: the outcome and shares (base units) held of this window. streak_*: the evaluation state left by the last evaluation.
    blocked: why no order may be placed in this slot whatever the strategy says ("" when it may). seen_ms: when the newest of
    the prices and books here arrived, UTC ms; streak_ms: the seen_ms of the last evaluation that the streak counted.
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
    seen_ms: int = 0
    streak_ms: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in one slot and why; streak_* is the evaluation state for the next evaluation.

    price: limit, on the tick. size: base units of shares. probability_up, edge and in_snipe (its snipe window is
    open) are for people. every_price_from_ms: from when until the window's end the slot is evaluated on every
    price as well as at every poll (UTC ms; None: at polls alone).
    """

    action: Action
    reason: str
    outcome: Outcome | None = None
    price: Decimal | None = None
    size: int = 0
    probability_up: float | None = None
    edge: float | None = None
    in_snipe: bool = False
    every_price_from_ms: int | None = None
    streak_window: str = ""
    streak_outcome: str = ""
    streak: int = 0
    streak_ms: int = 0


class Strategy(Protocol):
    """A strategy. Made once at the start, without arguments; it keeps nothing between two decisions.

    Whatever it decides, risk limits, the checks of `bot.sound` and a slot's state stand between it and an order.
    """

    @property
    def parameters(self) -> type[Any]:
        """A frozen dataclass whose fields have defaults: what control may change without a deploy (`bot.strategy.api`)."""

    def decide(self, inputs: Inputs, parameters: Any) -> Decision:
        """What to do in one slot now. Takes well under a millisecond; what it raises costs this slot this evaluation."""
