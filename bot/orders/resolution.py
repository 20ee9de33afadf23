"""What may be concluded of an order from what the venue shows. Pure.

Not finding an order proves nothing: a request may still be in the network (venue.md 1.6). Doubt ends when the venue shows the
order or its trades, when the identical bytes are answered, or when the window has closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bot.venue.types import BASE_UNITS, VenueOrder
from ledger import Ledger
from ledger.rows import OpenIntent
from ledger.schema import BY_HAND, OrderState
from ledger.values import VenueTrade

# After the end of its window no order of it can be matched; the margin is for a venue clock that differs and for late trades.
CLOSED_MARGIN_MS = 5_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """state: the last row of the order, None when there is none. size: base units of shares.

    filled: shares in its recorded trades, failed ones included. matched: the most that the venue said was matched, None when
    it said nothing. shown: the order as the venue shows it now. closed: the window ended CLOSED_MARGIN_MS ago.
    """

    state: OrderState | None
    size: int
    filled: int
    matched: int | None
    shown: VenueOrder | None
    closed: bool


def conclude(evidence: Evidence) -> tuple[OrderState, str] | None:
    """The next state of an order and the reason in words, or None when nothing new can be said.

    Never DONE while the venue says that more was matched than its trades show.
    """
    shown, filled, state = evidence.shown, evidence.filled, evidence.state
    matched = max(evidence.matched or 0, shown.matched if shown is not None else 0)
    if filled >= matched and not (shown is not None and shown.open):
        if shown is not None:
            return OrderState.DONE, f"the venue shows it as {shown.status} with {shown.matched} matched"
        if filled >= evidence.size:
            return OrderState.DONE, "filled whole"
        if evidence.closed:
            return OrderState.DONE, f"the window has closed; the venue shows trades of {filled}"
        if state is OrderState.ACCEPTED and evidence.matched is not None:
            return OrderState.DONE, f"the venue answered with {matched} matched, and shows that much in trades"
    if evidence.closed and state is OrderState.ACCEPTED and filled < matched:
        return OrderState.IN_DOUBT, f"the window has closed; {matched} were matched, the venue shows trades of {filled}"
    if state is not OrderState.ACCEPTED and not evidence.closed and (shown is not None or filled > 0):
        return OrderState.ACCEPTED, "the venue shows the order" if shown is not None else "the venue shows its trades"
    return None


# What a person may say of an order that the venue never resolved.


Verdict = Literal["filled", "refused"]


def vouched_trade(
    found: OpenIntent, verdict: Verdict, shares: int | None, *, known: int, now_ms: int
) -> VenueTrade | None:
    """The fill that a person vouches for, or None where nothing is to be added.

    It is at the order's limit price, with the worst fee: nobody knows better. Pure.

    Args:
        shares: filled in all, in base units; None takes what the venue said was matched, else the whole order.
        known: shares in the order's recorded trades, in base units.
        now_ms: the venue's time.

    Raises:
        ValueError: the window has not closed, or the verdict contradicts the recorded trades or the order's size.
    """
    intent = found.intent
    if now_ms <= intent.window_end_ms + CLOSED_MARGIN_MS:
        raise ValueError(
            f"the window {intent.window} has not closed: the venue may still show what became of the order"
        )
    if verdict == "refused":
        if known:
            raise ValueError(f"trades of {known / BASE_UNITS:g} shares of the order are recorded: it was not refused")
        return None
    total = shares if shares is not None else found.matched or intent.size
    if not known <= total <= max(intent.size, found.matched or 0):
        raise ValueError(
            f"expected between {known / BASE_UNITS:g} shares (recorded) and {intent.size / BASE_UNITS:g} (the order), "
            f"found {total / BASE_UNITS:g}"
        )
    if total == known:
        return None
    worst_fee = max(0, intent.cost - int(intent.price * intent.size)) * (total - known) // intent.size
    return VenueTrade(
        trade_id=f"{BY_HAND}{intent.order_id}",
        order_id=intent.order_id,
        token_id=intent.token_id,
        condition_id=intent.condition_id,
        side=intent.side,
        price=intent.price,
        size=total - known,
        fee=worst_fee,
        status="BY_HAND",
        at_ms=now_ms,
    )


def add_settled_by_hand(
    ledger: Ledger, epoch: int, order_id: str, verdict: Verdict, shares: int, who: str, note: str, wall_ms: int
) -> None:
    """Record who settled an order, as what, and why. shares: base units that they vouch for."""
    ledger.execute(
        "INSERT INTO settled_by_hand(order_id, epoch, verdict, shares, who, note, wall_ms) VALUES (?,?,?,?,?,?,?) "
        "ON CONFLICT DO NOTHING",  # a crash came before the order's state was recorded, and somebody asked again
        (order_id, epoch, verdict, shares, who, note, wall_ms),
    )
