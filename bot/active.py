"""What the lease holder does: polls and the orders that come of them, control, status. One object an epoch.

Everything that must survive is in the ledger before it has an effect; what is kept here is a cache of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from bot.control import InForce, judge, to_apply
from bot.desk import Desk
from bot.evaluation import Evaluation, View, next_state, read_state, write_state
from bot.holdings import Holdings
from bot.plan import Plan, worst_cost
from bot.reconcile import Reconciler
from bot.record import Recorder
from bot.risk import refuse_entry
from bot.slots import Slot, Window
from bot.statusview import build_status
from bot.tasks import Guard
from bot.ticks import Ticks
from bot.venue.types import BASE_UNITS, Book, Side, VenueMode
from bot.world import World
from bus import (
    Control,
    DocumentError,
    Ledger,
    LedgerFullError,
    Status,
    is_halted,
    read_control,
)


@dataclass(frozen=True, slots=True)
class Poll:
    """What an active poll left behind. completed: it has its row; only a full disk leaves it without. Times in ms."""

    tick: int
    completed: bool
    why_not: str | None
    evaluations: Sequence[Evaluation]
    lag_ms: int
    duration_ms: int


class Active:
    """One epoch of one instance. Its methods raise LedgerError (FencedError: the epoch is over)."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        epoch: int,
        *,
        instance: str,
        random_bits: Callable[[int], int],
        on_change: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._world, self.ledger, self.epoch, self._instance = world, ledger, epoch, instance
        self._log = world.log.bind(epoch=epoch)
        self._on_change = on_change
        self._since_ms = world.clock.wall_ms()
        self._state = read_state(ledger.last_state())
        self._evaluations: Sequence[Evaluation] = ()
        self._books: dict[str, Book] = {}
        self._tick: int | None = None
        self._full: str | None = None
        self._control = self._judge()
        self._recorder = Recorder(world.bus, self._log)
        self._holdings = Holdings(world, ledger)
        self.desk = Desk(
            venue=world.venue,
            ledger=ledger,
            epoch=epoch,
            stopped=self._stopped,
            clock=world.clock,
            now_ms=world.now_ms,
            random_bits=random_bits,
            resend=world.settings.resend,
            log=self._log,
            on_change=self._changed,
            on_failure=on_failure,
        )
        self._reconciler = Reconciler(
            world,
            ledger,
            epoch,
            desk=self.desk,
            holdings=self._holdings,
            log=self._log,
            on_change=self._changed,
        )
        self.ticks = Ticks(
            ledger,
            epoch,
            clock=world.clock,
            interval_ms=world.settings.interval_ms,
            log=self._log,
            on_missed=lambda ticks: self._holdings.count(missed=ticks),
        )

    def start(self, guard: Guard) -> None:
        """Start what runs beside the polls."""
        guard.start(self._reconciler.settle_forever(), "settle")
        guard.start(self._reconciler.heartbeat_forever(), "heartbeat")

    async def poll(self, tick: int) -> Poll:
        """Claim the tick, evaluate every slot, place orders, complete the tick.

        On a full disk, too (see `ticks`).
        """
        clock = self._world.clock
        started = clock.boot_ms()
        claimed = self.ticks.claim(tick)
        self.follow_control()
        self._books, books_problem = await self._world.books()
        view = self._view()
        evaluations = [self._act(e, tick) for e in self._world.evaluate(view)]
        why_not = self._world.why_unhealthy(evaluations, books_problem) or self.ticks.problem
        state = next_state(evaluations)
        duration_ms = clock.boot_ms() - started
        lag_ms = started - self.ticks.anchor.due_ms(tick)
        completed = claimed and self.ticks.complete(
            tick, healthy=why_not is None, lag_ms=lag_ms, duration_ms=duration_ms, state=write_state(state)
        )
        self._holdings.count(completed=int(completed))
        self._state, self._evaluations, self._tick = state, evaluations, tick
        self._after_poll(tick, evaluations)
        self._on_change()
        return Poll(tick, completed, why_not or self.ticks.problem, evaluations, lag_ms, duration_ms)

    # --- control and status

    def follow_control(self) -> None:
        """Read control; what is newer than what was applied becomes a ledger row and is in force."""
        found = self._judge()
        if found.apply and (control := found.control) is not None:
            try:
                self.ledger.apply_control(
                    control.generation,
                    self.epoch,
                    body=to_apply(found).model_dump_json(),
                    refused=json.dumps(found.refused),
                    wall_ms=self._world.clock.wall_ms(),
                )
            except LedgerFullError as error:
                self._note_full(error)
                problem = f"control {control.generation} cannot be applied: {error}"
                found = replace(self._control, seen=found.seen, problem=problem)
            else:
                self._log.info("control_applied", generation=control.generation, mode=control.mode)
                found = replace(found, apply=False)
        if found.problem is not None and found.problem != self._control.problem:
            self._log.error("control_not_followed", reason=found.problem)
        self._control = found

    def entries_closed(self) -> str | None:
        """Why no slot may be entered now, or None."""
        world = self._world
        if (stopped := self._stopped()) is not None:
            return stopped
        disagreement = world.account.clock_offset_ms
        if disagreement is None or disagreement > world.settings.interval_ms:
            return f"the wall clock and the venue's differ by {disagreement} ms"
        if self.desk.mode is not VenueMode.NORMAL:
            return f"the venue is {self.desk.mode}"
        return self._full or self.ticks.problem or self._reconciler.problem or world.account.stale

    def status(self) -> Status:
        """The status as it is now."""
        return build_status(
            self._world,
            epoch=self.epoch,
            instance=self._instance,
            since_ms=self._since_ms,
            tick=self._tick,
            entries=self.entries_closed(),
            control=self._control,
            evaluations=self._evaluations,
            books=self._books,
            positions=self._holdings.positions,
            desk=self.desk,
            totals=self._holdings.totals,
            pnl_today=self._holdings.pnl_today(),
            pnl_by_slot=self._holdings.pnl_by_slot,
            outcomes=self._holdings.outcomes,
        )

    async def close(self, limit_s: float) -> None:
        """End every order task within `limit_s`; the epoch can be released afterwards."""
        await self.desk.close(limit_s)
        self._recorder.close()

    # --- inside

    def _stopped(self) -> str | None:
        """Why people want no entries: a halt or a pause was seen, or control cannot be followed."""
        if is_halted(self._world.bus):
            return "halted: the file halt is on the bus"
        return self._control.closed()

    def _note_full(self, error: LedgerFullError) -> None:
        if self._full is None:
            self._log.error("disk_full", reason=str(error))
        self._full = str(error)

    def _judge(self) -> InForce:
        found = self.ledger.applied_control()
        applied = Control.model_validate_json(found.body) if found else None
        try:
            on_disk: Control | DocumentError = read_control(self._world.bus)
        except DocumentError as error:
            on_disk = error
        return judge(applied, on_disk, [slot.id for slot in self._world.slots])

    def _view(self) -> View:
        now = self._world.now_ms()
        closed = self.entries_closed()
        traded = {position.window for position in self._holdings.positions}

        def blocked(slot: Slot, window: Window, held: bool) -> str:
            if self.desk.is_busy(slot.id, window.slug):
                return "an order of this slot is open or in doubt"
            stale = self._world.stale_feed(slot.asset)
            if held:
                return stale or ""  # exits stay possible whatever closes entries, but none is decided on an old price
            if window.slug in traded:
                return "this window was traded already"
            return closed or stale or ""

        return View(
            now_ms=now,
            to_boot_ms=self._world.clock.boot_ms() - now,
            books=self._books,
            positions=self._holdings.positions,
            state=self._state,
            parameters=self._control.parameters,
            # Exits stay possible in a slot that is switched off.
            enabled=lambda slot: self._control.slot(slot.id).enabled or self._holdings.holds(slot),
            blocked=blocked,
        )

    def _act(self, e: Evaluation, tick: int) -> Evaluation:
        """Do what was decided for a slot, as far as risk lets it; the evaluation says what came of it."""
        decision, market, control = e.decision, e.market, self._control.control
        if (
            decision.action == "none"
            or market is None
            or decision.outcome is None
            or decision.price is None
            or control is None
        ):
            return e
        side = Side.BUY if decision.action == "enter" else Side.SELL
        plan = Plan(
            tick=tick,
            generation=control.generation,
            slot=e.slot.id,
            window=e.window.slug,
            window_end_ms=e.window.end_ms,
            market=market,
            outcome=decision.outcome,
            side=side,
            price=decision.price,
            size=decision.size,
            reason=decision.reason,
        )
        refusal = (self._refuse_entry(e.slot, plan, control) if side is Side.BUY else None) or self._place(plan)
        if refusal is not None:
            return replace(e, decision=replace(decision, action="none", reason=refusal))
        self._holdings.count(orders=1)
        self._log.info(
            "order_placed",
            slot=e.slot.id,
            tick=tick,
            side=side,
            outcome=decision.outcome,
            price=str(decision.price),
            shares=str(Decimal(decision.size) / BASE_UNITS),
            reason=decision.reason,
        )
        return e

    def _refuse_entry(self, slot: Slot, plan: Plan, control: Control) -> str | None:
        limits = self._control.slot(slot.id)
        if not limits.enabled:
            return "switched off"
        usage = self._holdings.usage(slot, self.desk.open.values(), self.desk.orders_last_minute)
        return refuse_entry(worst_cost(plan.price, plan.size, plan.market), usage, control.risk, limits)

    def _place(self, plan: Plan) -> str | None:
        try:
            return self.desk.place(plan)
        except LedgerFullError as error:
            self._note_full(error)
            return str(error)

    def _after_poll(self, tick: int, evaluations: Sequence[Evaluation]) -> None:
        """What may fail without harm to the poll: inputs on record, the checkpoint, the reserve."""
        self._recorder.add(tick, self.epoch, evaluations, self._control.parameters)
        try:
            self.ledger.checkpoint()
            if not self.ledger.has_reserve():
                self.ledger.restore_reserve()
        except LedgerFullError as error:
            self._note_full(error)
        else:
            self._full = None

    def _changed(self) -> None:
        """Orders or fills changed."""
        self._holdings.refresh()
        self._world.account.look_soon()
        self._on_change()
