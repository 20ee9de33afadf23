"""What is held and what was won: a cache of the ledger for one epoch, read anew when something changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bot.context import Context
from bot.orders.risk import Usage, at_stake
from bot.slots import Slot, parse_slug
from ledger import Ledger
from ledger.rows import OpenIntent, Position, positions
from ledger.schema import TERMINAL
from ledger.totals import Lifetime, lifetime, pnl_by_slot, pnl_since, recent_outcomes
from ledger.values import Side

DAY_MS = 86_400_000


class Portfolio:
    """Positions, totals and outcomes. Its methods raise LedgerError."""

    def __init__(self, world: Context, ledger: Ledger) -> None:
        self._world, self._ledger = world, ledger
        self.positions: tuple[Position, ...] = ()
        self.totals: Lifetime
        self._pnl_today: tuple[int, int] | None = None
        self.summarize()
        self.refresh()

    def refresh(self) -> None:
        """After orders or fills changed."""
        self.positions = tuple(positions(self._ledger, self._world.now_ms()))
        self._world.markets.hold(parse_slug(position.window) for position in self.positions)
        self.totals = replace(self.totals, fills=self._ledger.integer("SELECT fills FROM totals"))

    def summarize(self) -> None:
        """At the take, and when a window resolved."""
        self.totals = lifetime(self._ledger)
        self._pnl_today = None
        self.pnl_by_slot = pnl_by_slot(self._ledger)
        self.outcomes = recent_outcomes(self._ledger)

    def count(self, *, completed: int = 0, missed: int = 0, orders: int = 0) -> None:
        """Polls and orders since the last summary."""
        self.totals = replace(
            self.totals,
            polls_completed=self.totals.polls_completed + completed,
            polls_missed=self.totals.polls_missed + missed,
            orders=self.totals.orders + orders,
        )

    def pnl_today(self) -> int:
        """PnL since midnight UTC, in base units."""
        day_ms = self._world.now_ms() // DAY_MS * DAY_MS
        if self._pnl_today is None or self._pnl_today[0] != day_ms:  # asked for at every order
            self._pnl_today = (day_ms, pnl_since(self._ledger, day_ms))
        return self._pnl_today[1]

    def holds(self, window: str) -> bool:
        """Whether shares of a window are held, whichever slot bought them: one that was the next is the current one later."""
        return any(position.window == window and position.shares > 0 for position in self.positions)

    def usage(self, slot: Slot, open_intents: Iterable[OpenIntent], orders_last_minute: int) -> Usage:
        """What is at stake: positions (`at_stake`), and the worst case of every open entry, which is not in the balance yet."""
        account = self._world.account.account
        buys = [order for order in open_intents if order.intent.side is Side.BUY]
        # What an entry that is over cost is out of the balance already.
        entries = [
            (order.intent.slot, cost_ahead(order) if order.state in TERMINAL else order.intent.cost) for order in buys
        ]
        ahead = [(order.intent.slot, cost_ahead(order)) for order in buys]
        now_ms = self._world.now_ms()
        stakes = [(p.slot, at_stake(p.shares, p.cost + p.fees, p.sales, now_ms)) for p in self.positions] + ahead
        return Usage(
            slot=sum(stake for name, stake in stakes if name == slot.id),
            asset=sum(stake for name, stake in stakes if name.split("-")[0] == slot.asset),
            total=sum(stake for _, stake in stakes),
            loss_today=max(0, -self.pnl_today()),
            orders_last_minute=orders_last_minute,
            balance=(account.balance if account else 0) - sum(cost for _, cost in entries),
        )


def cost_ahead(order: OpenIntent) -> int:
    """The most that an entry may still cost in base units: what its trades cost is in the positions already. Pure.

    In money and not in shares: a market BUY that meets a better price brings more shares for the same money.
    """
    return max(0, order.intent.cost - order.spent)
