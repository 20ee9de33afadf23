"""Which control is in force. Pure.

What was applied is a ledger row; a taker starts from it and never applies less. A control file that is corrupt, missing,
older or of a newer release leaves the last applied one in force and closes entries, loudly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bot.reasons import Reason, ReasonCode
from bot.strategy.api import read_parameters
from bus import Control, DocumentError, Mode, SlotControl
from bus.control import pause_words

_AS_DEFAULT = SlotControl()


@dataclass(frozen=True, slots=True)
class InForce:
    """The control to act by.

    control: None when nothing was ever applied. problem: why the file cannot be followed. apply: whether the file is newer
    than what was applied, so that it must become a ledger row. refused: parts of it that were not understood; of a parameter
    the last good value stays.
    """

    control: Control | None
    parameters: Any
    seen: int | None
    problem: Reason | None
    apply: bool
    refused: tuple[str, ...]

    @property
    def given(self) -> tuple[str, ...]:
        """The parameters that control names; the others have their defaults."""
        return tuple(self.control.strategy) if self.control else ()

    def slot(self, slot_id: str) -> SlotControl:
        """The control of one slot."""
        return self.control.slots.get(slot_id, _AS_DEFAULT) if self.control else _AS_DEFAULT

    def closed(self, now_ms: int) -> Reason | None:
        """Why control closes entries at a moment, UTC ms, or None."""
        if self.problem is not None:
            return self.problem
        if self.control is None:
            return Reason(ReasonCode.CONTROL, "no control was ever applied")
        mode = self.control.mode_at(now_ms)
        if mode is Mode.RUN:
            return None
        words = pause_words(self.control.pause_until_ms, self.control.why) if mode is Mode.PAUSE else ""
        code = ReasonCode.PAUSED if mode is Mode.PAUSE else ReasonCode.HALTED
        return Reason(code, f"control says {mode}{words}")


def judge(applied: Control | None, on_disk: Control | DocumentError, slots: Iterable[str], kind: type[Any]) -> InForce:
    """Choose between the control that was applied last and the one on the bus. kind: the class of the strategy's parameters."""
    if isinstance(on_disk, DocumentError):
        return _keep(applied, None, f"control cannot be followed: {on_disk}", slots, kind)
    if applied is not None and on_disk.generation < applied.generation:
        return _keep(
            applied,
            on_disk.generation,
            f"control.json is generation {on_disk.generation}, older than {applied.generation}, which was applied; "
            "make the change again in the panel",
            slots,
            kind,
        )
    before = read_parameters(kind, applied.strategy)[0] if applied else None
    parameters, refused = _read(on_disk, slots, kind, before)
    newer = applied is None or on_disk.generation > applied.generation
    return InForce(on_disk, parameters, on_disk.generation, None, newer, refused)


def to_apply(found: InForce) -> Control:
    """What becomes the ledger's row: the control with the values in force instead of those that were refused.

    Names that this release does not know are kept: the next release may know them.
    """
    assert found.control is not None, "there is a control where one is to be applied"
    in_force = asdict(found.parameters)
    strategy = {name: in_force.get(name, value) for name, value in found.control.strategy.items()}
    return found.control.model_copy(update={"strategy": strategy})


def _keep(
    applied: Control | None, generation: int | None, problem: str, slots: Iterable[str], kind: type[Any]
) -> InForce:
    parameters, refused = _read(applied, slots, kind) if applied else (kind(), ())
    return InForce(applied, parameters, generation, Reason(ReasonCode.CONTROL, problem), apply=False, refused=refused)


def _read(
    control: Control, slots: Iterable[str], kind: type[Any], before: object = None
) -> tuple[Any, tuple[str, ...]]:
    parameters, refused = read_parameters(kind, control.strategy, before)
    unknown = sorted(set(control.slots) - set(slots))
    more = [f"slots.{name}: this instance has no such slot" for name in unknown]
    return parameters, (*refused, *more)
