"""How far a write of control has come: requested, seen, applied, or refused with the reason. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from bus import Status

Stage = Literal["requested", "seen", "applied", "refused"]


class ManualProgress(BaseModel):
    """How far one manual action has come. state: waiting, ordered, done or refused, as the bot says it."""

    id: str
    state: str
    text: str


class Progress(BaseModel):
    """How far a generation has come.

    stage: requested (written; the bot has not looked yet), seen, applied, or refused (the bot keeps what it had). reasons: why
    it, or parts of it, were refused. manual: the actions of this write. settled: nothing more will change about it.
    """

    generation: int
    stage: Stage
    reasons: tuple[str, ...] = ()
    manual: tuple[ManualProgress, ...] = ()
    settled: bool


def follow(generation: int, manual: tuple[str, ...], status: Status | None) -> Progress:
    """What the bot's status says of a generation and of the manual actions that it brought."""
    if status is None or (status.control.seen or 0) < generation:
        waiting = tuple(ManualProgress(id=one, state="waiting", text="not seen yet") for one in manual)
        return Progress(generation=generation, stage="requested", manual=waiting, settled=False)
    control = status.control
    if (control.applied or 0) < generation:
        if control.problem is None:
            return Progress(generation=generation, stage="seen", settled=False)
        return Progress(generation=generation, stage="refused", reasons=(control.problem,), settled=False)
    said = {one.id: one for one in control.manual}
    found = tuple(
        ManualProgress(id=one, state=said[one].state, text=said[one].text)
        if one in said
        else ManualProgress(id=one, state="waiting", text="the active bot says nothing of it")
        for one in manual
    )
    # Of a later generation the bot's complaints are about that one.
    reasons = control.refused if control.applied == generation else ()
    settled = all(one.state in ("done", "refused") for one in found)
    return Progress(generation=generation, stage="applied", reasons=reasons, manual=found, settled=settled)
