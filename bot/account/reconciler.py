"""What runs beside the polls of one epoch and delays none: settling, reconciliation, resolution, the heartbeat.

The user channel only says when to look at once: what is recorded was asked for over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from bot.account.portfolio import Holdings
from bot.account.unknown_activity import Comparison
from bot.heartbeat import Heartbeat
from bot.lifecycle.context import World
from bot.orders.manager import Desk
from bot.slots import parse_slug
from bot.user_channel import UserChannel
from bot.venue.types import UserEvent, VenueError
from bot.wishes import Wishes
from bus import LedgerFullError, Log
from ledger import Ledger
from ledger.rows import add_fill, add_outcome, find_intent
from ledger.values import VenueTrade

SETTLE_EVERY_S = 2.0
SETTLE_SPACING_S = 0.1
RECONCILE_EVERY_S = 20.0


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
        self._comparison = Comparison(world, ledger, epoch, log)
        self._wishes = Wishes(
            world, ledger, epoch, desk=desk, comparison=self._comparison, log=log, on_change=on_change
        )
        self._channel = UserChannel(world.venue, log, self._reconcile_soon, self._heard)
        self._wake = asyncio.Event()
        self._soon = True
        self._heartbeat = Heartbeat(world.venue, ledger, epoch, log)

    @property
    def problem(self) -> str | None:
        """Why no entry may be placed, or None."""
        return self._comparison.problem or self._heartbeat.problem

    def found_trade(self, trade_id: str) -> None:
        """A trade of ours was found over HTTP: the user channel must agree."""
        self._channel.shown_over_http(trade_id)

    async def settle_forever(self) -> None:
        """Settle what is open every 2 s and when the user channel speaks; hold ledger and venue against each other at once,
        after each reconnect of the channel, and every 20 s."""
        # Opened here and not in the take: a venue that is silent now must not delay the first poll.
        await self._world.venue.open_orders_channel()
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time()
        while True:
            try:
                await self._desk.settle()
                self._resolve()
                self._wishes.fulfil()
                if self._soon or loop.time() >= reconcile_at:
                    self._soon = False
                    reconcile_at = loop.time() + RECONCILE_EVERY_S
                    await self._reconcile()
            except VenueError as error:
                self._soon = True
                self._log.warning("settlement_waits", reason=str(error))
            except LedgerFullError as error:
                self._log.warning("settlement_waits", reason=str(error))
            await asyncio.sleep(SETTLE_SPACING_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_EVERY_S - SETTLE_SPACING_S):
                    await self._wake.wait()
            self._wake.clear()

    async def listen_forever(self) -> None:
        """Keep the user channel open."""
        await self._channel.run()

    async def heartbeat_forever(self) -> None:
        """Keep the venue's dead-man switch from cancelling our resting orders."""
        await self._heartbeat.run()

    def _heard(self, event: UserEvent) -> None:
        """The user channel spoke: look at the orders that are open; a failure, or an order of nobody's, needs a comparison."""
        ours = [order_id for order_id in event.order_ids if order_id in self._desk.open]
        if ours:
            self._desk.told(ours)
            self._wake.set()
        elif event.trade_id and event.status.upper() == "FAILED":
            self._reconcile_soon()

    def _reconcile_soon(self) -> None:
        self._soon = True
        self._wake.set()

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
        for trade in await self._comparison.look():
            self._add_late(trade)

    def _add_late(self, trade: VenueTrade) -> None:
        intent = find_intent(self._ledger, trade.order_id)
        if intent is not None and add_fill(self._ledger, self._epoch, intent, trade, self._world.clock.wall_ms()):
            self._log.info("fill_found", order_id=trade.order_id, slot=intent.slot, trade_status=trade.status)
            self.found_trade(trade.trade_id)
            self._desk.note_fill(trade.order_id)
            self._holdings.summarize()
            self._on_change()
