"""What the panel shows: read from the bus, as values for the API and the page. Nothing here raises for a bad document;
what is wrong is said in `problem`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ValidationError

from bus import (
    Bus,
    Clock,
    Control,
    DocumentError,
    DocumentMissingError,
    Instance,
    LedgerError,
    Read,
    Stamp,
    Status,
    Step,
    is_halted,
    is_locked,
    read_control,
    read_handover,
    read_instances,
    read_status,
    read_steps,
)
from ledger import Ledger
from panel.audit_log import Write, read_writes
from panel.errors import NoSuchWriteError

# How far a write of control has come: requested, seen, applied, or refused with the reason. Pure.


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
        waiting = tuple(ManualProgress(id=action_id, state="waiting", text="not seen yet") for action_id in manual)
        return Progress(generation=generation, stage="requested", manual=waiting, settled=False)
    control = status.control
    if (control.applied or 0) < generation:
        if control.problem is None:
            return Progress(generation=generation, stage="seen", settled=False)
        return Progress(generation=generation, stage="refused", reasons=(control.problem,), settled=False)
    by_id = {action_id.id: action_id for action_id in control.manual}
    progress = tuple(
        ManualProgress(id=action_id, state=by_id[action_id].state, text=by_id[action_id].text)
        if action_id in by_id
        else ManualProgress(id=action_id, state="waiting", text="the active bot says nothing of it")
        for action_id in manual
    )
    # Of a later generation the bot's complaints are about that one.
    reasons = control.refused if control.applied == generation else ()
    settled = all(action_id.state in ("done", "refused") for action_id in progress)
    return Progress(generation=generation, stage="applied", reasons=reasons, manual=progress, settled=settled)


# What the panel shows: read from the bus, as values for the API and the page. Nothing here raises for a bad document;


MAX_DEAD = 10
MAX_DEPLOYS = 20
NO_PHASE = ("answered", "compared")
MAX_WRITES = 100
DEPLOYS_TAIL = 256 << 10  # bytes


class StampView(BaseModel):
    """Who wrote a document, as what, and when (UTC ms)."""

    writer: str
    epoch: int | None
    sequence: int
    time_ms: int


class StatusView(BaseModel):
    """The observed state. age_ms: since it was written. time_ms: the panel's UTC time, by which the page counts down."""

    status: Status | None = None
    stamp: StampView | None = None
    age_ms: int | None = None
    problem: str | None = None
    time_ms: int


class ControlView(BaseModel):
    """The desired state. generation: what the next write must be based on. halted: the halt file is there."""

    control: Control | None = None
    generation: int
    applied: int | None = None
    halted: bool
    problem: str | None = None


class InstanceItem(BaseModel):
    """One instance: whether its process lives (the kernel's word), and what it says of itself."""

    id: str
    alive: bool
    sequence: int
    document: Instance | None


class InstancesView(BaseModel):
    """All living instances and the newest dead ones. wanted: who was named to hold the lease last. deployer: whether one runs.

    disk_free_mib, disk_total_mib: of the file system of the bus; None where it cannot be asked.
    """

    instances: tuple[InstanceItem, ...] = ()
    wanted: str | None = None
    confirmed_sha: str = ""
    deployer: bool = False
    disk_free_mib: int | None = None
    disk_total_mib: int | None = None
    problem: str | None = None


class DeployView(BaseModel):
    """One deploy: its newest step (those that are no phase of it aside), and all of them, oldest first. Times in UTC ms."""

    deploy: str
    sha: str
    by: str
    started_ms: int
    step: str
    text: str
    steps: tuple[Step, ...]


class DeploysView(BaseModel):
    """The newest deploys, newest first."""

    deploys: tuple[DeployView, ...] = ()
    problem: str | None = None


class RequestView(BaseModel):
    """What became of a request to the deployer. answered: the deployer did something about it; text: its words."""

    request: str
    answered: bool
    deploy: str = ""
    step: str = ""
    text: str = ""


class WritesView(BaseModel):
    """The newest writes of control and requests to the deployer, newest first."""

    writes: tuple[Write, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What the next write is based on: the newest control that there is. applied: from the ledger."""

    control: Control | None
    applied: Control | None
    problem: str | None

    @property
    def generation(self) -> int:
        """0 where there is no control at all: the next write makes the first."""
        return self.control.generation if self.control else 0


def read_base(bus: Bus) -> Base:
    """The control file, or the last applied control where the file is missing, unreadable or older than that.

    The same choice as `bus.write_control` makes under its lock.
    """
    applied, problem = read_applied(bus)
    try:
        control = read_control(bus)
    except DocumentError as error:
        if applied is None:
            return Base(None, None, problem or f"{error}; no control was applied yet that could stand in for it")
        return Base(
            applied,
            applied,
            f"{error}; the bot keeps generation {applied.generation} and opens nothing new: your next write brings control back",
        )
    if applied is not None and applied.generation > control.generation:
        return Base(
            applied,
            applied,
            f"control.json is generation {control.generation}, but {applied.generation} was applied: an older file was put "
            "back; your next write continues from the applied one",
        )
    return Base(control, applied, problem)


def read_applied(bus: Bus) -> tuple[Control | None, str | None]:
    """The newest applied control from the ledger, and what is wrong when it cannot be read."""
    try:
        ledger = Ledger.reader(bus.ledger)
        if ledger is None:
            return None, None
        with ledger:
            row = ledger.applied_control()
        return (None, None) if row is None else (Control.model_validate_json(row.body), None)
    except (LedgerError, ValidationError) as error:
        return None, f"the applied control cannot be read from the ledger ({str(error).splitlines()[0]})"


def group_deploys(steps: list[Step]) -> list[DeployView]:
    """Steps (oldest first) by deploy, the newest deploy first. An answer that is about no deploy makes none."""
    by_deploy: dict[str, list[Step]] = {}
    for step in steps:
        if step.deploy:
            by_deploy.setdefault(step.deploy, []).append(step)
    return [
        DeployView(
            deploy=deploy,
            sha=next((step.sha for step in its if step.sha), ""),
            by=next((step.by for step in its if step.by), ""),
            started_ms=its[0].time_ms,
            step=newest.word,
            text=newest.text,
            steps=tuple(its),
        )
        for deploy, its in reversed(by_deploy.items())
        for newest in (next((step for step in reversed(its) if step.step not in NO_PHASE), its[-1]),)
    ]


class Views:
    """Reads the bus. Safe to use from several threads."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock
        self._first_seen: tuple[Stamp | None, int] = (None, 0)

    def status(self) -> StatusView:
        """The status document, its stamp and its age."""
        now = self._clock.wall_ms()
        try:
            read: Read[Status] = read_status(self._bus)
        except DocumentMissingError:
            return StatusView(time_ms=now, problem="no status yet: no bot has traded on this bus")
        except DocumentError as error:
            return StatusView(time_ms=now, problem=str(error))
        stamp = read.stamp
        view = StampView(writer=stamp.writer, epoch=stamp.epoch, sequence=stamp.sequence, time_ms=stamp.time_ms)
        return StatusView(status=read.body, stamp=view, age_ms=self._age_ms(stamp), time_ms=now)

    def control(self) -> ControlView:
        """The desired state, and the generation that the next write must be based on."""
        base = read_base(self._bus)
        return ControlView(
            control=base.control,
            generation=base.generation,
            applied=base.applied.generation if base.applied else None,
            halted=is_halted(self._bus),
            problem=base.problem,
        )

    def instances(self) -> InstancesView:
        """Both colors, spares, and the newest dead ones."""
        try:
            views = read_instances(self._bus)
            handover = read_handover(self._bus)
        except (OSError, DocumentError) as error:
            return InstancesView(problem=f"instances cannot be read ({error})")
        try:
            disk = shutil.disk_usage(self._bus.directives)
        except OSError:
            disk = None
        dead = [view.id for view in views if not view.alive][-MAX_DEAD:]
        return InstancesView(
            instances=tuple(
                InstanceItem(id=view.id, alive=view.alive, sequence=view.sequence, document=view.document)
                for view in views
                if view.alive or view.id in dead
            ),
            wanted=handover.wanted,
            confirmed_sha=handover.confirmed_sha,
            deployer=is_locked(self._bus.deployer_lock),
            disk_free_mib=None if disk is None else disk.free >> 20,
            disk_total_mib=None if disk is None else disk.total >> 20,
        )

    def deploys(self) -> DeploysView:
        """The newest deploys with their steps."""
        try:
            steps = read_steps(self._bus, DEPLOYS_TAIL)
        except DocumentError as error:
            return DeploysView(problem=str(error))
        return DeploysView(deploys=tuple(group_deploys(steps)[:MAX_DEPLOYS]), problem=_why_nobody_trades(steps))

    def request(self, request: str) -> RequestView:
        """What became of a request to the deployer."""
        try:
            steps = [step for step in read_steps(self._bus, DEPLOYS_TAIL) if step.request == request]
        except DocumentError as error:
            return RequestView(request=request, answered=False, text=str(error))
        if not steps:
            return RequestView(request=request, answered=False, text="the deployer has not answered yet")
        newest = steps[-1]
        return RequestView(request=request, answered=True, deploy=newest.deploy, step=newest.step, text=newest.text)

    def progress(self, generation: int, manual: tuple[str, ...]) -> Progress:
        """How far a generation and its manual actions have come."""
        try:
            status: Status | None = read_status(self._bus).body
        except DocumentError:
            status = None
        return follow(generation, manual, status)

    def written(self, generation: int) -> Write:
        """The write that made a generation. Raises NoSuchWriteError, OSError."""
        for write in read_writes(self._bus, MAX_WRITES):
            if write.generation == generation and not write.request:
                return write
        raise NoSuchWriteError(f"generation {generation}")

    def writes(self) -> WritesView:
        """The newest writes of control."""
        try:
            return WritesView(writes=tuple(read_writes(self._bus, MAX_WRITES)))
        except OSError as error:
            return WritesView(problem=f"writes.jsonl cannot be read ({error.strerror})")

    def _age_ms(self, stamp: Stamp) -> int:
        """By the wall clock, and no younger than since this panel first saw it: the wall clock may have been set back."""
        now = self._clock.boot_ms()
        if stamp != self._first_seen[0]:
            self._first_seen = (stamp, now)
        return max(0, self._clock.wall_ms() - stamp.time_ms, now - self._first_seen[1])


def _why_nobody_trades(steps: list[Step]) -> str | None:
    """The deployer's newest word about that (its rollout.standstill); None while somebody trades."""
    newest = next((step for step in reversed(steps) if step.step in ("nobody-trades", "trades-again")), None)
    return f"nobody trades: {newest.text}" if newest is not None and newest.step == "nobody-trades" else None
