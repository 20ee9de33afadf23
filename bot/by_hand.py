"""What a person may say of an order that the venue never resolved."""

from __future__ import annotations

from typing import Literal

from bot.orders.resolution import CLOSED_MARGIN_MS
from bot.venue.types import BASE_UNITS
from ledger import Ledger
from ledger.rows import OpenIntent
from ledger.schema import BY_HAND
from ledger.values import VenueTrade

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
