"""What runs beside the polls of one epoch and delays none: settling, reconciliation, resolution, the heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bot.desk import Desk
from bot.holdings import Holdings
from bot.ledger import add_fill, add_outcome, find_intent
from bot.slots import parse_slug
from bot.venue.types import HeartbeatMismatchError, VenueError, VenueTrade
from bot.world import World
from bus import Ledger, LedgerFullError, Log

SETTLE_EVERY_S = 2.0
RECONCILE_EVERY_S = 20.0
HEARTBEAT_EVERY_S = 5.0
HEARTBEAT_RETRY_S = 1.0
RECONCILE_BACK_MS = 600_000


class Reconciler:
    """Keeps ledger and venue in agreement. Its tasks raise LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        epoch: int,
        *,
        desk: Desk,
        holdings: Holdings,
        log: Log,
        on_change: Callable[[], None],
    ) -> None:
        self._world, self._ledger, self._epoch = world, ledger, epoch
        self._desk, self._holdings, self._log, self._on_change = desk, holdings, log, on_change
        self._strangers: tuple[str, ...] | None = None
        self._heartbeat_problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why no entry may be placed, or None."""
        if self._strangers:
            return f"the account has orders that this ledger does not know: {', '.join(self._strangers[:3])}"
        if self._strangers is None and self._epoch == 1:
            return "the account was not compared with this new ledger yet"
        return self._heartbeat_problem

    async def settle_forever(self) -> None:
        """Settle what is open every 2 s; hold ledger and venue against each other at once and every 20 s."""
        # Opened here and not in the take: a venue that is silent now must not delay the first poll.
        await self._world.venue.open_orders_channel()
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time()
        while True:
            try:
                await self._desk.settle()
                self._resolve()
                if loop.time() >= reconcile_at:
                    await self._reconcile()
                    reconcile_at = loop.time() + RECONCILE_EVERY_S
            except (VenueError, LedgerFullError) as error:
                self._log.warning("settlement_waits", reason=str(error))
            await asyncio.sleep(SETTLE_EVERY_S)

    async def heartbeat_forever(self) -> None:
        """Keep the venue's dead-man switch from cancelling our resting orders: 10 s without one do (venue.md 4.3)."""
        loop = asyncio.get_running_loop()
        chain = ""
        while True:
            next_at = loop.time() + HEARTBEAT_EVERY_S
            try:
                chain = await self._world.venue.heartbeat(chain)
                self._heartbeat_problem = None
            except HeartbeatMismatchError as error:
                self._heartbeat_problem = f"another sender uses this account: {error}"
                self._log.error("heartbeat_mismatch", reason=str(error))
                chain = ""
            except VenueError as error:
                self._heartbeat_problem = f"the heartbeat was not answered: {error}"
                next_at = loop.time() + HEARTBEAT_RETRY_S
            await asyncio.sleep(next_at - loop.time())

    def _resolve(self) -> None:
        """Record the outcome of windows that the venue resolved and in which nothing is open any more."""
        busy = {found.intent.window for found in self._desk.open.values()}
        for window, slot in {position.window: position.slot for position in self._holdings.positions}.items():
            market = self._world.markets.get(parse_slug(window))
            if market is None or market.winner is None or window in busy:
                continue
            wall_ms = self._world.clock.wall_ms()
            payout, pnl = add_outcome(self._ledger, self._epoch, window, slot, market.winner, wall_ms)
            self._holdings.summarize()
            self._log.info("outcome", window=window, slot=slot, winner=market.winner, payout=payout, pnl=pnl)
            self._on_change()

    async def _reconcile(self) -> None:
        """Compare ledger and venue both ways: late fills of ours are added, orders of nobody's are shown and stop entries."""
        after = None if self._epoch == 1 else self._world.now_ms() - RECONCILE_BACK_MS
        trades = await self._world.venue.trades(after_ms=after)
        resting = await self._world.venue.open_orders()
        for trade in trades:
            self._add_late(trade)
        ids = [trade.order_id for trade in trades] + [order.order_id for order in resting]
        self._strangers = tuple(dict.fromkeys(key for key in ids if find_intent(self._ledger, key) is None))
        if self._strangers:
            self._log.error("unknown_orders", order_ids=self._strangers[:10], count=len(self._strangers))

    def _add_late(self, trade: VenueTrade) -> None:
        intent = find_intent(self._ledger, trade.order_id)
        if intent is not None and add_fill(self._ledger, self._epoch, intent, trade):
            self._log.info("fill_found", order_id=trade.order_id, slot=intent.slot, trade_status=trade.status)
            self._on_change()
