"""Risk limits, outside the strategy's reach. Pure. Exits are never refused here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from bot.reasons import MaybeReason, Reason, ReasonCode
from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SlotControl
from ledger.values import Outcome

SETTLES_MS = 60_000
"""How long after a sale its trade may still fail on the chain and the shares be back (venue.md: MATCHED, then FAILED)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is at stake already, in base units of pUSD: held at cost, and the worst case of what is in doubt."""

    slot: int
    """In the slot that asks."""
    asset: int
    """In its asset."""
    total: int
    """In all."""
    loss_today: int
    """Lost since midnight UTC, 0 when nothing."""
    orders_last_minute: int
    """Entries and exits."""
    balance: int
    """What may be spent: the account's money less what is open, rests elsewhere, or left since it was read."""
    loss_last_hour: int = 0
    """Lost in the last hour, 0 when nothing."""
    open_loss: int = 0
    """By how much open positions would fetch less at the best bid than they cost."""
    losses_in_a_row: int = 0
    """Windows that ended with a loss, one after the other up to the newest."""
    last_loss_ms: int | None = None
    """When the newest of them ended, in UTC ms."""
    failed_last_hour: int = 0
    """Trades of the last hour's orders that failed on the chain."""
    directions: dict[Outcome, int] = field(default_factory=dict)
    """At stake on each outcome over the correlated assets, open entries included, less what is held of the other."""


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


def directions(stakes: Iterable[tuple[Outcome, int]], held: Iterable[tuple[Outcome, int]]) -> dict[Outcome, int]:
    """What is at stake on each outcome, less what is held of the other.

    Args:
        stakes: every stake, with the worst case of open entries and what was sold a moment ago.
        held: what is certainly held, and makes up for as much of the other outcome.
    """
    risked, certain = dict.fromkeys(Outcome, 0), dict.fromkeys(Outcome, 0)
    for outcome, stake in stakes:
        risked[outcome] += stake
    for outcome, cost in held:
        certain[outcome] += max(0, cost)
    return {
        Outcome.UP: risked[Outcome.UP] - certain[Outcome.DOWN],
        Outcome.DOWN: risked[Outcome.DOWN] - certain[Outcome.UP],
    }


def why_blocked(
    *, busy: bool, placed: bool, held: bool, traded: bool, closed: Reason | None, stale: Reason | None
) -> MaybeReason:
    """Why no order may be placed in a slot now, whatever the strategy says, or "".

    busy: an order of the slot or its window is open or in doubt. placed: one of this side was placed since the last poll.
    held, traded: shares of this window are held; it was traded. closed, stale: why entries are closed, and why the lead price
    cannot be relied upon. Exits stay possible whatever closes entries, but none is decided on an old price.
    """
    if busy:
        return Reason(ReasonCode.BUSY, "an order of this slot is open or in doubt")
    if placed:  # a venue that refuses is not asked at every price
        return Reason(ReasonCode.BUDGET, "our own budget: the next order of this slot waits for the next poll")
    if held:
        return stale or ""
    if traded:
        return Reason(ReasonCode.TRADED, "this window was traded already")
    return closed or stale or ""


def cooling_until_ms(usage: Usage, limits: RiskLimits) -> int | None:
    """Until when entries wait after losses in a row, in UTC ms; None where they do not."""
    if limits.losses_in_a_row is None or usage.last_loss_ms is None or usage.losses_in_a_row < limits.losses_in_a_row:
        return None
    return usage.last_loss_ms + limits.cool_down_minutes * 60_000


def refuse_all(usage: Usage, limits: RiskLimits, now_ms: int) -> Reason | None:
    """Why no entry may be made at all now, whatever it costs, or None. now_ms: UTC ms."""
    open_loss = usage.open_loss if limits.count_open else 0
    for code, what, lost, limit in (
        (ReasonCode.DAILY_LOSS, "today's loss", usage.loss_today, limits.daily_loss),
        (ReasonCode.HOURLY_LOSS, "the last hour's loss", usage.loss_last_hour, limits.hourly_loss),
    ):
        if limit is not None and lost + open_loss >= limit * BASE_UNITS:
            beside = f", {_pusd(open_loss)} of it not sold yet," if open_loss else ""
            return _risk(code, f"{what} {_pusd(lost + open_loss)}{beside} reached the limit of {limit}")
    until_ms = cooling_until_ms(usage, limits)
    if until_ms is not None and now_ms < until_ms:
        return _risk(
            ReasonCode.LOSSES_IN_A_ROW,
            f"{usage.losses_in_a_row} losses in a row reached the limit of {limits.losses_in_a_row}; "
            f"entries wait {-(-(until_ms - now_ms) // 60_000)} min more",
        )
    if usage.failed_last_hour >= limits.failed_trades_per_hour:
        return _risk(
            ReasonCode.FAILED_TRADES,
            f"{usage.failed_last_hour} trades of the last hour failed on the chain, "
            f"the limit is {limits.failed_trades_per_hour}",
        )
    return None


def refuse_entry(
    cost: int,
    usage: Usage,
    limits: RiskLimits,
    slot: SlotControl,
    *,
    now_ms: int = 0,
    outcome: Outcome | None = None,
) -> Reason | None:
    """Why an entry of at most `cost` base units is refused, or None when it is allowed.

    outcome: what it buys, where its asset is one of the correlated ones. now_ms: UTC ms.
    """
    wanted = [
        ("an order", cost, slot.max_order if slot.max_order is not None else limits.max_order),
        ("an order", cost, limits.max_order),
        ("this slot", usage.slot + cost, limits.max_slot),
        ("this asset", usage.asset + cost, limits.max_asset),
        ("everything", usage.total + cost, limits.max_total),
    ]
    for what, would_be, limit in wanted:
        if would_be > limit * BASE_UNITS:
            return _risk(ReasonCode.RISK, f"{_pusd(would_be)} for {what} is above the limit of {limit}")
    if limits.max_direction is not None and outcome is not None:
        would_be = usage.directions.get(outcome, 0) + cost
        if would_be > limits.max_direction * BASE_UNITS:
            return _risk(
                ReasonCode.DIRECTION, f"{_pusd(would_be)} net on {outcome} is above the limit of {limits.max_direction}"
            )
    if (refusal := refuse_all(usage, limits, now_ms)) is not None:
        return refusal
    if usage.orders_last_minute >= limits.orders_per_minute:
        return _risk(
            ReasonCode.RATE,
            f"{usage.orders_last_minute} orders in the last minute reached the limit of {limits.orders_per_minute}",
        )
    if cost > usage.balance:
        return _risk(ReasonCode.BANKROLL, f"{_pusd(cost)} is above the balance of {_pusd(usage.balance)}")
    return None


def _risk(code: ReasonCode, text: str) -> Reason:
    return Reason(code, f"risk: {text}")


def _pusd(units: int) -> str:
    return f"{units / BASE_UNITS:.2f}"
