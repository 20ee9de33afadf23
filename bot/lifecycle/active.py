"""What the lease holder does: polls and the orders that come of them, control, status. One object an epoch.

Everything that must survive is in the ledger before it has an effect; what is kept here is a cache of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from bot.account.entry_risk import EntryRisk
from bot.account.portfolio import Portfolio
from bot.account.reconciler import Reconciler
from bot.account.redeem import Redeemer
from bot.account.unknown_activity import UnknownActivity
from bot.context import Context
from bot.lifecycle.inputs_recorder import Recorder
from bot.lifecycle.polls import Poll, PollRows
from bot.lifecycle.predictions import Predictions
from bot.lifecycle.status_builder import build_status
from bot.operator.control import InForce, judge, to_apply
from bot.operator.manual_orders import ManualOrders
from bot.operator.requests import RequestHandler
from bot.orders.manager import OrderManager, Rules
from bot.orders.open_orders import Changed, LedgerFailed, OrderEvent, StatusUnknown, TradeFound
from bot.orders.order_plan import OrderPlan
from bot.orders.risk import why_blocked
from bot.reasons import HALTED, NOT_WANTED, SWITCHED_OFF, MaybeReason, Reason, ReasonCode
from bot.slots import Slot, Window
from bot.strategy.evaluation import NO_STREAK, Evaluation, Own, State, View, goes_on_from, next_state, write_state
from bot.venue.decoding import Code, OddError, Origin, describe
from bot.venue.types import BASE_UNITS
from bus import Control, DocumentError, LedgerError, LedgerFullError, RiskLimits, Status, is_halted, read_control
from bus.tasks import Guard
from ledger import Ledger
from ledger.rows import Position
from ledger.values import Side

LOG_AFTER_S = 0.02


class Active:
    """One epoch of one instance. Its methods raise LedgerError (FencedError: the epoch is over).

    own: what the instance counted in shadow before.
    """

    def __init__(
        self,
        world: Context,
        ledger: Ledger,
        epoch: int,
        *,
        instance: str,
        random_bits: Callable[[int], int],
        on_change: Callable[[], None],
        on_failure: Callable[[Exception], None],
        own: Own | None = None,
    ) -> None:
        self._world, self.ledger, self.epoch, self._instance = world, ledger, epoch, instance
        self._log = world.log.bind(epoch=epoch)
        self._on_change, self._on_failure = on_change, on_failure
        self._since_ms = world.clock.wall_ms()
        self._evaluations: Sequence[Evaluation] = ()
        self._tick: int | None = None
        self._full: Reason | None = None
        self._halted: Reason | None = None
        self._placed: set[tuple[str, Side]] = set()
        self._control = self._judge()
        last = world.go_on_from(ledger.last_state())
        self._state: State = goes_on_from(last, own or Own(), self._rule(), world.moment())
        self._recorder = Recorder(world.bus, self._log, world.strategy.name, world.settings.sha)
        self._predictions = Predictions(ledger, epoch)
        self._holdings = Portfolio(world, ledger)
        settings = world.settings
        self.desk = OrderManager(
            world,
            ledger,
            epoch,
            stopped=self._stopped,
            random_bits=random_bits,
            log=self._log,
            tell=self._heard,
            rules=Rules(settings.resend, settings.interval_ms, settings.orders_per_second),
        )
        self._risk = EntryRisk(world, self._holdings, self.desk)
        self._manual = ManualOrders(
            ledger, epoch, desk=self.desk, now_ms=world.now_ms, wall_ms=world.clock.wall_ms, log=self._log
        )
        self._redeemer = Redeemer(world, ledger, epoch, self._log)
        comparison = UnknownActivity(world, ledger, epoch, self._log)
        requests = RequestHandler(
            world,
            ledger,
            epoch,
            desk=self.desk,
            comparison=comparison,
            log=self._log,
            on_change=self._changed,
            on_resolved=self._holdings.summarize,
        )
        self._reconciler = Reconciler(
            world,
            ledger,
            epoch,
            desk=self.desk,
            holdings=self._holdings,
            comparison=comparison,
            answer_requests=requests.fulfil,
            on_change=self._changed,
        )
        self.ticks = PollRows(
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
        guard.start(self._reconciler.listen_forever(), "user")
        guard.start(self._redeemer.run_forever(), "redeem")
        self._world.news.follow(self.on_news)
        self._world.markets.is_trader = True

    async def poll(self, tick: int) -> Poll:
        """Claim the tick, evaluate every slot, place orders, complete the tick.

        On a full disk, too (see `PollRows`).
        """
        clock = self._world.clock
        started = clock.boot_ms()
        claimed = self.ticks.claim(tick)
        self.follow_control()
        books_problem = await self._world.read_books()
        self._placed.clear()
        view = self._view(self._stopped())
        evaluations = self._manual.act(self._world.evaluate(view), self._control.control, lambda e: self._act(e, tick))
        own = self._world.why_unhealthy(evaluations) or self.ticks.problem
        silent = self._world.venue_is_silent(evaluations, books_problem)
        odd = self._world.not_traded(evaluations)
        why_not = own or silent or odd
        state = next_state(evaluations)
        duration_ms = clock.boot_ms() - started
        lag_ms = started - self.ticks.anchor.due_ms(tick)
        completed = claimed and self.ticks.complete(
            tick,
            healthy=why_not is None,
            lag_ms=lag_ms,
            duration_ms=duration_ms,
            state=write_state(state, self._rule(), self._world.prices.basis_states()),
        )
        self._holdings.count(completed=int(completed))
        self._state, self._evaluations, self._tick = state, evaluations, tick
        self._after_poll(tick, evaluations)
        self._on_change()
        own = own or self.ticks.problem  # the tick's own row may have failed meanwhile
        waits = own is None and (silent or odd) is not None
        only_odd = own is None and silent is None and odd is not None
        return Poll(tick, completed, own or silent or odd, evaluations, lag_ms, duration_ms, waits, not_traded=only_odd)

    def on_news(self, assets: Iterable[str]) -> None:
        """Evaluate the slots of these assets that want to be looked at on every price, between two polls.

        Without waiting for anything, so never in the midst of a poll's own evaluations. Their state goes on from here, and
        becomes durable with the next poll's row, or with the epoch's release. After a death a taker may have to see a
        confirmation anew.
        """
        if self._tick is None:
            return
        news, now = set(assets), self._world.now_ms()
        wanted = {
            index: e.slot for index, e in enumerate(self._evaluations) if e.slot.asset in news and _is_open(e, now)
        }
        if not wanted:
            return
        try:
            # A halt as of the last look: the next one comes before an order leaves.
            # Each slot's order leaves before the next slot is looked at.
            view = self._view(self._closed_by_people())
            evaluations = [
                self._act(e, self._tick) for slot in wanted.values() for e in self._world.evaluate(view, (slot,))
            ]
        except LedgerError as error:
            self._on_failure(error)
            return
        evaluated, olds = list(self._evaluations), [self._evaluations[index] for index in wanted]
        for index, e in zip(wanted, evaluations, strict=True):
            evaluated[index] = e
        before = {e.slot.id: self._state.get(e.slot.id, NO_STREAK) for e in evaluations}
        after = next_state(evaluations)
        self._state = {slot: streak for slot, streak in self._state.items() if slot not in before} | after
        self._evaluations = evaluated
        changed = [
            e
            for old, e in zip(olds, evaluations, strict=True)
            if after.get(e.slot.id, NO_STREAK) != before[e.slot.id]
            or (e.acted and (e.decision.action, e.decision.reason) != (old.decision.action, old.decision.reason))
        ]
        if changed:
            self._recorder.add(
                self._tick, self.epoch, changed, self._control.parameters, self._control.given, between=True
            )
            self._on_change()

    # --- control and status

    def follow_control(self) -> None:
        """Read control; what is newer than what was applied becomes a ledger row and is in force."""
        judged = self._judge()
        if judged.apply and (control := judged.control) is not None:
            try:
                self.ledger.apply_control(
                    control.generation,
                    self.epoch,
                    body=to_apply(judged).model_dump_json(),
                    refused=json.dumps(judged.refused),
                    wall_ms=self._world.clock.wall_ms(),
                )
            except LedgerFullError as error:
                self._note_full(error)
                problem = Reason(ReasonCode.CONTROL, f"control {control.generation} cannot be applied: {error}")
                judged = replace(self._control, seen=judged.seen, problem=problem)
            else:
                self._log.info("control_applied", generation=control.generation, mode=control.mode)
                judged = replace(judged, apply=False)
        if judged.problem is not None and judged.problem != self._control.problem:
            self._log.error("control_not_followed", reason=judged.problem)
        self._control = judged

    def entries_closed(self) -> Reason | None:
        """Why no slot may be entered now, or None."""
        return self._closed(self._stopped())

    def _closed(self, stopped: Reason | None) -> Reason | None:
        world = self._world
        if stopped is not None:
            return stopped
        disagreement = world.account.clock_offset_ms
        if disagreement is None or disagreement > world.settings.interval_ms:
            return Reason(ReasonCode.CLOCK, f"the wall clock and the venue's differ by {disagreement} ms")
        if (closed := self.desk.closed) is not None:
            return closed
        problem = self._full or self.ticks.problem or self._reconciler.problem or world.account.closed
        return problem or self._risk.closed(self._limits)

    @property
    def _limits(self) -> RiskLimits | None:
        return None if self._control.control is None else self._control.control.risk

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
            books=self._world.books,
            desk=self.desk,
            manual=self._manual.status(self._control.control),
            risk=self._risk,
            holdings=self._holdings,
        )

    async def close(self, limit_s: float) -> None:
        """Look at no more prices, end every order task within `limit_s`; the epoch can be released afterwards."""
        self._world.news.follow(None)
        self._world.markets.stand_by()
        await self.desk.close(limit_s)
        self._recorder.close()

    def state(self) -> str:
        """The evaluation state for the row that releases the epoch: the taker goes on from it in the midst of a confirmation."""
        return write_state(self._state, self._rule(), self._world.prices.basis_states())

    # --- inside

    def _rule(self) -> str:
        return self._world.strategy.rule(self._control.parameters)

    def _stopped(self) -> Reason | None:
        """Why people want no entries: a halt or a pause was seen, or control cannot be followed."""
        self._halted = HALTED if is_halted(self._world.bus) else None
        return self._closed_by_people()

    def _closed_by_people(self) -> Reason | None:
        """The same as of the last look. By this machine's clock, as the panel's: what the venue says is no reason to go on."""
        return self._halted or self._control.closed(self._world.clock.wall_ms())

    def _note_full(self, error: LedgerFullError) -> None:
        if self._full is None:
            self._log.error("disk_full", reason=str(error))
        self._full = Reason(ReasonCode.DISK, str(error))

    def _judge(self) -> InForce:
        found = self.ledger.applied_control()
        applied = Control.model_validate_json(found.body) if found else None
        try:
            on_disk: Control | DocumentError = read_control(self._world.bus)
        except DocumentError as error:
            on_disk = error
        return judge(applied, on_disk, [slot.id for slot in self._world.slots], self._world.strategy.parameters)

    def _view(self, stopped: Reason | None) -> View:
        now = self._world.now_ms()
        closed = self._closed(stopped)
        # Where a person wants nothing held, nothing is entered either.
        traded = {position.window for position in self._holdings.positions} | self._manual.exits(self._control.control)

        def blocked(slot: Slot, window: Window, held: bool) -> MaybeReason:
            # What is held can be sold whatever an entry is in doubt about, and for its bid alone: no lead price is needed.
            reason = why_blocked(
                busy=self.desk.is_selling(window.slug) if held else self.desk.is_busy(slot.id, window.slug),
                placed=(slot.id, Side.SELL if held else Side.BUY) in self._placed,
                held=held,
                traded=window.slug in traded,
                closed=closed,
                stale=None if held else self._world.stale_feed(slot.asset),
            )
            if not reason or (word := self.desk.unknown_word(slot.id, window.slug)) is None:
                return reason
            return reason.within(after=f": the venue shows it as {describe(word)}, which is not known")

        return View(
            now_ms=now,
            to_boot_ms=self._world.clock.boot_ms() - now,
            books=self._world.books,
            positions=tuple(self._unsold(position) for position in self._holdings.positions),
            state=self._state,
            strategy=self._world.strategy,
            parameters=self._control.parameters,
            # Exits stay possible in a slot that is switched off.
            enabled=lambda slot: self._control.slot(slot.id).enabled or self._holdings.holds(slot.window(now).slug),
            blocked=blocked,
            stale=lambda slot: self._world.stale_feed(slot.asset) is not None,
            bankroll=None if (bankroll := self._risk.bankroll) is None else bankroll / BASE_UNITS,
        )

    def _unsold(self, position: Position) -> Position:
        """A position without what the venue said was sold of it already, and shows no trades of yet."""
        unseen = self.desk.sold_unseen(position.token_id)
        return position if unseen == 0 else replace(position, shares=max(0, position.shares - unseen))

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
        plan = OrderPlan(
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
            manual=e.manual,
        )
        refusal = (self._refuse_entry(e.slot, plan, control) if side is Side.BUY else None) or self._place(plan)
        if refusal is not None:
            return replace(e, decision=replace(decision, action="none", reason=refusal), acted=True)
        self._placed.add((e.slot.id, side))
        self._holdings.count(orders=1)
        self._predictions.ordered(e, side, tick)
        # A moment later: a line wakes the log's thread, and the order would wait for it.
        asyncio.get_running_loop().call_later(LOG_AFTER_S, partial(self._log.info, "order_placed", **plan.logged))
        return replace(e, acted=True)

    def _refuse_entry(self, slot: Slot, plan: OrderPlan, control: Control) -> Reason | None:
        limits = self._control.slot(slot.id)
        if not limits.enabled:
            return SWITCHED_OFF
        # Of a slot that holds shares `blocked` says whether they may be sold: an entry there is asked about here.
        if plan.window in self._manual.exits(control):
            return NOT_WANTED
        closed = self._closed(self._closed_by_people()) or self._world.lead_problem(slot.asset)
        if closed:
            return closed
        return self._risk.refuse(slot, plan, control.risk, limits)

    def _place(self, plan: OrderPlan) -> Reason | None:
        try:
            return self.desk.place(plan)
        except LedgerFullError as error:
            self._note_full(error)
            return self._full

    def _after_poll(self, tick: int, evaluations: Sequence[Evaluation]) -> None:
        """What may fail without harm to the poll: inputs on record, the checkpoint, the reserve."""
        decided = self._manual.as_the_strategy_decided(evaluations)
        self._recorder.add(tick, self.epoch, decided, self._control.parameters, self._control.given, between=False)
        self._predictions.polled(decided)
        try:
            self._predictions.write()
            self.ledger.checkpoint()
            if not self.ledger.has_reserve():
                self.ledger.restore_reserve()
        except LedgerFullError as error:
            self._note_full(error)
        else:
            self._full = None

    def _heard(self, event: OrderEvent) -> None:
        match event:
            case Changed():
                self._changed()
            case TradeFound(trade_id=trade_id):
                self._reconciler.found_trade(trade_id)
            case StatusUnknown(status=status):
                odd = OddError(Code.UNFORESEEN, "the status of an order", "a known word", status)
                self._world.skips.note(Origin.CLOB, odd)
            case LedgerFailed(error=error):
                self._on_failure(error)

    def _changed(self) -> None:
        """Orders or fills changed: after their row the portfolio, then the status."""
        self._holdings.refresh()
        self._world.account.look_soon()
        self._on_change()


def _is_open(e: Evaluation, now_ms: int) -> bool:
    """Whether a slot, as it was evaluated last, wants to be looked at on every price now."""
    since = e.decision.every_price_from_ms
    return since is not None and since <= now_ms < e.window.end_ms
