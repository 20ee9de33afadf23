"""What a strategy is: from all that is known of one slot to one decision. Pure: equal inputs give equal decisions.

BOT_STRATEGY names the class that trades (docs/how-to/strategy.md); `bot.strategy.snipe` is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeVar

from bot.reasons import Reason, ReasonCode, code_of
from bot.venue.types import BASE_UNITS, Level
from bus import ParameterStatus
from ledger.values import Outcome

Action = Literal["none", "enter", "exit"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that one decision depends on.

    *_ms: UTC ms. strike, lead_price, average_*: prices of the settlement source, in USD. lead_price is the lead's (Binance, USDT)
    without its basis to that source. It is None where there is none or its basis is not known, and where shares are held and it
    is old: an exit may be decided on the bid. basis_sd: what it may be off by, as a standard deviation of the log price.
    volatility: of the log price per sqrt(second).
    average_seconds, average_price: the part of the settlement average that is known already. bids, asks: best levels first.
    held: the outcome and shares (base units) held of this window. streak_*: the evaluation state left by the last evaluation.
    blocked: why no order may be placed in this slot whatever the strategy says ("" when it may). seen_ms: when the lead price
    here arrived, UTC ms, or the book where lead_price is withheld. book_ms: when the venue last told the best prices here, UTC
    ms; None in inputs that a release before this one recorded. streak_ms: when the data arrived that the streak counted last.
    bankroll: pUSD that entries may spend, as the account shows it less what is open or rests elsewhere; None: it is not known.
    basis: log(lead / settlement price) that was taken off the lead, None where that is not known. strike_seconds, strike_average:
    of a window that has not begun, the part of its strike's average that is known. correlated: pUSD at stake in other windows
    that would be lost with Up of this one, less what would be won; of other assets CORRELATION counts.
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
    bankroll: float | None = None
    basis: float | None = None
    basis_sd: float = 0.0
    book_ms: int | None = None
    strike_seconds: float = 0.0
    strike_average: float | None = None
    correlated: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in one slot and why; streak_* is the evaluation state for the next evaluation.

    reason: plain words, or a `bot.reasons.Reason`, whose code metrics and status show. price: limit, on the tick.
    size: base units of shares. probability_up, edge and in_snipe (its snipe window is open) are for people.
    every_price_from_ms: from when until the window's end the slot is evaluated on every
    price as well as at every poll (UTC ms; None: at polls alone). For `bot calibrate`: market_up, what the market says of Up;
    belief_up, what was decided upon; mean_price, what a share of the whole size costs or brings by the book, pUSD.
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
    market_up: float | None = None
    belief_up: float | None = None
    mean_price: float | None = None

    @property
    def code(self) -> ReasonCode:
        """That of the reason; OTHER of plain words."""
        return code_of(self.reason)


class Strategy(Protocol):
    """A strategy. Made once at the start, without arguments; it keeps nothing between two decisions.

    Whatever it decides, risk limits, the checks of `bot.strategy.api` and a slot's state stand between it and an order.
    """

    @property
    def parameters(self) -> type[Any]:
        """A frozen dataclass whose fields have defaults: what control may change without a deploy (`bot.strategy.api`)."""

    def decide(self, inputs: Inputs, parameters: Any) -> Decision:
        """What to do in one slot now. Takes well under a millisecond; what it raises costs this slot this evaluation."""


# A strategy's parameters: a frozen dataclass whose fields say what they allow; control's values are checked by it. Pure.


LARGEST = 1e12
LONGEST = 200

P = TypeVar("P", bound=object)


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most that a number may be, both allowed."""

    least: float = 0.0
    most: float = LARGEST


def number(default: float, *, least: float = 0.0, most: float = LARGEST, unit: str = "") -> Any:
    """A field of a parameters class. A default that is an int makes it a whole number. unit: in a word or two, for people."""
    return field(default=default, metadata={"range": Range(least, most), "unit": unit})


def about_parameters(kind: Any) -> dict[str, ParameterStatus]:
    """What each parameter of a class may be, by name, for people."""
    return {item.name: _about(item.default, item.metadata) for item in fields(kind)}


def _about(default: Any, metadata: Mapping[str, Any]) -> ParameterStatus:
    if isinstance(default, bool | str):
        return ParameterStatus(default=default)
    bounds = metadata.get("range", Range(-LARGEST))
    return ParameterStatus(
        default=default,
        least=None if bounds.least <= -LARGEST else bounds.least,
        most=None if bounds.most >= LARGEST else bounds.most,
        unit=metadata.get("unit", ""),
    )


def why_no_schema(kind: object) -> str | None:
    """Why a class cannot be a strategy's parameters, or None."""
    if not isinstance(kind, type) or not hasattr(kind, "__dataclass_fields__"):
        return "expected a dataclass"
    for item in fields(kind):
        if not isinstance(item.default, bool | int | float | str):
            return f"expected field {item.name} to have a default that is a number, a text or a bool"
    return None


def read_parameters(kind: type[P], values: Mapping[str, object], before: P | None = None) -> tuple[P, tuple[str, ...]]:
    """The parameters out of control's table, and one sentence for each value that was refused.

    A name that is not there has its default. A refused value leaves that of `before`, the last good ones.
    """
    last_good = before if before is not None else kind()
    schema: Any = kind  # `why_no_schema` saw that it is a dataclass
    by_name = {item.name: item for item in fields(schema)}
    good: dict[str, object] = {}
    refused = []
    for name, value in values.items():
        if name not in by_name:
            refused.append(f"strategy.{name}: no such parameter; known are {', '.join(by_name)}")
            continue
        default: Any = by_name[name].default
        wrong = _wrong(default, by_name[name].metadata.get("range", Range(-LARGEST)), value)
        if wrong is not None:
            stays = getattr(last_good, name)
            refused.append(f"strategy.{name}: expected {wrong}, found {value!r:.80}; {stays} stays")
            good[name] = stays
        else:
            good[name] = type(default)(value)
    return kind(**good), tuple(refused)


def _wrong(default: object, allowed: Range, value: object) -> str | None:
    """What was expected of a value that cannot be taken, or None."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return None if isinstance(value, str) and len(value) <= LONGEST else f"a text of at most {LONGEST} characters"
    what = "a whole number" if isinstance(default, int) else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not allowed.least <= value <= allowed.most  # NaN is refused, too
        or (isinstance(default, int) and value != int(value))
    ):
        return f"{what} from {allowed.least:g} to {allowed.most:g}"
    return None


# Whether a decision can become an order at all: outside the strategy's reach, before risk is asked. Pure.


SIZE_STEP = BASE_UNITS // 100  # sizes have two decimals (venue.md 2.3)


def invalid_reason(decision: object, inputs: Inputs) -> Reason | None:
    """What is wrong with a decision in itself, whatever the limits say, or None. Prices and sizes are as in Decision."""
    if not isinstance(decision, Decision):
        return _unsound(f"expected a Decision, found {type(decision).__name__}")
    if decision.action not in ("none", "enter", "exit"):
        return _unsound(f"expected the action none, enter or exit, found {decision.action!r:.40}")
    if decision.action == "none":
        return None
    if not isinstance(decision.outcome, Outcome):
        return _unsound(f"an order needs an outcome, found {decision.outcome!r:.40}")
    return _unsound_price(decision, inputs) or _unsound_size(decision, inputs)


def _unsound(text: str) -> Reason:
    return Reason(ReasonCode.UNSOUND, text)


def _unsound_price(decision: Decision, inputs: Inputs) -> Reason | None:
    price, tick = decision.price, inputs.tick
    if not isinstance(price, Decimal) or not price.is_finite() or not tick <= price <= 1 - tick:
        return _unsound(f"expected a Decimal price from {tick} to {1 - tick}, found {price!r:.40}")
    if price % tick:
        return _unsound(f"price {price} is not on the tick {tick}")
    if decision.action == "exit":
        return None  # however low: it meets the best bid there is
    asks = inputs.asks_up if decision.outcome is Outcome.UP else inputs.asks_down
    if not asks or price < asks[0].price:
        return _unsound(f"nothing is offered at {price} that an entry could meet")
    return None


def _unsound_size(decision: Decision, inputs: Inputs) -> Reason | None:
    size = decision.size
    # The market's minimum is of resting orders; what is left of a position is tried below it (venue.md 2.3).
    least = SIZE_STEP if decision.action == "exit" else inputs.min_size
    if isinstance(size, bool) or not isinstance(size, int) or size < least or size % SIZE_STEP:
        return _unsound(f"expected a size of at least {least} base units in steps of {SIZE_STEP}, found {size!r:.40}")
    if decision.action == "exit" and (decision.outcome is not inputs.held or size > inputs.held_shares):
        return _unsound(
            f"an exit of {size} {decision.outcome} is more than is held ({inputs.held_shares} {inputs.held})"
        )
    return None
