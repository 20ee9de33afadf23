"""What the buttons do: each changes control, based on the generation that the person saw, and is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from bus import (
    Bus,
    BusError,
    Clock,
    Control,
    DocumentError,
    Log,
    ManualAction,
    Mode,
    SlotControl,
    SlotStatus,
    StaleGenerationError,
    Status,
    clear_halt,
    is_halted,
    make_request,
    read_status,
    set_halt,
    sync_directory,
    write_control,
)
from bus.control import pause_words
from panel.audit_log import Write, append_write, difference
from panel.errors import (
    ConfirmationNeededError,
    NoWindowError,
    TooManyActionsError,
    TooManyRequestsError,
    UnknownSlotError,
)
from panel.views import Progress, read_applied, read_base

# Manual entries and exits in control: which to add and which to forget. Pure. What becomes of them is the bot's matter.


MOST = 200
# People still want to read what became of one whose window is over.
KEPT_MS = 600_000
FINAL = ("done", "refused")

ManualActions = tuple[ManualAction, ...]


def forget_over(standing: ManualActions, now_ms: int) -> ManualActions:
    """Without those whose window ended a while ago, and those that name none: no bot does these."""
    return tuple(
        action for action in standing if action.expires_ms is not None and action.expires_ms > now_ms - KEPT_MS
    )


def add_exits(
    standing: ManualActions, slots: Iterable[SlotStatus], states: Mapping[str, str], new_id: Callable[[], str]
) -> ManualActions:
    """An exit for the window of each slot, unless one is wanted there already and is not over.

    said: the state of actions by id, as the bot says it. Raises TooManyActionsError.
    """
    wanted = {action.window for action in standing if action.action == "exit" and states.get(action.id) not in FINAL}
    # Two slots may be in one window for a moment.
    new = {slot.window: slot for slot in slots if slot.window not in wanted}
    exits = tuple(
        ManualAction(id=new_id(), action="exit", slot=slot.slot, window=slot.window, expires_ms=slot.end_ms)
        for slot in new.values()
    )
    return _bounded((*standing, *exits))


def add_entry(
    standing: ManualActions,
    slot: SlotStatus,
    outcome: Literal["Up", "Down"],
    max_spend: Decimal,
    max_price: Decimal | None,
    new_id: Callable[[], str],
) -> ManualActions:
    """One entry in the slot's window. Raises TooManyActionsError."""
    entry = ManualAction(
        id=new_id(),
        action="enter",
        slot=slot.slot,
        outcome=outcome,
        max_spend=max_spend,
        max_price=max_price,
        window=slot.window,
        expires_ms=slot.end_ms,
    )
    return _bounded((*standing, entry))


def _bounded(actions: ManualActions) -> ManualActions:
    if len(actions) > MOST:
        raise TooManyActionsError(MOST)
    return actions


# What the buttons do: each changes control, based on the generation that the person saw, and is recorded.


Change = Callable[[Control], Control]
MAX_REQUESTS = 50
_NO_PAUSE: dict[str, Any] = {"pause_until_ms": None, "why": ""}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: name, as it shall stand in control and in the record, and where the request came from."""

    name: str
    origin: str

    @property
    def by(self) -> str:
        """The writer's name in documents."""
        return f"panel/{self.name}"


START = Asker("start", "start")


class Written(BaseModel):
    """The answer to a write. generation: the new one. halted: the halt file is there. recorded: it stands in writes.jsonl.

    manual: the ids of the manual actions that it brought. progress: how far it has come when the answer was given.
    """

    generation: int
    halted: bool
    recorded: bool
    manual: tuple[str, ...] = ()
    progress: Progress | None = None


class Asked(BaseModel):
    """The answer to a request to the deployer: its id, and whether it stands in writes.jsonl."""

    request: str
    recorded: bool


class Actions:
    """Writes control. Every method may wait up to 5 s for the lock and for the disk: call it from a worker thread.

    All raise StaleGenerationError, DocumentError, BusError and OSError, see `bus.write_control`.

    new_id: makes the id of a manual action; no two alike.
    """

    def __init__(self, bus: Bus, clock: Clock, log: Log, new_id: Callable[[], str]) -> None:
        self._bus, self._clock, self._log, self._new_id = bus, clock, log, new_id

    def begin(self) -> None:
        """On a fresh bus, write the first control: all defaults. Where something was applied before, invent nothing."""
        base = read_base(self._bus)
        if base.control is not None or self._bus.control.exists() or read_applied(self._bus) != (None, None):
            if base.problem:
                self._log.warning("control_problem", problem=base.problem)
            return
        try:
            self._write("first", 0, lambda control: control, START)
        except StaleGenerationError:
            self._log.info("control_made_by_another")  # a second panel started at the same time

    def pause(self, generation: int, who: Asker, *, for_s: int | None = None, why: str = "") -> Written:
        """No entries; exits go on. for_s: the pause ends by itself after so many seconds; None: somebody resumes."""
        until_ms = None if for_s is None else self._clock.wall_ms() + for_s * 1000
        wanted = {"mode": Mode.PAUSE, "pause_until_ms": until_ms, "why": why}
        action = f"pause{pause_words(until_ms, why)}"
        return self._write(action, generation, lambda control: control.model_copy(update=wanted), who)

    def resume(self, generation: int, who: Asker, *, confirm: bool) -> Written:
        """Entries again; removes the halt file. Raises ConfirmationNeededError when halted and not confirmed."""
        was_halted = False

        def change(control: Control) -> Control:
            # Under control's lock: a halt that comes meanwhile is set after this one was removed, and stays.
            nonlocal was_halted
            was_halted = is_halted(self._bus)
            if (was_halted or control.mode is Mode.HALT) and not confirm:
                raise ConfirmationNeededError
            clear_halt(self._bus)
            return control.model_copy(update={"mode": Mode.RUN, **_NO_PAUSE})

        try:
            return self._write("resume", generation, change, who)
        except (BusError, OSError):
            if was_halted:
                self.set_halt()
            raise

    def halt(self, generation: int, who: Asker) -> Written:
        """The kill switch: the halt file first, then control. Where control cannot be written the halt file stays."""
        self.set_halt()
        try:
            halted = {"mode": Mode.HALT, **_NO_PAUSE}
            return self._write("halt", generation, lambda control: control.model_copy(update=halted), who)
        except (BusError, OSError):
            self.set_halt()  # again: a resume may have removed it just before this write was found stale
            raise

    def slot(self, slot: str, generation: int, who: Asker, changes: Mapping[str, Any]) -> Written:
        """One slot on or off, or its largest order. Raises UnknownSlotError for one that neither status nor control knows.

        changes: validated fields of `bus.SlotControl`.
        """

        def change(control: Control) -> Control:
            if slot not in control.slots and slot not in (windows := set(self._windows())):
                raise UnknownSlotError(slot, {*windows, *control.slots})
            changed = control.slots.get(slot, SlotControl()).model_copy(update=dict(changes))
            return control.model_copy(update={"slots": {**control.slots, slot: changed}})

        return self._write(f"slot {slot} {_words(changes)}", generation, change, who)

    def risk(self, generation: int, who: Asker, changes: Mapping[str, Any]) -> Written:
        """Some of the risk limits. changes: validated fields of `bus.RiskLimits`."""
        return self._write(
            f"risk {_words(changes)}",
            generation,
            lambda control: control.model_copy(update={"risk": control.risk.model_copy(update=dict(changes))}),
            who,
        )

    def strategy(self, generation: int, who: Asker, values: Mapping[str, str | int | float | bool | None]) -> Written:
        """Some of the strategy's parameters; None gives a parameter its default again. The strategy itself checks them."""

        def change(control: Control) -> Control:
            merged = {**control.strategy, **values}
            return control.model_copy(update={"strategy": {k: v for k, v in merged.items() if v is not None}})

        return self._write(f"strategy {_words(values)}", generation, change, who)

    def flatten(self, generation: int, who: Asker, slot: str | None) -> Written:
        """Nothing shall be held in the present window of one slot or of all.

        Raises UnknownSlotError, NoWindowError, TooManyActionsError.
        """
        status = self._status()
        windows = self._windows(status)
        if slot is not None and slot not in windows:
            raise UnknownSlotError(slot, windows)
        wanted = [
            window for window in windows.values() if slot in (None, window.slot) and window.window and window.end_ms
        ]
        if not wanted:
            raise NoWindowError(slot)
        states = {window.id: window.state for window in status.control.manual} if status else {}
        now = self._clock.wall_ms()

        def change(control: Control) -> Control:
            standing = forget_over(control.manual, now)
            return control.model_copy(update={"manual": add_exits(standing, wanted, states, self._new_id)})

        return self._write(f"flatten {slot or 'all'}", generation, change, who)

    def enter(
        self,
        generation: int,
        who: Asker,
        *,
        slot: str,
        outcome: Literal["Up", "Down"],
        max_spend: Decimal,
        max_price: Decimal | None,
    ) -> Written:
        """One entry in the present window of a slot, within risk. Raises UnknownSlotError, NoWindowError, TooManyActionsError."""
        windows = self._windows()
        if slot not in windows:
            raise UnknownSlotError(slot, windows)
        window = windows[slot]
        if not window.window or not window.end_ms:
            raise NoWindowError(slot)
        now = self._clock.wall_ms()

        def change(control: Control) -> Control:
            standing = forget_over(control.manual, now)
            added = add_entry(standing, window, outcome, max_spend, max_price, self._new_id)
            return control.model_copy(update={"manual": added})

        return self._write(f"enter {slot} {outcome} for at most {max_spend}", generation, change, who)

    def ask_deployer(
        self, action: Literal["deploy", "rollback", "approve", "cancel"], who: Asker, *, ref: str, now: bool
    ) -> Asked:
        """Leave a request for the deployer, which answers it in the history of deploys. Raises OSError, TooManyRequestsError."""
        if sum(1 for _ in self._bus.requests.glob("*.json")) >= MAX_REQUESTS:
            raise TooManyRequestsError(MAX_REQUESTS)
        request = make_request(self._bus, action, ref=ref, now=now, by=who.by, clock=self._clock)
        write = Write(
            time_ms=self._clock.wall_ms(),
            generation=0,
            action=f"{action} {ref[:12]}".strip() + (" now" if now else ""),
            by=who.by,
            origin=who.origin,
            before={},
            after={"ref": ref, "now": now},
            request=request.id,
        )
        self._log.info("deployer_asked", action=action, ref=ref, request=request.id, by=who.by, origin=who.origin)
        return Asked(request=request.id, recorded=self._record(write))

    def _write(self, action: str, generation: int, change: Change, who: Asker) -> Written:
        before: list[Control] = []

        def remembering(control: Control) -> Control:
            before.append(control)
            return change(control)

        applied, _ = read_applied(self._bus)
        after = write_control(self._bus, generation, remembering, by=who.by, clock=self._clock, last_applied=applied)
        ids = {one.id for one in before[0].manual}
        manual = tuple(one.id for one in after.manual if one.id not in ids)
        old, new = difference(before[0], after)
        write = Write(
            time_ms=self._clock.wall_ms(),
            generation=after.generation,
            action=action,
            by=who.by,
            origin=who.origin,
            before=old,
            after=new,
            manual=manual,
        )
        recorded = self._record(write)
        self._log.info(
            "control_written",
            action=action,
            generation=after.generation,
            by=who.by,
            origin=who.origin,
            recorded=recorded,
        )
        return Written(generation=after.generation, halted=is_halted(self._bus), recorded=recorded, manual=manual)

    def _record(self, write: Write) -> bool:
        try:
            append_write(self._bus, write)
        except OSError as error:  # the write itself stands: say so instead of failing it
            self._log.error("write_not_recorded", generation=write.generation, error=str(error))
            return False
        return True

    def set_halt(self) -> None:
        """The halt file alone: it stops entries whatever becomes of control. Raises OSError."""
        set_halt(self._bus)
        for folder in {self._bus.directory, self._bus.directives}:
            sync_directory(folder)

    def _status(self) -> Status | None:
        try:
            return read_status(self._bus).body
        except DocumentError:
            return None

    def _windows(self, status: Status | None = None) -> dict[str, SlotStatus]:
        current = status or self._status()
        return {slot.slot: slot for slot in current.slots} if current else {}


def _words(changes: Mapping[str, Any]) -> str:
    """For the record: `enabled`, which people read as a switch, as on or off; everything else by its name."""
    shown = [
        ("on" if value else "off") if name == "enabled" else f"{name}={'default' if value is None else value}"
        for name, value in changes.items()
    ]
    return " ".join(shown)[:200]
