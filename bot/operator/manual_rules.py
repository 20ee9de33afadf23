"""Manual entries and exits: what to do about one of control's manual actions in one evaluation. Pure.

An entry is one order for the window that the person saw; whatever keeps it from being placed refuses it for good, since a
person who reads "refused" shall not be surprised by it later. An exit is a wish that nothing is held: it is repeated, poll by
poll, until that is so or the window has ended. Risk, halts and pauses stop entries as they stop the strategy's; never exits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Literal

from bot.orders.order_plan import FEE_ROUNDING, worst_cost
from bot.reasons import NO_ORDERS, Reason, ReasonCode, code_of
from bot.strategy.api import SIZE_STEP, Decision, Inputs
from bot.strategy.evaluation import Evaluation
from bot.strategy.selling import sale
from bot.venue.types import BASE_UNITS, Market
from bus import ManualAction
from ledger.values import Outcome

State = Literal["waiting", "ordered", "done", "refused"]
MIN_STAKE = Decimal(1)  # pUSD; marketable orders are at least that much (venue.md 2.3)
OVER = "its window is over"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far an action has come and why. decision: the order to place now, in state waiting alone. Done, refused: final.

    text: why, for people; what is ordered where there is a decision.
    """

    state: State
    text: str
    decision: Decision | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more is to be done about it."""
        return self.state in ("done", "refused")

    @property
    def code(self) -> str:
        """The code of why nothing is done; empty where something is. Words of this module's own are MANUAL."""
        if self.state in ("ordered", "done"):
            return ""
        return code_of(self.text) if isinstance(self.text, Reason) else ReasonCode.MANUAL


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of the orders that an action led to, and what the ledger holds in its window.

    open: one is on its way, or is an entry in doubt. shares: filled; held: in the window now (base units).
    """

    orders: int = 0
    open: bool = False
    shares: int = 0
    text: str = ""
    held: int = 0


def reason_of(action: ManualAction, what: str) -> Reason:
    """The reason of the orders of an action."""
    return Reason(ReasonCode.MANUAL, f"manual {action.id}: {what}")


def judge(
    action: ManualAction, e: Evaluation | None, ordered: Ordered, *, busy: bool, now_ms: int, entering: bool = False
) -> Verdict:
    """What to do about an action. e: the evaluation of its window, None where no slot looks at it now.

    busy: for an exit, another one of the window is on its way. entering: an entry of the slot or window is open or in doubt.
    """
    if ordered.open:
        return Verdict("ordered", "an order is on its way")
    if action.action == "enter" and ordered.orders:
        bought = f"bought {_shares(ordered.shares)}"
        return Verdict("done", bought) if ordered.shares else Verdict("refused", f"nothing bought: {ordered.text}")
    if action.window is None or action.expires_ms is None:
        return Verdict("refused", "it names no window with its end")
    if now_ms >= action.expires_ms:
        return _over(action, ordered)
    if e is None or e.window.slug != action.window:
        nobody = f"no slot of this instance trades the window {action.window} now"
        if action.action == "exit" and ordered.held > 0:
            return Verdict("waiting", f"{_shares(ordered.held)} are held, and {nobody}")
        return Verdict("refused", nobody)
    if e.inputs is None or e.market is None:
        return Verdict("refused" if action.action == "enter" else "waiting", e.decision.reason)
    if action.action == "exit":
        return _exit(action, e.inputs, e.market, ordered, busy=busy, entering=entering)
    return _enter(action, e, e.inputs, e.market)


def _over(action: ManualAction, ordered: Ordered) -> Verdict:
    if action.action == "exit" and ordered.held >= SIZE_STEP:
        last = f" ({ordered.text})" if ordered.text else ""
        return Verdict("refused", f"{OVER}; {_shares(ordered.held)} are held still{last}: they wait for the outcome")
    if action.action == "exit" and ordered.shares:
        return Verdict("done", f"sold {_shares(ordered.shares)}; {OVER}")
    return Verdict("refused", OVER)


def _enter(action: ManualAction, e: Evaluation, inputs: Inputs, market: Market) -> Verdict:
    if action.outcome is None or action.max_spend is None:
        return Verdict("refused", "an entry needs an outcome and max_spend")
    if inputs.blocked:
        return Verdict("refused", inputs.blocked)
    if not market.accepting:
        return Verdict("refused", NO_ORDERS)
    if inputs.held is not None:
        return Verdict("refused", f"{_shares(inputs.held_shares)} {inputs.held} are held in this window already")
    outcome = Outcome(action.outcome)
    asks = inputs.asks_up if outcome is Outcome.UP else inputs.asks_down
    if not asks:
        return Verdict("refused", f"nothing is offered of {outcome}")
    price = asks[0].price if action.max_price is None else action.max_price // inputs.tick * inputs.tick
    price = min(max(price, inputs.tick), 1 - inputs.tick)
    if asks[0].price > price:
        return Verdict("refused", f"the best offer of {outcome} is {asks[0].price}, above the limit of {price}")
    size = _affordable(action.max_spend, price, market)
    if size < inputs.min_size or Decimal(size) / BASE_UNITS * price < MIN_STAKE:
        least = Decimal(worst_cost(price, inputs.min_size, market)) / BASE_UNITS
        return Verdict(
            "refused", f"{action.max_spend} pUSD buys {_shares(size)} at {price}; the least is about {least:.2f}"
        )
    what = f"{_shares(size)} {outcome} at up to {price}"
    return Verdict("waiting", what, _wanted(e, reason_of(action, what), outcome, price, size))


def _exit(
    action: ManualAction, inputs: Inputs, market: Market, ordered: Ordered, *, busy: bool, entering: bool
) -> Verdict:
    if busy:
        return Verdict("waiting", "an exit of this window is on its way")
    if inputs.held is None or inputs.held_shares <= 0:
        if entering:  # it may still be filled: to be sold then
            return Verdict("waiting", "nothing is held yet; an entry is open or in doubt")
        return Verdict("done", f"sold {_shares(ordered.shares)}" if ordered.shares else "nothing is held")
    if inputs.held_shares < SIZE_STEP:
        return Verdict("done", f"{_shares(inputs.held_shares)} are too few to sell; they wait for the outcome")
    if not market.accepting:
        return Verdict("waiting", f"{_shares(inputs.held_shares)} are held; the venue takes no orders in this window")
    bids = inputs.bids_up if inputs.held is Outcome.UP else inputs.bids_down
    offer = sale(bids, inputs.held_shares, min_size=inputs.min_size, tick=inputs.tick, floor=inputs.tick)
    if offer is None:
        return Verdict("waiting", f"{_shares(inputs.held_shares)} are held; nobody bids for {inputs.held}")
    what = f"{_shares(offer.size)} {inputs.held} at {offer.price} or better"
    decision = Decision("exit", reason_of(action, what), outcome=inputs.held, price=offer.price, size=offer.size)
    return Verdict("waiting", what, decision)


def _wanted(e: Evaluation, reason: Reason, outcome: Outcome, price: Decimal, size: int) -> Decision:
    """The order, beside what the strategy found out about the slot; its streak is spent."""
    decision = e.decision
    return replace(
        decision,
        action="enter",
        reason=reason,
        outcome=outcome,
        price=price,
        size=size,
        streak_window="",
        streak_outcome="",
        streak=0,
    )


def _affordable(max_spend: Decimal, price: Decimal, market: Market) -> int:
    """The largest size whose worst case, fee included, costs at most `max_spend` pUSD."""
    share = Decimal(worst_cost(price, BASE_UNITS, market) - FEE_ROUNDING + 1) / BASE_UNITS
    most = (max_spend * BASE_UNITS - FEE_ROUNDING) / share
    return max(0, int(most.to_integral_value(ROUND_DOWN))) // SIZE_STEP * SIZE_STEP


def _shares(size: int) -> str:
    return f"{Decimal(size) / BASE_UNITS:f}".rstrip("0").rstrip(".") if size % BASE_UNITS else str(size // BASE_UNITS)
