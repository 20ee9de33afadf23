"""The rows of the ticks of one epoch: claimed, completed, or missed with a reason. Every tick gets one, on a full disk later.

A poll that finds no room for its rows is made all the same, so that exits go on as long as they find room. Its tick is *owed* a
row; as soon as there is room it and all that followed are recorded as missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.context import Context
from bot.operator.control import judge
from bot.reasons import Reason, ReasonCode
from bot.strategy.evaluation import Evaluation, Own, View, goes_on_from, next_state
from bus import Anchor, BusError, Clock, Control, DocumentError, LedgerFullError, Log, errors, new_anchor, read_control
from ledger import Epoch, LastState, Ledger
from ledger.rows import Position, positions
from ledger.schema import MissCode

DISK_FULL = errors.Reason(MissCode.DISK, "the disk of the bus was full")
STANDBY = Reason(ReasonCode.STANDBY, "standby: without the lease no order is placed")
FSYNC_FAILED = Reason(
    ReasonCode.DISK, "an fsync failed on this bus: look at the disk, then remove the file fsync-failed"
)


class PollRows:
    """Ticks are UTC ms. Its methods raise LedgerError, but never for want of room.

    Args:
        on_missed: called with the number of ticks that were recorded as missed.

    Attributes:
        commit_s: how long the newest completed row took to be durable; None before the first.
    """

    def __init__(
        self, ledger: Ledger, epoch: int, *, clock: Clock, interval_ms: int, log: Log, on_missed: Callable[[int], None]
    ) -> None:
        self._ledger, self._epoch, self._clock, self._log = ledger, epoch, clock, log
        self._on_missed = on_missed
        self._owed: int | None = None
        self._why_owed = ""
        self.commit_s: float | None = None
        self.anchor = self._fasten(interval_ms)

    @property
    def problem(self) -> Reason | None:
        """Why ticks are owed their rows, or None when none is."""
        return None if self._owed is None else Reason(ReasonCode.DISK, self._why_owed)

    def first(self) -> int:
        """The tick to begin with: the current one if it has no completed poll; what lies before it is recorded as missed."""
        last = self._ledger.last_tick()
        current = self.anchor.tick_at(self._clock.boot_ms())
        if last is None:
            return current + self.anchor.interval_ms
        if current <= last:
            return last + self.anchor.interval_ms
        self.skip(last, current, errors.Reason(MissCode.NO_HOLDER, "no instance held the lease"))
        return current

    def after(self, tick: int) -> int:
        """The tick to poll after `tick`. Those that its poll made us miss are recorded with the reason."""
        current = self.anchor.tick_at(self._clock.boot_ms())
        following = tick + self.anchor.interval_ms
        if current <= following:
            return following
        self.skip(tick, current, errors.Reason(MissCode.LATE, f"the poll of tick {tick} came late or took long"))
        return current

    def skip(self, last: int, upto: int, reason: errors.Reason) -> None:
        """Record the ticks between `last` and `upto`, both left out, and all that are owed, as missed."""
        first = last + self.anchor.interval_ms
        if self._owed is not None:
            first, reason = self._owed, DISK_FULL
        ticks = (upto - first + self.anchor.interval_ms - 1) // self.anchor.interval_ms
        if ticks <= 0:
            return
        end = max(first, upto - self.anchor.interval_ms)
        try:
            self._ledger.miss(first, end, ticks, self._epoch, reason)
        except LedgerFullError as error:
            self._owe(first, error)
            return
        self._owed = None
        self._on_missed(ticks)
        self._log.warning("polls_missed", ticks=ticks, first=first, last=end, reason=reason, code=reason.code)

    def claim(self, tick: int) -> bool:
        """Claim a tick; whether there was room. Raises TickTakenError when it is completed."""
        if self._owed is not None:
            self.skip(self._owed, tick, DISK_FULL)
        if self._owed is not None:
            return False
        try:
            self._ledger.claim(tick, self._epoch, self._clock.boot_ms())
        except LedgerFullError as error:
            self._owe(tick, error)
            return False
        return True

    def complete(self, tick: int, *, healthy: bool, lag_ms: int, duration_ms: int, state: str) -> bool:
        """Complete a claimed tick with its evaluation state (JSON); whether there was room."""
        began = time.perf_counter()
        try:
            self._ledger.complete(
                tick, self._epoch, healthy=healthy, lag_ms=lag_ms, duration_ms=duration_ms, state=state
            )
        except LedgerFullError as error:
            self._owe(tick, error)
            return False
        self.commit_s = time.perf_counter() - began
        return True

    def _owe(self, tick: int, error: LedgerFullError) -> None:
        if self._owed is None:
            self._owed, self._why_owed = tick, str(error)
            self._log.error("tick_not_recorded", tick=tick, reason=str(error))

    def _fasten(self, interval_ms: int) -> Anchor:
        """The grid of ticks: as it was, or a new one after a reboot or with another interval."""
        anchor = self._ledger.anchor()
        if anchor is not None and anchor.boot_id == self._clock.boot_id and anchor.interval_ms == interval_ms:
            return anchor
        anchor = new_anchor(self._clock, interval_ms, self._ledger.last_tick())
        self._ledger.fasten(self._epoch, anchor)
        return anchor


# Shadow polls: what a standby does, the same evaluation without the lease and without orders.


@dataclass(frozen=True, slots=True)
class ShadowPoll:
    """The result of one. why_not: None when it was healthy. newest: the newest epoch in the ledger.

    own: what it counted. waits_for_venue: it was not healthy, and only for want of the venue's answers.
    """

    why_not: Reason | None
    anchor: Anchor | None
    newest: Epoch | None
    evaluations: list[Evaluation]
    own: Own
    waits_for_venue: bool = False


async def shadow_poll(world: Context, own: Own) -> ShadowPoll:
    """Replay the ledger, read control, evaluate every slot. own: what the shadow poll before it counted."""
    anchor = newest = None
    ledger_problem: Reason | None = None
    held: tuple[Position, ...] = ()
    last: LastState | None = None
    applied: Control | None = None
    try:
        ledger = Ledger.reader(world.bus.ledger, world.identity)
        if ledger is not None:
            with ledger:
                anchor, newest = ledger.anchor(), ledger.newest_epoch()
                last = ledger.last_state()
                applied_control = ledger.applied_control()
                applied = Control.model_validate_json(applied_control.body) if applied_control else None
                # The bot's own tables are missing in a ledger that was only just made.
                if ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'outcomes'"):
                    held = tuple(positions(ledger, world.now_ms()))
    except BusError as error:
        ledger_problem = Reason(ReasonCode.LEDGER, f"the ledger cannot be read: {error}")
    world.go_on_from(last)
    control = judge(applied, _control_on_disk(world), [slot.id for slot in world.slots], world.strategy.parameters)
    books_problem = await world.read_books()
    now, moment = world.now_ms(), world.moment()
    rule = world.strategy.rule(control.parameters)

    evaluations = world.evaluate(
        View(
            now_ms=now,
            to_boot_ms=moment.boot_ms - now,
            books=world.books,
            positions=held,
            state=goes_on_from(last, own, rule, moment),
            strategy=world.strategy,
            parameters=control.parameters,
            enabled=lambda slot: control.slot(slot.id).enabled,
            blocked=lambda _slot, _window, _held: STANDBY,
        )
    )
    why_not = ledger_problem or world.why_unhealthy(evaluations)
    if why_not is None and control.control is None:
        why_not = control.closed(world.clock.wall_ms())
    if why_not is None and world.bus.fsync_failed.exists():
        why_not = FSYNC_FAILED
    silent = world.venue_is_silent(evaluations, books_problem) if why_not is None else None
    own = Own(next_state(evaluations), rule, moment.boot_ms)
    return ShadowPoll(why_not or silent, anchor, newest, evaluations, own, waits_for_venue=silent is not None)


def _control_on_disk(world: Context) -> Control | DocumentError:
    try:
        return read_control(world.bus)
    except DocumentError as error:
        return error


@dataclass(frozen=True, slots=True)
class Poll:
    """What an active poll left behind. completed: it has its row; only a full disk leaves it without. Times in ms.

    waits_for_venue: it was not healthy, and only for want of the venue's answers. not_traded: it was not healthy, and only since
    the market of a slot is none that can be traded.
    """

    tick: int
    completed: bool
    why_not: Reason | None
    evaluations: Sequence[Evaluation]
    lag_ms: int
    duration_ms: int
    waits_for_venue: bool = False
    not_traded: bool = False
