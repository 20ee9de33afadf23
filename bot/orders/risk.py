"""Risk limits, outside the strategy's reach. Pure. Exits are never refused here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SlotControl

SETTLES_MS = 60_000
"""How long after a sale its trade may still fail on the chain and the shares be back (venue.md: MATCHED, then FAILED)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is at stake already, in base units of pUSD: held at cost, and the worst case of what is in doubt.

    loss_today: what was lost since midnight UTC, 0 when nothing. orders_last_minute: entries and exits.
    """

    slot: int
    asset: int
    total: int
    loss_today: int
    orders_last_minute: int
    balance: int


def at_stake(shares: int, cost: int, sales: Iterable[tuple[int, int]], now_ms: int) -> int:
    """What a position has at stake, in base units of pUSD.

    What was sold in the last SETTLES_MS counts as held: an exit makes no room for an entry before it is certain.

    Args:
        shares, cost: what is held, and what it cost with its fees, less what was sold.
        sales: (UTC ms, proceeds in base units) of each sale.
        now_ms: the venue's time.
    """
    unsettled = sum(proceeds for at_ms, proceeds in sales if now_ms - at_ms < SETTLES_MS)
    return max(0, cost + unsettled) if shares > 0 or unsettled else 0


def why_blocked(*, busy: bool, placed: bool, held: bool, traded: bool, closed: str | None, stale: str | None) -> str:
    """Why no order may be placed in a slot now, whatever the strategy says, or "".

    busy: an order of the slot or its window is open or in doubt. placed: one of this side was placed since the last poll.
    held, traded: shares of this window are held; it was traded. closed, stale: why entries are closed, and why the lead price
    cannot be relied upon. Exits stay possible whatever closes entries, but none is decided on an old price.
    """
    if busy:
        return "an order of this slot is open or in doubt"
    if placed:  # a venue that refuses is not asked at every price
        return "our own budget: the next order of this slot waits for the next poll"
    if held:
        return stale or ""
    if traded:
        return "this window was traded already"
    return closed or stale or ""


def refuse_entry(cost: int, usage: Usage, limits: RiskLimits, slot: SlotControl) -> str | None:
    """Why an entry of at most `cost` base units is refused, or None when it is allowed."""
    wanted = [
        ("an order", cost, slot.max_order if slot.max_order is not None else limits.max_order),
        ("an order", cost, limits.max_order),
        ("this slot", usage.slot + cost, limits.max_slot),
        ("this asset", usage.asset + cost, limits.max_asset),
        ("everything", usage.total + cost, limits.max_total),
    ]
    for what, would_be, limit in wanted:
        if would_be > limit * BASE_UNITS:
            return f"risk: {would_be / BASE_UNITS:.2f} for {what} is above the limit of {limit}"
    if usage.loss_today >= limits.daily_loss * BASE_UNITS:
        return f"risk: today's loss {usage.loss_today / BASE_UNITS:.2f} reached the limit of {limits.daily_loss}"
    if usage.orders_last_minute >= limits.orders_per_minute:
        return f"risk: {usage.orders_last_minute} orders in the last minute reached the limit of {limits.orders_per_minute}"
    if cost > usage.balance:
        return f"risk: {cost / BASE_UNITS:.2f} is above the balance of {usage.balance / BASE_UNITS:.2f}"
    return None
