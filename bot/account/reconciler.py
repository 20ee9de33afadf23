"""What runs beside the polls of one epoch and delays none: settling, reconciliation, resolution, the heartbeat.

The user channel only says when to look at once: what is recorded was asked for over HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from bot.account.portfolio import Portfolio
from bot.account.unknown_activity import UnknownActivity
from bot.context import Context
from bot.orders.manager import OrderManager
from bot.reasons import Reason, ReasonCode
from bot.slots import parse_slug
from bot.venue.types import HeartbeatMismatchError, UserEvent, Venue, VenueError
from bus import FencedError, LedgerFullError, Log
from ledger import Ledger
from ledger.rows import add_fill, add_outcome, find_intent, knows_fill
from ledger.values import FAILED, VOID, VenueTrade, trade_word

# The dead-man heartbeat of one epoch: without one for 10 s the venue cancels all our resting orders (venue.md 4.3).
#
# It arms a switch that cancels the orders of the account's owner, too, when it stops. So it is sent only while an order of ours
# rests at the venue, which a FAK should never do.
#
# Its ids are a chain, so that two senders notice each other. The chain of the holder before is taken over from the venue's
# answer; later a break of it is explained by a lost reply of ours, or by nothing: then somebody else trades on this account.


EVERY_S = 5.0
RETRY_S = 1.0
TAKING_OVER_S = 15.0
"""A beat of the holder before may stay so long in the network (design section 6)."""
SUSPECT_S = 60.0
"""How long entries stay closed after a break that nothing explains."""


class Heartbeat:
    """Sends it, and says why entries must stay closed. problem: the reason, or None. rests: whether an order of ours does."""

    def __init__(
        self, venue: Venue, ledger: Ledger, epoch: int, log: Log, rests: Callable[[], bool] = lambda: True
    ) -> None:
        self._venue, self._ledger, self._epoch, self._log, self._rests = venue, ledger, epoch, log, rests
        self._suspect_until_s = 0.0
        self.problem: Reason | None = None

    async def run(self) -> None:
        """Beat until cancelled. Raises FencedError: the epoch is over."""
        loop = asyncio.get_running_loop()
        began, chain, explained = loop.time(), "", True
        while True:
            if not self._rests():
                began, explained = loop.time(), True  # whoever beats meanwhile, the chain is taken over
                self._beaten(loop.time())
                await asyncio.sleep(RETRY_S)
                continue
            next_at = loop.time() + EVERY_S
            if not self._ledger.is_newest(self._epoch):
                raise FencedError(f"epoch {self._epoch} is not the newest any more")
            try:
                recover = explained or loop.time() - began < TAKING_OVER_S
                chain = await self._venue.heartbeat(chain, recover=recover)
                explained = False
                self._beaten(loop.time())
            except HeartbeatMismatchError as error:
                self.problem = Reason(ReasonCode.ACCOUNT, f"another sender uses this account: {error}")
                self._suspect_until_s = loop.time() + SUSPECT_S
                self._log.error("heartbeat_mismatch", reason=str(error))
                # Somebody must keep the switch from falling: the next beat takes the chain over.
                explained, next_at = True, loop.time() + RETRY_S
            except VenueError as error:
                if loop.time() >= self._suspect_until_s:
                    self.problem = Reason(ReasonCode.ACCOUNT, f"the heartbeat was not answered: {error}")
                explained, next_at = True, loop.time() + RETRY_S
            await asyncio.sleep(next_at - loop.time())

    def _beaten(self, now_s: float) -> None:
        if now_s >= self._suspect_until_s:
            self.problem = None


# The user channel beside the polls: it says where to look at once; what is true is asked over HTTP.
#
# The channel gives no sign of what it left out, and one that answers PING may be dead. So the two are held against each other:
# a trade of ours that shows over HTTP while the channel was open, and that the channel did not tell of, ends the connection.


CHANNEL_RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)
LASTED_S = 60.0
AGREE_WITHIN_S = 10.0
REMEMBERED = 1_000


class UserChannel:
    """Keeps one connection to the user channel, as long as `run` runs.

    Args:
        on_open: the channel listens (again): what happened before must be asked for.
        on_event: what it said.
    """

    def __init__(
        self, venue: Venue, log: Log, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]
    ) -> None:
        self._venue, self._log, self._on_open, self._on_event = venue, log, on_open, on_event
        self._told: deque[str] = deque(maxlen=REMEMBERED)
        self._opened_s: float | None = None
        self._scope: asyncio.Timeout | None = None
        self.connects = 0
        self.missed = 0

    async def run(self) -> None:
        """Connect again and again, with growing pauses, until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            try:
                async with asyncio.timeout(None) as self._scope:
                    await self._venue.follow_user(self._opened, self._event)
            except VenueError as error:
                self._log.warning("user_channel_ended", reason=str(error), connects=self.connects)
            except TimeoutError:
                self._log.warning("user_channel_silent", missed=self.missed)
            finally:
                self._opened_s = None
            failures = 0 if loop.time() - started > LASTED_S else failures + 1
            await asyncio.sleep(CHANNEL_RETRY_S[min(failures, len(CHANNEL_RETRY_S) - 1)])

    def shown_over_http(self, trade_id: str) -> None:
        """A trade of ours is at the venue: the channel must have told of it, or do so soon."""
        loop = asyncio.get_running_loop()
        if self._opened_s is None or trade_id in self._told or loop.time() - self._opened_s < AGREE_WITHIN_S:
            return  # it may have happened before the channel listened
        loop.call_later(AGREE_WITHIN_S, self._judge, trade_id, self.connects)

    def _judge(self, trade_id: str, connects: int) -> None:
        if connects == self.connects and self._opened_s is not None and trade_id not in self._told:
            self.missed += 1
            if self._scope is not None and self._scope.when() is None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    def _opened(self) -> None:
        self._opened_s = asyncio.get_running_loop().time()
        self.connects += 1
        self._on_open()

    def _event(self, event: UserEvent) -> None:
        if event.trade_id:
            self._told.append(event.trade_id)
        self._on_event(event)


# What runs beside the polls of one epoch and delays none: settling, reconciliation, resolution, the heartbeat.


SETTLE_EVERY_S = 2.0
SETTLE_SPACING_S = 0.1
RECONCILE_EVERY_S, RECONCILE_SPACING_S = 20.0, 2.0
LATE_AT_ONCE = 4
MOST_LATE = 200
VOID_AFTER_MS = 60_000  # how long a window is shown as void before that is believed
OVERDUE_MS = 6 * 3_600_000  # resolutions were recorded to take up to half an hour
LATE_LOOKS = 5  # at trades of an order that is over; then the next comparison finds them


class Reconciler:
    """Keeps ledger and venue in agreement. Its tasks raise LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        world: Context,
        ledger: Ledger,
        epoch: int,
        *,
        desk: OrderManager,
        holdings: Portfolio,
        comparison: UnknownActivity,
        answer_requests: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._world, self._ledger, self._epoch = world, ledger, epoch
        self._log = log = world.log.bind(epoch=epoch)
        self._desk, self._holdings, self._on_change = desk, holdings, on_change
        self._comparison, self._answer_requests = comparison, answer_requests
        self._channel = UserChannel(world.venue, log, self._reconcile_soon, self._heard)
        self._wake = asyncio.Event()
        self._soon = True
        self._void_since: dict[str, int] = {}
        self._long_open: set[str] = set()
        self._late: dict[str, int] = {}  # orders that are over and that the channel spoke of: looks that are left
        self._heartbeat = Heartbeat(world.venue, ledger, epoch, log, desk.rests)

    @property
    def problem(self) -> Reason | None:
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
        reconcile_at, soonest = loop.time(), loop.time()
        while True:
            try:
                await self._desk.settle()
                await self._look_at_late()
                self._resolve()
                self._answer_requests()
                if loop.time() >= soonest and (self._soon or loop.time() >= reconcile_at):
                    self._soon = False
                    reconcile_at, soonest = loop.time() + RECONCILE_EVERY_S, loop.time() + RECONCILE_SPACING_S
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
        """The user channel spoke: every order that the ledger knows is looked at, whatever its state.

        One that is over may have been called so too soon. Of a trade of nobody's only a failure needs a comparison.
        """
        ours = [order_id for order_id in event.order_ids if order_id in self._desk.open]
        if ours:
            self._desk.told(ours)
            self._wake.set()
        late = [key for key in event.order_ids if key not in self._desk.open and self._is_news(key, event)]
        for order_id in late:
            if len(self._late) >= MOST_LATE:
                self._late.clear()
                self._reconcile_soon()
            self._late[order_id] = LATE_LOOKS if event.trade_id else 1
            self._wake.set()
        if not ours and not late and event.trade_id and trade_word(event.status) == FAILED:
            self._reconcile_soon()

    def _is_news(self, order_id: str, event: UserEvent) -> bool:
        """Whether an event says something of an order of ours that its rows do not say."""
        if find_intent(self._ledger, order_id) is None:
            return False
        return not event.trade_id or not knows_fill(self._ledger, event.trade_id, order_id, event.status)

    async def _look_at_late(self) -> None:
        """Record the trades of orders that are over and that the channel spoke of."""
        looked: set[str] = set()
        for order_id, left in list(self._late.items()):
            intent = find_intent(self._ledger, order_id)
            if left <= 1 or intent is None:
                self._late.pop(order_id, None)
            else:
                self._late[order_id] = left - 1
            if intent is None or intent.condition_id in looked or len(looked) >= LATE_AT_ONCE:
                continue
            looked.add(intent.condition_id)
            try:
                trades = await self._world.venue.trades(condition_id=intent.condition_id)
            except VenueError as error:
                self._log.warning("order_lookup_failed", order_id=order_id, reason=str(error))
                continue
            for trade in trades:
                if self._add_late(trade):
                    self._late.pop(trade.order_id, None)

    def _reconcile_soon(self) -> None:
        self._soon = True
        self._wake.set()

    def _resolve(self) -> None:
        """Record the outcome of windows that the venue resolved and in which nothing is open any more."""
        busy = {order.intent.window for order in self._desk.open.values()}
        held = {position.window: position.slot for position in self._holdings.positions}
        self._void_since = {window: since for window, since in self._void_since.items() if window in held}
        self._long_open &= held.keys()
        for window, slot in held.items():
            winner = self._outcome(window)
            if winner is None or window in busy:
                self._say_when_long_open(window)
                continue
            wall_ms = self._world.clock.wall_ms()
            payout, pnl = add_outcome(self._ledger, self._epoch, window, slot, winner, wall_ms)
            self._holdings.summarize()
            self._log.info("outcome", window=window, slot=slot, winner=winner, payout=payout, pnl=pnl)
            self._on_change()

    def _outcome(self, window: str) -> str | None:
        """How a window resolved, or None: it is not resolved, or was not shown as void for long enough.

        A market that is only closed may show its first or last prices, which are 0.5 as well.
        """
        market = self._world.markets.get(parse_slug(window))
        if market is None or not market.is_void:
            self._void_since.pop(window, None)
            return None if market is None else market.winner
        now_ms = self._world.now_ms()
        since_ms = self._void_since.get(window)
        if since_ms is None:
            self._void_since[window] = now_ms
            self._log.warning("window_shown_void", window=window, believed_after_s=VOID_AFTER_MS // 1000)
            return None
        return VOID if now_ms - since_ms >= VOID_AFTER_MS else None

    def _say_when_long_open(self, window: str) -> None:
        """Say once an epoch of a window that its outcome is long overdue: its stake counts against the limits."""
        if self._world.now_ms() - parse_slug(window).end_ms < OVERDUE_MS or window in self._long_open:
            return
        self._long_open.add(window)
        self._log.error(
            "window_unresolved",
            window=window,
            action=f"see how it resolved, then `./ns settle {window} --as Up|Down|Void --note WHY`",
        )

    async def _reconcile(self) -> None:
        """Compare ledger and venue both ways: late fills of ours are added, orders of nobody's are shown and stop entries."""
        trades = await self._comparison.look()
        self._holdings.elsewhere = self._comparison.reserved
        for trade in trades:
            self._add_late(trade)

    def _add_late(self, trade: VenueTrade) -> bool:
        """Record a trade of an order of ours; whether it was new."""
        intent = find_intent(self._ledger, trade.order_id)
        is_new = intent is not None and add_fill(self._ledger, self._epoch, intent, trade, self._world.clock.wall_ms())
        if intent is not None and is_new:
            self._log.info("fill_found", order_id=trade.order_id, slot=intent.slot, trade_status=trade.status)
            self.found_trade(trade.trade_id)
            self._desk.note_fill(trade.order_id)
            self._holdings.summarize()
            self._on_change()
        return is_new
