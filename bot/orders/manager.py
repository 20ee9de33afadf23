"""The order path of one epoch: sign, make durable, send, record the answer. What is open is settled in `open_orders`.

A manager belongs to one epoch and dies with it. Every row it writes carries that epoch, so one that outlives its epoch (a
paused process, a task that was not cancelled in time) is refused by the ledger before it can send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from bot.orders.limits import HOLD_MS, CircuitBreaker, TokenBucket, VenueModes, mode_reason
from bot.orders.open_orders import LedgerFailed, OpenOrders, OrderEvent, World
from bot.orders.order_plan import OrderPlan, OrderTiming, OrderTimings, is_at_fault, offered, outcome_of
from bot.orders.watch import Watch
from bot.reasons import Reason, ReasonCode
from bot.venue.pace import RequestPace
from bot.venue.types import (
    BASE_UNITS,
    Accepted,
    Answer,
    InDoubt,
    Refused,
    VenueError,
    VenueMode,
)
from bus import FencedError, LedgerError, LedgerFullError, Log, errors
from ledger import Ledger
from ledger.rows import (
    Fills,
    Intent,
    OpenIntent,
    SlotTakenError,
    add_intent,
    entries_since,
    next_seq,
)
from ledger.schema import OrderCode, OrderState
from ledger.values import Side

COLLECT_AFTER_S, COLLECT_SPACING_S = (0.0, 0.4, 1.0, 2.0), 0.25
ORDERS_PER_SECOND = 20.0
ROOM_TRIES, TURN_TRIES, ROOM_SPACING_S = 12, 5, 0.125
LEAST_SPACING_MS, MOST_SPACING_MS = 400, 5_000
"""Between two looks at one order in settling: what the user channel says of it meanwhile is one piece of news."""
RATE_LIMITED = "rate_limited"
MOST_SEQS = 1_000
SIZE_CODES, NO_BALANCE = ("min_size", "amounts"), "not_enough_balance"
MOST_RECENT = 10_000  # entries of the last minute that are counted
SALT_BITS = 53  # as the client library: a salt travels as a JSON number
PASSED_ON = Reason(ReasonCode.STANDBY, "the lease is being passed on")
AT_ONCE_MS = 50  # a process that stood still for longer between decision and sending looks at epoch and halt anew


@dataclass(frozen=True, slots=True)
class _Begun:
    """A sending that left already: when (CLOCK_BOOTTIME in ms), and what waits for its answer."""

    boot_ms: int
    answer: Callable[[], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Rules:
    """How orders are sent."""

    resend: Literal["exits", "entries"] = "exits"
    """whose bytes are sent again where an answer was lost: exits alone, or entries as well"""
    longest_hold_ms: int = HOLD_MS[-1]
    """what a mode of the venue that closes entries is believed for at most (see `VenueModes`)"""
    orders_per_second: float = ORDERS_PER_SECOND
    """our own rate budget"""


class OrderManager(OpenOrders):
    """Places orders and settles doubt under one epoch.

    Args:
        stopped: why no entry may leave now (a halt or a pause was seen), or None.
        random_bits: that many random bits, for salts.
    """

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        epoch: int,
        *,
        stopped: Callable[[], Reason | None],
        random_bits: Callable[[int], int],
        log: Log,
        tell: Callable[[OrderEvent], None],
        rules: Rules,
    ) -> None:
        super().__init__(world, ledger, epoch, log=log, tell=tell)
        self._stopped, self._random_bits, self._resend = stopped, random_bits, rules.resend
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unsent: set[str] = set()
        self._short: set[str] = set()  # exits that were refused for a balance which may be an old one
        # By window: how often in a row, and the shares that the venue said were there after the last.
        self._refused_short: dict[str, tuple[int, int]] = {}
        # By window: the largest exit that was refused for its size, and why.
        self._too_small: dict[str, tuple[int, str]] = {}
        self._seqs: dict[tuple[str, Side], int] = {}
        self._sending: set[str] = set()
        self._closing = False
        self._mode, self._trouble = VenueModes(rules.longest_hold_ms), CircuitBreaker(rules.longest_hold_ms)
        self._budget = TokenBucket(rules.orders_per_second)
        self._told: dict[str, asyncio.Event] = {}
        self._pace, self._looked_ms = world.pace or RequestPace(world.clock.boot_ms), dict[str, int]()
        self.sendings = OrderTimings()
        self._recent = deque(entries_since(ledger, world.clock.wall_ms() - 60_000, MOST_RECENT), maxlen=MOST_RECENT)

    @property
    def mode(self) -> VenueMode:
        """What the venue allows, as its last answers said."""
        return self._mode.now(self._clock.boot_ms())

    @property
    def closed(self) -> Reason | None:
        """Why no entry may be placed, as the venue's answers and our own budget have it, or None."""
        now = self._clock.boot_ms()
        return mode_reason(self._mode.now(now)) or self._trouble.now(now) or self._budget.refuse(now, entry=True)

    @property
    def orders_last_minute(self) -> int:
        """Orders that were sent in the last 60 seconds, identical bytes that were sent again included."""
        while self._recent and self._recent[0] < self._clock.wall_ms() - 60_000:
            self._recent.popleft()
        return len(self._recent)

    @property
    def in_doubt(self) -> list[OpenIntent]:
        """Open intents whose outcome is not known and that no task of this process is waiting for."""
        return [
            order
            for key, order in self.open.items()
            if order.state is not OrderState.ACCEPTED and key not in self._tasks
        ]

    def place(self, plan: OrderPlan) -> Reason | None:
        """Sign, make the intent durable, and send it or let its task send it; returns why not, or None.

        Raises FencedError, LedgerError: then nothing is sent.
        """
        wall_ms, boot_ms = self._clock.wall_ms(), self._clock.boot_ms()
        entry = plan.side is Side.BUY
        refusal = (
            self._budget.refuse(boot_ms, entry=entry)
            or self._trouble.refuse(boot_ms, entry=entry)
            or self._mode.refuse(boot_ms, entry=entry)
        )
        if refusal is not None:
            return refusal
        if not entry:
            plan = replace(plan, size=offered(plan.size, *self._refused_short.get(plan.window, (0, 0))))
        try:
            signed = self._venue.sign(plan.request, plan.market, self._random_bits(SALT_BITS), self._now_ms())
        except ValueError as error:
            return Reason(ReasonCode.UNSIGNED, f"cannot be signed: {error}")
        if not entry and plan.size <= self._too_small.get(plan.window, (0, ""))[0]:
            shares, why = Decimal(plan.size) / BASE_UNITS, self._too_small[plan.window][1]
            return Reason(ReasonCode.SIZE, f"the venue refuses to sell {shares:f} shares: {why}")
        intent = plan.intent(signed, self._epoch, self._next_seq(plan.window, plan.side))
        try:
            add_intent(self._ledger, intent, wall_ms, boot_ms)
        except SlotTakenError as error:
            return Reason(ReasonCode.CONTROL if error.code == "control" else ReasonCode.BUSY, str(error))
        self._seqs[plan.window, plan.side] = intent.seq
        self._recent.append(wall_ms)
        self._budget.spend(boot_ms)
        self._trouble.tries(boot_ms)
        self._mode.tries(boot_ms)
        self.open[intent.order_id] = OpenIntent(intent, None)
        self._watches[intent.order_id] = Watch(plan.market.delay_ms, plan.market.min_size)
        self._unsent.add(intent.order_id)
        self._start(intent, self._send_at_once(intent, boot_ms))
        return None

    async def settle(self) -> None:
        """Ask the venue about open intents that no task is busy with; one that it cannot tell of waits.

        Those first that were not looked at for longest, exits first; without room, one in MOST_SPACING_MS. Raises LedgerError.
        """
        looked = self._looked_ms
        for order in self.least_looked_at(looked):
            intent, now = order.intent, self._clock.boot_ms()
            if intent.order_id in self._tasks:
                continue
            waited_ms = now - looked.get(intent.order_id, 0)
            if waited_ms < LEAST_SPACING_MS:
                continue
            if not await self._room(TURN_TRIES, urgent=waited_ms > MOST_SPACING_MS):
                break  # the others waited less
            looked[intent.order_id] = now
            try:
                await self._look(intent)
            except VenueError as error:
                self._log.warning("order_lookup_failed", order_id=intent.order_id, reason=str(error))
            if self._may_resend(intent.order_id) and intent.order_id not in self._tasks:
                self._start(intent)
        try:
            await self._compare()
        except VenueError as error:
            self._log.warning("orders_not_compared", reason=str(error))

    def told(self, order_ids: Iterable[str]) -> None:
        """The user channel spoke of these orders: a task that waits to look at one of them looks now."""
        for order_id in order_ids:
            if (event := self._told.get(order_id)) is not None:
                event.set()

    async def close(self, limit_s: float) -> None:
        """End every order task: wait for answers up to `limit_s`, then cut. What was not sent is marked abandoned."""
        await asyncio.sleep(0)  # what the last poll placed leaves first: no handover costs a signal
        self._closing = True
        waiting = [task for key, task in self._tasks.items() if key in self._sending]
        if waiting:
            await asyncio.wait(waiting, timeout=limit_s)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for order_id in list(self._unsent):
            self._note(order_id, OrderState.ABANDONED, "the lease was passed on before it was sent")

    def _next_seq(self, window: str, side: Side) -> int:
        """As the ledger has it, read once a window and side: this epoch alone writes intents."""
        seq = self._seqs.get((window, side))
        if seq is not None:
            return seq + 1
        while len(self._seqs) >= MOST_SEQS:
            del self._seqs[next(iter(self._seqs))]
        return next_seq(self._ledger, window, side)

    def _send_at_once(self, intent: Intent, decided_boot_ms: int) -> _Begun | None:
        """Send in the turn of the loop in which the intent became durable; None: its task does, after a look of its own.

        That commit was the look at the epoch: it was the newest a moment ago. What may have changed since then is a halt, and
        everything, where the process stood still.
        """
        if self._closing or (intent.side is Side.BUY and self._stopped() is not None):
            return None
        now = self._clock.boot_ms()
        if now - decided_boot_ms > AT_ONCE_MS or (answer := self._venue.begin(intent.body)) is None:
            return None
        self._unsent.discard(intent.order_id)
        self._sending.add(intent.order_id)
        return _Begun(now, answer)

    def _start(self, intent: Intent, begun: _Begun | None = None) -> None:
        task = asyncio.create_task(self._run(intent, begun), name=f"order-{intent.order_id[:10]}")
        self._tasks[intent.order_id] = task
        task.add_done_callback(lambda done: self._ended(intent, done))

    def _ended(self, intent: Intent, task: asyncio.Task[None]) -> None:
        """An order's task is over. Whatever ended it, the order itself stays open until it is settled."""
        self._tasks.pop(intent.order_id, None)
        self._sending.discard(intent.order_id)
        self._told.pop(intent.order_id, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._log.error(
            "order_task_failed",
            order_id=intent.order_id,
            slot=intent.slot,
            reason=f"{type(error).__name__}: {error}",
            exc_info=error,
        )
        if isinstance(error, LedgerError) and not isinstance(error, LedgerFullError):
            self._tell(LedgerFailed(error))

    async def _run(self, intent: Intent, begun: _Begun | None) -> None:
        try:
            await self._send(intent, begun)
            if intent.order_id in self._short:
                self._short.discard(intent.order_id)
                await self._venue.refresh_balance(intent.token_id)
                self._note_short(intent.window, 0, await self._venue.shares(intent.token_id))
            if self._may_resend(intent.order_id):
                await self._send(intent)
            done = self._told[intent.order_id] = asyncio.Event()
            for wait_s in COLLECT_AFTER_S:
                if intent.order_id not in self.open or self._closing:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await done.wait()
                done.clear()
                if await self._room():
                    await self._look(intent)
                await asyncio.sleep(COLLECT_SPACING_S)  # several events of one order are one piece of news
        except FencedError as error:
            self._log.warning("order_fenced", order_id=intent.order_id, slot=intent.slot, reason=str(error))
            self._tell(LedgerFailed(error))
        except VenueError as error:
            self._log.warning("order_lookup_failed", order_id=intent.order_id, reason=str(error))

    async def _room(self, tries: int = ROOM_TRIES, *, urgent: bool = False) -> bool:
        """Wait for a turn to look, so many times at most; without one a later look tells, or `settle`."""
        for _ in range(tries):
            if self._closing or self._pace.turn(urgent=urgent):
                return True
            await asyncio.sleep(ROOM_SPACING_S)
        return False

    async def _send(self, intent: Intent, begun: _Begun | None = None) -> None:
        """Send, unless that was begun already, and record the answer."""
        refusal = None if begun is not None else self._refuse_sending(intent)
        if refusal is not None:
            if intent.order_id in self._unsent:
                self._note(intent.order_id, OrderState.ABANDONED, refusal)
            return
        first = begun is not None or intent.order_id in self._unsent
        if not first:
            self._budget.spend(self._clock.boot_ms())
            self._recent.append(self._clock.wall_ms())
        self._unsent.discard(intent.order_id)
        self._sending.add(intent.order_id)
        started = self._clock.boot_ms() if begun is None else begun.boot_ms
        try:
            answer = await (self._venue.send(intent.body) if begun is None else begun.answer())
        finally:
            self._sending.discard(intent.order_id)
        if first:
            sent = OrderTiming(intent.tick, started, self._clock.boot_ms(), outcome_of(answer))
            self.sendings.add(sent, at_fault=is_at_fault(answer) and not _was_tried(intent, answer))
        self._log.info(
            "order_answered",
            order_id=intent.order_id,
            slot=intent.slot,
            side=intent.side,
            answer=type(answer).__name__.lower(),
            text=_words(answer),
            ms=self._clock.boot_ms() - started,
        )
        self._record(intent, answer, first=first)

    def _refuse_sending(self, intent: Intent) -> Reason | None:
        """The last look before bytes leave: still the newest epoch, and no halt or pause for an entry (design section 5)."""
        if self._closing:
            return PASSED_ON
        if not self._ledger.is_newest(self._epoch):
            raise FencedError(f"epoch {self._epoch} is not the newest any more")
        return self._stopped() if intent.side is Side.BUY else None

    def _record(self, intent: Intent, answer: Answer, *, first: bool) -> None:
        """Record an answer. first: these bytes were never sent before, by this process or an earlier holder."""
        now = self._clock.boot_ms()
        match answer:
            case Accepted(order_id=order_id, matched=matched, value=value):
                self._mode.note(VenueMode.NORMAL, now)
                self._trouble.note(None, now)
                self._watch(intent.order_id).news(now)
                if intent.side is Side.SELL:
                    self._refused_short.pop(intent.window, None)
                if matched is not None and value is not None:
                    self._answered[intent.order_id] = Fills(1, matched, value, 0)
                if order_id and order_id != intent.order_id:
                    self._log.error("order_id_differs", order_id=intent.order_id, venue_order_id=order_id)
                self._note(intent.order_id, OrderState.ACCEPTED, _words(answer), matched)
            case Refused(mode=mode, code=code, trouble=trouble):
                if code == RATE_LIMITED:
                    self._budget.empty(now)
                elif trouble is not None:
                    self._log.error("account_refused", order_id=intent.order_id, reason=trouble)
                    self._trouble.note(trouble, now)
                else:
                    self._mode.note(mode, now)
                # Refusing the second sending says nothing of the first: only the venue's showing it or its trades does.
                if first:
                    self._learn(intent, answer)
                    if intent.side is Side.SELL and code == NO_BALANCE:
                        self._short.add(intent.order_id)
                        self._note_short(intent.window, 1, 0)
                    self._note(intent.order_id, OrderState.REFUSED, _words(answer))
                elif intent.epoch == self._epoch and self.open[intent.order_id].state is None:  # its row found no room
                    self._note(intent.order_id, OrderState.IN_DOUBT, f"sent again, and refused: {_words(answer)}")
            case InDoubt(mode=mode):
                if mode is not VenueMode.NORMAL:  # no answer says nothing good
                    self._mode.note(mode, now)
                self._note(intent.order_id, OrderState.IN_DOUBT, _words(answer))

    def _note_short(self, window: str, refusals: int, at_hand: int) -> None:
        while len(self._refused_short) >= MOST_SEQS:
            del self._refused_short[next(iter(self._refused_short))]
        self._refused_short[window] = (self._refused_short.get(window, (0, 0))[0] + refusals, at_hand)

    def _learn(self, intent: Intent, refused: Refused) -> None:
        """An exit below the market's minimum was refused for its size: one of the window that is no larger is not tried again."""
        if (
            intent.side is Side.SELL
            and refused.code in SIZE_CODES
            and intent.size < self._watch(intent.order_id).min_size
        ):
            while len(self._too_small) >= MOST_SEQS:
                del self._too_small[next(iter(self._too_small))]
            self._too_small[intent.window] = (intent.size, refused.reason)

    def _may_resend(self, order_id: str) -> bool:
        """Identical bytes cannot fill beyond the order's size: the only retry there is (design section 6)."""
        order = self.open.get(order_id)
        return (
            order is not None
            and not self._closing
            and order.state in (None, OrderState.IN_DOUBT)
            and (self._is_newest_exit(order.intent) or (order.intent.side is Side.BUY and self._resend == "entries"))
            and self._now_ms() < order.intent.window_end_ms
            and self._mode.now(self._clock.boot_ms()) in (VenueMode.NORMAL, VenueMode.UNREACHABLE)
            and self._budget.refuse(self._clock.boot_ms(), entry=False) is None
        )

    def _is_newest_exit(self, intent: Intent) -> bool:
        """Whether no fresh exit followed, whose price is of today."""
        return intent.side is Side.SELL and self._seqs.get((intent.window, intent.side), 0) <= intent.seq

    def _note(self, order_id: str, state: OrderState, text: str, matched: int | None = None) -> None:
        super()._note(order_id, state, text, matched)
        self._unsent.discard(order_id)
        if order_id not in self.open:
            self._looked_ms.pop(order_id, None)


def _was_tried(intent: Intent, answer: Answer) -> bool:
    """Whether an exit was refused that was worth a try: a small rest, or one that followed another in doubt."""
    return intent.side is Side.SELL and isinstance(answer, Refused) and answer.code in ("min_size", NO_BALANCE)


def _words(answer: Answer) -> str:
    """For the order's row: a refusal and what was taken carry the venue's word as their code."""
    match answer:
        case Accepted(status=status, matched=matched):
            return errors.Reason(status, status if matched is None else f"{status}, {matched} matched")
        case Refused(reason=reason, code=code):
            return errors.Reason(code or OrderCode.REFUSED, f"{code}: {reason}" if code else reason)
        case InDoubt(reason=reason):
            return reason
