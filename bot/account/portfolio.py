"""What is held and what was won: a cache of the ledger for one epoch, read anew when something changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bot.context import Context
from bot.orders.risk import Usage, at_stake, directions
from bot.slots import Slot, parse_slug
from bus import RiskLimits
from ledger import Ledger
from ledger.results import HOUR_MS, Lot, Results
from ledger.rows import OpenIntent, Position, positions
from ledger.schema import TERMINAL
from ledger.totals import Lifetime, lifetime, pnl_by_slot, recent_outcomes
from ledger.values import Side


class Portfolio:
    """Positions, totals, results and outcomes. Its methods raise LedgerError."""

    def __init__(self, world: Context, ledger: Ledger) -> None:
        self._world, self._ledger = world, ledger
        self._results = Results(ledger)
        self.positions: tuple[Position, ...] = ()
        self.totals: Lifetime
        self.elsewhere = 0
        """What resting orders of the account's owner reserve, in base units of pUSD."""

        self.summarize()
        self.refresh()

    @property
    def failed_trades(self) -> int:
        """Trades that failed on the chain, of all time."""
        return self._results.failed

    def refresh(self) -> None:
        """After orders or fills changed."""
        self.positions = tuple(positions(self._ledger, self._world.now_ms()))
        self._world.markets.hold(parse_slug(position.window) for position in self.positions)
        self._results.changed()
        self.totals = replace(self.totals, fills=self._ledger.integer("SELECT fills FROM totals"))

    def summarize(self) -> None:
        """At the take, and when a window resolved."""
        self.totals = lifetime(self._ledger)
        self._results.resolved(self._world.now_ms())
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
        """PnL since midnight UTC in base units: of resolved windows, and of what was sold in the others."""
        return self._results.since_midnight(self._world.now_ms())

    def lot(self, position: Position) -> Lot:
        """What is left of a position and what that cost; its proceeds are in its cost where it has no lot."""
        own = self._results.lots.get((position.window, position.outcome))
        return own or Lot(position.shares, position.cost + position.fees)

    def holds(self, window: str) -> bool:
        """Whether shares of a window are held, whichever slot bought them: one that was the next is the current one later."""
        return any(position.window == window and position.shares > 0 for position in self.positions)

    def losses(self, risk: RiskLimits) -> Usage:
        """What the limits that close every entry are compared with; nothing at stake is counted."""
        now_ms, results = self._world.now_ms(), self._results
        return Usage(
            slot=0,
            asset=0,
            total=0,
            loss_today=max(0, -results.since_midnight(now_ms)),
            orders_last_minute=0,
            balance=0,
            loss_last_hour=max(0, -results.last_hour(now_ms)),
            open_loss=self._open_loss() if risk.count_open else 0,
            losses_in_a_row=results.losses_in_a_row,
            last_loss_ms=results.last_loss_ms,
            failed_last_hour=results.failed_since(now_ms - HOUR_MS),
        )

    def usage(self, slot: Slot, open_intents: Iterable[OpenIntent], orders_last_minute: int, risk: RiskLimits) -> Usage:
        """What is at stake: positions (`at_stake`), and the worst case of every open entry, which is not in the balance yet."""
        buys = [order for order in open_intents if order.intent.side is Side.BUY]
        now_ms = self._world.now_ms()
        stakes = [(p.slot, p.outcome, at_stake(p.shares, p.cost + p.fees, p.sales, now_ms)) for p in self.positions]
        stakes += [(order.intent.slot, order.intent.outcome, cost_ahead(order)) for order in buys]
        together = risk.correlated or tuple({_asset(name): None for name, _, _ in stakes})
        # A window that is over makes up for nothing that comes.
        certain = [p for p in self.positions if p.shares > 0 and p.window_end_ms > now_ms]
        return replace(
            self.losses(risk),
            slot=sum(stake for name, _, stake in stakes if name == slot.id),
            asset=sum(stake for name, _, stake in stakes if _asset(name) == slot.asset),
            total=sum(stake for _, _, stake in stakes),
            orders_last_minute=orders_last_minute,
            balance=self.bankroll(buys),
            directions=directions(
                [(outcome, stake) for name, outcome, stake in stakes if _asset(name) in together],
                [(p.outcome, p.cost + p.fees) for p in certain if _asset(p.slot) in together],
            ),
        )

    def bankroll(self, open_intents: Iterable[OpenIntent]) -> int:
        """The balance less what open entries may cost and what rests elsewhere, in base units; below 0 where it is too little."""
        account = self._world.account.account
        # What an entry that is over cost is out of the balance already.
        entries = [
            cost_ahead(order) if order.state in TERMINAL else order.intent.cost
            for order in open_intents
            if order.intent.side is Side.BUY
        ]
        return (account.balance if account else 0) - self.elsewhere - sum(entries)

    def _open_loss(self) -> int:
        """By how much the open positions would fetch less at the best bid than they cost; without a bid they fetch nothing."""
        lost = 0
        for position in self.positions:
            lot = self._results.lots.get((position.window, position.outcome))
            if lot is None or lot.shares <= 0:
                continue
            book = self._world.books.get(position.token_id)
            bid = book.bids[0].price if book is not None and book.bids else 0
            lost += max(0, lot.cost - int(bid * lot.shares))
        return lost


def cost_ahead(order: OpenIntent) -> int:
    """The most that an entry may still cost in base units: what its trades cost is in the positions already. Pure.

    In money and not in shares: a market BUY that meets a better price brings more shares for the same money.
    """
    return max(0, order.intent.cost - order.spent)


def _asset(slot: str) -> str:
    return slot.split("-")[0]
