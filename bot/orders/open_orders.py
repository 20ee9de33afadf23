"""What is open at the venue under one epoch: what it may still cost, what the venue shows of it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from bot.orders.resolution import CLOSED_MARGIN_MS, Evidence, Verdict, add_settled_by_hand, conclude, vouched_trade
from bot.orders.watch import Watch
from bot.venue.pace import RequestPace
from bot.venue.types import (
    BASE_UNITS,
    LIVE,
    OFF_SCALE,
    TRADE_STATUSES,
    Fate,
    Venue,
    VenueOrder,
    fate_of,
    order_word,
    signed_amounts,
)
from bus import Clock, Log
from bus.errors import Reason
from ledger import Ledger
from ledger.rows import (
    Fills,
    Intent,
    OpenIntent,
    add_fill,
    add_order_state,
    fills_of,
    open_intents,
    quiet_entries,
)
from ledger.schema import TERMINAL, OrderCode, OrderState
from ledger.values import FAILED, Side, VenueTrade, trade_word

COMPARE_BACK_MS = 60_000  # how long before an order's tick the trades begin that it is compared with
MOST_WORDS = 10
MOST_OFF = 20  # base units: what rounding at each of many makers may come to


class World(Protocol):
    """What orders need of their instance."""

    @property
    def venue(self) -> Venue:
        """The exchange."""

    @property
    def clock(self) -> Clock:
        """This machine's clocks."""

    @property
    def pace(self) -> RequestPace | None:
        """Of reading requests: settling waits for room in it, a while. None: one of its own."""

    def now_ms(self) -> int:
        """The venue's time in UTC ms."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something about orders or fills was written."""


@dataclass(frozen=True, slots=True)
class TradeFound:
    """A trade was found over HTTP, before the user channel told it."""

    trade_id: str


@dataclass(frozen=True, slots=True)
class StatusUnknown:
    """The venue shows an order with a status that is not known."""

    status: str


@dataclass(frozen=True, slots=True)
class LedgerFailed:
    """The ledger failed an order's task, but for want of room: the epoch cannot go on."""

    error: Exception


OrderEvent = Changed | TradeFound | StatusUnknown | LedgerFailed


class OpenOrders:
    """Open orders and their settling. Every row carries the epoch, so the ledger refuses one that outlived it.

    Args:
        tell: called in the loop with what happened, once its row is written.
    """

    def __init__(
        self, world: World, ledger: Ledger, epoch: int, *, log: Log, tell: Callable[[OrderEvent], None]
    ) -> None:
        self._venue, self._ledger, self._epoch, self._clock = world.venue, ledger, epoch, world.clock
        self._now_ms, self._log, self._tell = world.now_ms, log, tell
        self.open = {intent.intent.order_id: intent for intent in open_intents(ledger, world.now_ms())}
        # Ended because nothing more came; should the venue still fill them, no limit is passed.
        self._quiet = {
            intent.intent.order_id: intent for intent in quiet_entries(ledger, world.now_ms() - CLOSED_MARGIN_MS)
        }
        self._watches: dict[str, Watch] = {}
        self._answered: dict[str, Fills] = {}

    @property
    def entries_ahead(self) -> list[OpenIntent]:
        """The entries that may cost something still: the open ones, and until their window closes those that ended by quiet."""
        over_ms = self._now_ms() - CLOSED_MARGIN_MS
        self._quiet = {key: order for key, order in self._quiet.items() if order.intent.window_end_ms > over_ms}
        return [order for order in (*self.open.values(), *self._quiet.values()) if order.intent.side is Side.BUY]

    def is_busy(self, slot: str, window: str) -> bool:
        """Whether an intent is open in the slot, or in the window (two slots meet in one when the next becomes the current).

        Then nothing is entered there. Exits wait for less (`is_selling`).
        """
        return any(slot == order.intent.slot or window == order.intent.window for order in self.open.values())

    def unknown_word(self, slot: str, window: str) -> str | None:
        """A status that nobody knows, under which the venue shows an open order of the slot or window; or None."""
        for key, order in self.open.items():
            if (slot == order.intent.slot or window == order.intent.window) and (watch := self._watches.get(key)):
                for word in watch.unknown:
                    return word
        return None

    def is_entering(self, slot: str, window: str) -> bool:
        """Whether an entry is open in the slot or in the window."""
        return any(
            order.intent.side is Side.BUY and (slot == order.intent.slot or window == order.intent.window)
            for order in self.open.values()
        )

    def rests(self) -> bool:
        """Whether the venue shows an order of ours as resting: a FAK should not."""
        return any(key in self.open and watch.rests for key, watch in self._watches.items())

    def is_selling(self, window: str) -> bool:
        """Whether an exit of the window is on its way, of which it will be known in a moment what it sold.

        An exit in doubt, or of which the venue shows nothing when its delay has passed, is followed by a fresh one, once it was
        looked at: there is no short selling here, so the worst is a refusal.
        """
        return any(
            order.intent.window == window and order.intent.side is Side.SELL and not self._may_follow(order)
            for order in self.open.values()
        )

    def least_looked_at(self, looked_ms: Mapping[str, int]) -> list[OpenIntent]:
        """The open ones: first who was not looked at for longest, and of those the exits. looked_ms: when, by order."""

        def turn(order: OpenIntent) -> tuple[int, bool]:
            return looked_ms.get(order.intent.order_id, 0), order.intent.side is Side.BUY

        return sorted(self.open.values(), key=turn)

    def is_awaited(self, order_id: str) -> bool:
        """Whether an order is open and nothing may follow it yet."""
        order = self.open.get(order_id)
        return order is not None and (order.intent.side is Side.BUY or not self._may_follow(order))

    def sold_unseen(self, token_id: str) -> int:
        """Shares of a token that the venue said were sold, in base units, and of which it shows no trade yet.

        What never shows is offered again: were it sold all the same, the worst is a refusal.
        """
        return sum(
            max(0, (order.matched or 0) - order.filled)
            for key, order in self.open.items()
            if order.intent.side is Side.SELL and order.intent.token_id == token_id and not self._watch(key).never_shows
        )

    def _may_follow(self, order: OpenIntent) -> bool:
        if order.state is None and order.intent.epoch == self._epoch:
            return False  # its answer comes, or its request's time limit
        watch, now = self._watch(order.intent.order_id), self._clock.boot_ms()
        return watch.may_follow(now) if order.state is OrderState.ACCEPTED else watch.may_follow_doubt(now)

    def note_fill(self, order_id: str) -> None:
        """A fill of an order was recorded elsewhere: one that may be filled is at stake only with what is not filled."""
        for orders in (self.open, self._quiet):
            if (order := orders.get(order_id)) is not None:
                fills = fills_of(self._ledger, order_id)
                orders[order_id] = replace(order, filled=fills.shares, spent=fills.value + fills.fees)
        if order_id in self.open:
            self._watch(order_id).news(self._clock.boot_ms())

    def end_by_hand(self, order_id: str, verdict: Verdict, shares: int | None, who: str, note: str) -> int:
        """A person ends what the venue never resolved; returns the shares that they vouch for, in base units.

        A fill by hand counts until the venue shows a trade of the order (see add_fill). shares: as in `vouched_trade`.

        Raises ValueError: the order is not open, or as `vouched_trade`.
        """
        order = self.open.get(order_id)
        if order is None:
            raise ValueError(f"order {order_id} is not open: nothing about it is in doubt")
        filled, wall_ms = fills_of(self._ledger, order_id).shares, self._clock.wall_ms()
        trade = vouched_trade(order, verdict, shares, known=filled, now_ms=self._now_ms())
        vouched = 0 if trade is None else trade.size
        add_settled_by_hand(self._ledger, self._epoch, order_id, verdict, vouched, who, note, wall_ms)
        if trade is not None:
            add_fill(self._ledger, self._epoch, order.intent, trade, wall_ms)
        state = OrderState.DONE if verdict == "filled" else OrderState.REFUSED
        self._note(order_id, state, Reason(OrderCode.BY_HAND, f"settled by {who} as {verdict}: {note}"), order.matched)
        return vouched

    async def _look(self, intent: Intent) -> None:
        """Compare one open order with what the venue shows, and record what follows."""
        started, closed = self._clock.boot_ms(), self._is_closed(intent)
        is_new = self._take_trades(intent, await self._venue.trades(condition_id=intent.condition_id))
        if is_new:  # whatever becomes of the look-up below
            self._watch(intent.order_id).news(self._clock.boot_ms())
        self._conclude(intent, None)
        if intent.order_id not in self.open:
            return  # its trades say all
        shown = await self._venue.order(intent.order_id)
        # In base units, as the venue's OpenAPI document has it.
        if shown is not None and shown.size >= intent.size * OFF_SCALE:
            shown = replace(shown, size=shown.size // BASE_UNITS, matched=shown.matched // BASE_UNITS)
        watch = self._watch(intent.order_id)
        if shown is not None:
            self._note_word(intent, shown, watch)
            # What it was filled with until it ended is among its trades by now.
            if fate_of(shown.status) is Fate.FINAL:
                is_new |= self._take_trades(intent, await self._venue.trades(condition_id=intent.condition_id))
        watch.rests = shown is not None and order_word(shown.status) == LIVE
        if is_new:
            watch.news(self._clock.boot_ms())
        else:
            is_open = shown is not None and fate_of(shown.status) is Fate.OPEN
            if is_open and watch.arrived_ms is None:
                watch.news(started)
            watch.looked(started, closed=closed, is_shown_open=is_open)
        watch.was_looked_at = True
        self._conclude(intent, shown)

    async def _compare(self) -> None:
        """Hold the orders about which look after look found nothing against all that the account shows."""
        due = [
            self.open[key].intent for key, watch in self._watches.items() if watch.wants_comparison and key in self.open
        ]
        if not due:
            return
        trades = await self._venue.trades(after_ms=min(intent.tick for intent in due) - COMPARE_BACK_MS)
        resting = {order.order_id for order in await self._venue.open_orders()}
        for intent in due:
            watch = self._watch(intent.order_id)
            if self._take_trades(intent, trades) or (intent.order_id in resting and not watch.is_stuck):
                watch.news(self._clock.boot_ms())
            else:
                watch.compared()

    def _take_trades(self, intent: Intent, trades: Iterable[VenueTrade]) -> bool:
        """Record the trades of one order; whether any was new."""
        is_new = False
        for trade in trades:
            if trade.order_id != intent.order_id or not add_fill(
                self._ledger, self._epoch, intent, self._exact(trade), self._clock.wall_ms()
            ):
                continue
            is_new = True
            if trade_word(trade.status) not in TRADE_STATUSES:
                self._log.error("trade_status_unknown", order_id=intent.order_id, trade_status=trade.status)
            self._tell(TradeFound(trade.trade_id))
            self._log.info(
                "fill",
                order_id=intent.order_id,
                slot=intent.slot,
                side=intent.side,
                outcome=intent.outcome,
                price=str(trade.price),
                shares=str(Decimal(trade.size) / BASE_UNITS),
                trade_status=trade.status,
            )
            self._tell(Changed())
        return is_new

    def _exact(self, trade: VenueTrade) -> VenueTrade:
        """A trade with what its order's answer says was paid, where it is the last of what was answered.

        The answer has the amounts of the chain; those of the trades, price by price, may be a base unit off each. A trade
        that says nothing of its makers may have the order's limit for its price (recorded: 0.401 where 0.363 was paid).
        """
        answered = self._answered.get(trade.order_id)
        if answered is None or trade_word(trade.status) == FAILED:
            return trade
        fills = fills_of(self._ledger, trade.order_id)
        value = answered.value - fills.value
        better = trade.worth - value if trade.side is Side.BUY else value - trade.worth
        is_like = abs(better) <= MOST_OFF or (trade.value is None and better > 0 and 0 < value <= trade.size)
        return replace(trade, value=value) if is_like and fills.shares + trade.size == answered.shares else trade

    def _note_word(self, intent: Intent, shown: VenueOrder, watch: Watch) -> None:
        """Say once of an order that its status is a word that nobody knows: it is looked at again, and longer than others."""
        if fate_of(shown.status) is Fate.UNKNOWN and shown.status not in watch.unknown:
            watch.unknown = {shown.status, *list(watch.unknown)[:MOST_WORDS]}
            self._log.error("order_status_unknown", order_id=intent.order_id, slot=intent.slot, status=shown.status)
            self._tell(StatusUnknown(shown.status))

    def _conclude(self, intent: Intent, shown: VenueOrder | None) -> None:
        """Record what follows from all that is known of an order."""
        open_intent = self.open.get(intent.order_id)
        if open_intent is None:
            return
        fills = fills_of(self._ledger, intent.order_id)
        matched = shown.matched if shown is not None else 0
        if matched > (open_intent.matched or 0):
            open_intent = replace(open_intent, matched=matched)
        self.open[intent.order_id] = replace(open_intent, filled=fills.shares, spent=fills.value + fills.fees)
        # Bodies of other venues do not say what they sign: then it is what was decided.
        give, ask = signed_amounts(intent.body) or (
            (int(intent.price * intent.size), intent.size) if intent.side is Side.BUY else (intent.size, 0)
        )
        watch = self._watch(intent.order_id)
        verdict = conclude(
            Evidence(
                state=open_intent.state,
                size=intent.size,
                filled=fills.shares,
                matched=open_intent.matched,
                shown=shown,
                closed=watch.closed,
                side=intent.side,
                give=give,
                ask=ask,
                given=fills.value if intent.side is Side.BUY else fills.shares,
                trades=fills.trades,
                quiet=watch.quiet,
                is_stuck=watch.is_stuck,
            )
        )
        if verdict is None:
            return
        if verdict[1].code == OrderCode.QUIET:
            # A FAK that was filled in part ends so every day.
            say = self._log.error if watch.is_stuck else self._log.info if fills.trades else self._log.warning
            say("order_ended_by_quiet", order_id=intent.order_id, slot=intent.slot, reason=verdict[1])
            self._quiet[intent.order_id] = replace(self.open[intent.order_id], state=OrderState.DONE)
        self._note(intent.order_id, *verdict, open_intent.matched)

    def _watch(self, order_id: str) -> Watch:
        """What looks at an order found. One of a former holder that the venue has is watched from now on."""
        watch = self._watches.get(order_id)
        if watch is None:
            watch = self._watches[order_id] = Watch()
            order = self.open.get(order_id)
            if order is not None and order.state is OrderState.ACCEPTED:
                watch.news(self._clock.boot_ms())
        return watch

    def _is_closed(self, intent: Intent) -> bool:
        return self._now_ms() > intent.window_end_ms + CLOSED_MARGIN_MS

    def _note(self, order_id: str, state: OrderState, text: str, matched: int | None = None) -> None:
        wall_ms, boot_ms = self._clock.wall_ms(), self._clock.boot_ms()
        add_order_state(self._ledger, self._epoch, order_id, state, text, wall_ms, boot_ms, matched)
        if state in TERMINAL:
            for cache in (self.open, self._watches, self._answered):
                cache.pop(order_id, None)
        elif (order := self.open.get(order_id)) is not None:
            self.open[order_id] = replace(order, state=state, matched=matched if matched is not None else order.matched)
            # However it showed that the venue has it, from then on looks count.
            if state is OrderState.ACCEPTED and (watch := self._watch(order_id)).arrived_ms is None:
                watch.news(boot_ms)
        self._tell(Changed())
