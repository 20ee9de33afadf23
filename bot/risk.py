"""Risk limits, outside the strategy's reach. Pure. Exits are never refused here."""

from __future__ import annotations

from dataclasses import dataclass

from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SlotControl


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
