"""What the buttons do: each changes control, based on the generation that the person saw, and is recorded."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from bus import (
    Bus,
    BusError,
    Clock,
    Control,
    DocumentError,
    Log,
    Mode,
    SlotControl,
    StaleGenerationError,
    clear_halt,
    is_halted,
    read_status,
    sync_directory,
    write_control,
)
from panel.errors import ConfirmationNeededError, UnknownSlotError
from panel.record import Write, append_write, difference
from panel.views import read_applied, read_base

Change = Callable[[Control], Control]


class Written(BaseModel):
    """The answer to a write. generation: the new one. halted: the halt file is there. recorded: it stands in writes.jsonl."""

    generation: int
    halted: bool
    recorded: bool


class Actions:
    """Writes control. Every method may wait up to 5 s for the lock and for the disk: call it from a worker thread.

    All raise StaleGenerationError, DocumentError, BusError and OSError, see `bus.write_control`.
    """

    def __init__(self, bus: Bus, clock: Clock, log: Log, by: str) -> None:
        """by: who writes, as it shall stand in control and in the record."""
        self._bus, self._clock, self._log, self._by = bus, clock, log, by

    def begin(self) -> None:
        """On a fresh bus, write the first control: all defaults. Where something was applied before, invent nothing."""
        base = read_base(self._bus)
        if base.control is not None or self._bus.control.exists() or read_applied(self._bus) != (None, None):
            if base.problem:
                self._log.warning("control_problem", problem=base.problem)
            return
        try:
            self._write("first", 0, lambda control: control, "start")
        except StaleGenerationError:
            self._log.info("control_made_by_another")  # a second panel started at the same time

    def pause(self, generation: int, origin: str) -> Written:
        """No entries; exits go on."""
        return self._write("pause", generation, lambda control: control.model_copy(update={"mode": Mode.PAUSE}), origin)

    def resume(self, generation: int, origin: str, *, confirm: bool) -> Written:
        """Entries again; removes the halt file. Raises ConfirmationNeededError when halted and not confirmed."""
        was_halted = False

        def change(control: Control) -> Control:
            # Under control's lock: a halt that comes meanwhile is set after this one was removed, and stays.
            nonlocal was_halted
            was_halted = is_halted(self._bus)
            if (was_halted or control.mode is Mode.HALT) and not confirm:
                raise ConfirmationNeededError
            clear_halt(self._bus)
            return control.model_copy(update={"mode": Mode.RUN})

        try:
            return self._write("resume", generation, change, origin)
        except (BusError, OSError):
            if was_halted:
                self._set_halt()
            raise

    def halt(self, generation: int, origin: str) -> Written:
        """The kill switch: the halt file first, then control. Where control cannot be written the halt file stays."""
        self._set_halt()
        try:
            return self._write(
                "halt", generation, lambda control: control.model_copy(update={"mode": Mode.HALT}), origin
            )
        except (BusError, OSError):
            self._set_halt()  # again: a resume may have removed it just before this write was found stale
            raise

    def slot(self, slot: str, generation: int, origin: str, *, enabled: bool) -> Written:
        """One slot on or off. Raises UnknownSlotError for one that neither status nor control knows."""

        def change(control: Control) -> Control:
            if slot not in control.slots and slot not in (known := self._known_slots()):
                raise UnknownSlotError(slot, {*known, *control.slots})
            changed = control.slots.get(slot, SlotControl()).model_copy(update={"enabled": enabled})
            return control.model_copy(update={"slots": {**control.slots, slot: changed}})

        return self._write(f"slot {slot} {'on' if enabled else 'off'}", generation, change, origin)

    def _write(self, action: str, generation: int, change: Change, origin: str) -> Written:
        before: list[Control] = []

        def remembering(control: Control) -> Control:
            before.append(control)
            return change(control)

        applied, _ = read_applied(self._bus)
        after = write_control(self._bus, generation, remembering, by=self._by, clock=self._clock, last_applied=applied)
        recorded = self._record(action, before[0], after, origin)
        self._log.info("control_written", action=action, generation=after.generation, origin=origin, recorded=recorded)
        return Written(generation=after.generation, halted=is_halted(self._bus), recorded=recorded)

    def _record(self, action: str, before: Control, after: Control, origin: str) -> bool:
        old, new = difference(before, after)
        write = Write(
            time_ms=self._clock.wall_ms(),
            generation=after.generation,
            action=action,
            by=self._by,
            origin=origin,
            before=old,
            after=new,
        )
        try:
            append_write(self._bus, write)
        except OSError as error:  # the write itself stands: say so instead of failing it
            self._log.error("write_not_recorded", generation=after.generation, error=str(error))
            return False
        return True

    def _set_halt(self) -> None:
        self._bus.halt.touch()
        sync_directory(self._bus.directory)

    def _known_slots(self) -> set[str]:
        try:
            return {slot.slot for slot in read_status(self._bus).body.slots}
        except DocumentError:
            return set()
