"""The risk limits beside what the account, the ledger and the open orders say: whether an entry may leave."""

from __future__ import annotations

from bot.account.portfolio import Portfolio
from bot.context import Context
from bot.orders.manager import OrderManager
from bot.orders.order_plan import OrderPlan, worst_cost
from bot.orders.risk import Usage, cooling_until_ms, refuse_all, refuse_entry
from bot.reasons import Reason
from bot.slots import Slot
from bus import RiskLimits, SlotControl


class EntryRisk:
    """One epoch's risk: a cache of nothing, all that it asks is in the ledger or open. Its methods raise LedgerError."""

    def __init__(self, world: Context, holdings: Portfolio, desk: OrderManager) -> None:
        self._world, self._holdings, self._desk = world, holdings, desk

    def closed(self, risk: RiskLimits | None) -> Reason | None:
        """Why no entry may be made at all, as losses and failures have it, or None."""
        if risk is None:
            return None
        return refuse_all(self._holdings.losses(risk), risk, self._world.now_ms())

    def refuse(self, slot: Slot, plan: OrderPlan, risk: RiskLimits, limits: SlotControl) -> Reason | None:
        """Why this entry is refused, or None."""
        is_correlated = not risk.correlated or slot.asset in risk.correlated
        return refuse_entry(
            worst_cost(plan.price, plan.size, plan.market),
            self._usage(slot, risk),
            risk,
            limits,
            now_ms=self._world.now_ms(),
            outcome=plan.outcome if is_correlated else None,
        )

    def usage(self, risk: RiskLimits | None) -> dict[str, Usage]:
        """What is at stake, by slot."""
        return {slot.id: self._usage(slot, risk or RiskLimits()) for slot in self._world.slots}

    def cooling_until_ms(self, risk: RiskLimits | None) -> int | None:
        """Until when entries wait after losses in a row (UTC ms); None where they do not."""
        if risk is None:
            return None
        until_ms = cooling_until_ms(self._holdings.losses(risk), risk)
        return until_ms if until_ms is not None and until_ms > self._world.now_ms() else None

    @property
    def bankroll(self) -> int | None:
        """What entries may spend, in base units: the balance less what is open or rests elsewhere; None until it is known."""
        if self._world.account.account is None:
            return None
        return max(0, self._holdings.bankroll(self._desk.entries_ahead))

    def _usage(self, slot: Slot, risk: RiskLimits) -> Usage:
        return self._holdings.usage(slot, self._desk.entries_ahead, self._desk.orders_last_minute, risk)
