"""What the rollout decides upon, and what it can decide. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bus import Handover, InstanceView, Request, Role
from bus.errors import Reason
from deployer.deploys import Deploy, History
from deployer.push.receive import Push
from deployer.push.unchanged import Same
from deployer.rollout.differences import Compared
from deployer.runtimes.api import Start, Unit
from ledger import Epoch


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that the rollout needs; times in ms. hold: decisions that differ wait for a person; always: all do."""

    confirm_polls: int = 3
    spares: int = 1
    healthy_timeout_ms: int = 120_000
    stuck_after_ms: int = 6_000
    hold: bool = False
    always: bool = False


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of a decision, on both clocks, in ms."""

    boot_ms: int
    boot_id: str
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An open request. sha: the commit that its ref names. problem: why it cannot be done; then the rest may be missing."""

    id: str
    request: Request | None
    sha: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that was seen in one look.

    target: the branch's newest commit; None when git cannot tell. subject: its message's first line.
    left: the commit that was the newest before and is not in the branch any more; empty after a fast-forward.
    requests, pushes: oldest first. built: commits that can be started. failures: by commit, why it could not be built or started.
    same: by commit, that it equals the confirmed one in all that counts.
    comparable: built commits whose worker can compare decisions. compared: by deploy, what came of that and is not noted yet.
    busy: what is being done right now: `build:SHA`, `start`, `compare:DEPLOY`.
    blind, blind_why: the ledger could not be read, so who trades is unknown; and why.
    quiet_ms: how old the newest sign of the newest epoch in the ledger is (deployer.trading); None where it shows no polls.
    still_ms: by instance id, how long its sequence stood still by the deployer's own samples (0 while its probe failed).
    since_ms: by the keys of `timers`, boot time in ms at which this deployer saw it first.
    newest: the newest epoch. spent: handover requests that were used by a yield, of the newest releases.
    interval_ms: between ticks, as the ledger's anchor says. missed: ticks missed since the open deploy was queued.
    """

    history: History
    target: str | None = None
    subject: str = ""
    left: str = ""
    branch: str = ""
    requests: tuple[Asked, ...] = ()
    pushes: tuple[Push, ...] = ()
    built: frozenset[str] = frozenset()
    failures: Mapping[str, Reason] = field(default_factory=dict)
    same: Mapping[str, Same] = field(default_factory=dict)
    comparable: frozenset[str] = frozenset()
    compared: Mapping[str, Compared] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    blind: bool = False
    blind_why: str = ""
    quiet_ms: int | None = None
    units: tuple[Unit, ...] = ()
    instances: tuple[InstanceView, ...] = ()
    still_ms: Mapping[str, int] = field(default_factory=dict)
    since_ms: Mapping[str, int] = field(default_factory=dict)
    newest: Epoch | None = None
    spent: frozenset[str] = frozenset()
    interval_ms: int = 5_000
    missed: int = 0
    handover: Handover = field(default_factory=Handover)

    def instance_of(self, unit: Unit) -> InstanceView | None:
        """The living instance that runs in a unit and wrote its document."""
        views = [view for view in self.instances if view.alive and view.document and view.document.unit == unit.name]
        return views[-1] if views else None

    @property
    def confirmed_sha(self) -> str | None:
        """The commit that shall run when no deploy is open."""
        deploy = self.history.confirmed
        return deploy.sha if deploy is not None else self.handover.confirmed_sha or None

    @property
    def holder(self) -> InstanceView | None:
        """The living instance of the newest epoch, unless it released it."""
        newest = self.newest
        if newest is None or newest.released:
            return None
        return next((view for view in self.instances if view.alive and view.id == newest.instance), None)

    def may_hold(self, view: InstanceView) -> bool:
        """Whether an instance holds the lease as far as anything on the bus says so."""
        holder = self.holder
        if holder is not None and holder.id == view.id:
            return True
        return view.alive and view.document is not None and view.document.role in (Role.ACTIVE, Role.YIELDING)

    def may_hold_unit(self, unit: Unit) -> bool:
        """The same for what runs in a unit."""
        instance = self.instance_of(unit)
        return instance is not None and self.may_hold(instance)

    def is_ready(self, view: InstanceView | None) -> bool:
        """Whether an instance could take the lease now."""
        return (
            view is not None
            and view.alive
            and view.document is not None
            and view.document.healthy
            and view.document.role in (Role.STANDBY, Role.ACTIVE)
            and view.id not in self.handover.retired
        )

    def is_ready_without_venue(self, view: InstanceView) -> bool:
        """Whether an instance lacks nothing but the venue's answers, which the trader lacks as well: the venue is down."""
        holder = self.holder
        return (
            holder is not None
            and holder.document is not None
            and holder.document.waits_for_venue
            and view.alive
            and view.document is not None
            and view.document.waits_for_venue
            and view.id not in self.handover.retired
            and view.document.role in (Role.WARMING, Role.STANDBY)
        )

    def in_force(self, now: Now) -> bool:
        """Whether the handover's request may still be obeyed."""
        handover = self.handover
        return (
            handover.wanted is not None
            and bool(handover.request_id)
            and handover.request_id not in self.spent
            and handover.expires_boot_id == now.boot_id
            and now.boot_ms < handover.expires_boot_ms
        )

    def tick_key(self, view: InstanceView) -> str:
        """The timer of an instance's last tick. It begins anew with an epoch: a standby completes none, however long it waits."""
        epoch = self.newest.epoch if self.newest is not None and self.newest.instance == view.id else 0
        return f"tick:{view.id}:{epoch}:{view.document.last_tick if view.document is not None else 0}"

    def waited_ms(self, key: str, now: Now) -> int:
        """How long ago a timer's key was first seen; 0 for one that is not there."""
        return max(0, now.boot_ms - self.since_ms.get(key, now.boot_ms))


def timers(observed: Observed) -> frozenset[str]:
    """The keys of everything whose duration the rollout asks for. A duration begins anew with the deployer."""
    keys = {f"{'unit' if unit.running else 'ended'}:{unit.name}" for unit in observed.units}
    keys |= {f"stop:{unit.name}" for unit in observed.units if unit.running and unit.stopping}
    keys |= {f"retire:{instance_id}" for instance_id in observed.handover.retired}
    keys |= {f"silent:{unit.name}" for unit in observed.units if unit.running and observed.instance_of(unit) is None}
    if observed.holder is None or observed.blind or (observed.quiet_ms or 0) > 2 * observed.interval_ms:
        keys.add("nobody")
    for instance in observed.instances:
        if instance.alive and instance.document is not None:
            keys.add(observed.tick_key(instance))
            keys.add(f"{'healthy' if instance.document.healthy else 'unhealthy'}:{instance.id}")
    return frozenset(keys)


# --- actions


@dataclass(frozen=True, slots=True)
class Record:
    """Append a step to the history. words_of: a unit whose last log lines go with it."""

    deploy: str
    step: str
    text: str
    sha: str = ""
    by: str = ""
    request: str = ""
    instance: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    words_of: str = ""


def step_of(
    deploy: Deploy,
    step: str,
    text: str,
    *,
    request: str = "",
    instance: str = "",
    data: dict[str, Any] | None = None,
    words_of: str = "",
) -> Record:
    """The record of one step of a deploy."""
    return Record(deploy.id, step, text, deploy.sha, "", request, instance, coded(text, data), words_of)


def coded(text: str, data: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The data of a step, with the code of its text where that is a reason."""
    return {**(data or {}), **({"code": text.code} if isinstance(text, Reason) else {})}


@dataclass(frozen=True, slots=True)
class RemoveRequest:
    """Remove an answered request."""

    id: str


@dataclass(frozen=True, slots=True)
class Build:
    """Begin to build a commit. base: but not where it equals this one in all that counts; empty: build it in any case."""

    sha: str
    base: str = ""


@dataclass(frozen=True, slots=True)
class Compare:
    """Begin to compare what a commit would have decided with what the commit `by` did."""

    deploy: str
    sha: str
    by: str


@dataclass(frozen=True, slots=True)
class StartUnit:
    """Start a unit."""

    what: Start


@dataclass(frozen=True, slots=True)
class WriteHandover:
    """Replace the handover document."""

    handover: Handover


@dataclass(frozen=True, slots=True)
class StopUnit:
    """Ask a unit to end."""

    unit: str


@dataclass(frozen=True, slots=True)
class KillUnit:
    """End a unit at once; the reason is for the log."""

    unit: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class RemoveUnit:
    """Forget an ended unit."""

    unit: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove a dead instance's files."""

    instance: str


Action = (
    Record | RemoveRequest | Build | Compare | StartUnit | WriteHandover | StopUnit | KillUnit | RemoveUnit | Forget
)
Actions = tuple[Action, ...]
