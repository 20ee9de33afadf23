"""The deployer's metrics, served from its own event loop.

Counters and histograms begin at 0 with the process; what is known of the past (the newest deploys, the confirmed commit) is read
from the history and the ledger. Times are exported as timestamps. NaN: not known yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bus import VERSION, Bus, InstanceView, LedgerError, Log, Role, Step, read_named, write_atomically
from deployer.deploys import RESULTS, VERDICTS, Deploy, History
from deployer.disk import Space
from deployer.rollout.observed import Now, Observed, Policy
from ledger import Ledger
from ledger.base import Released

# How long nobody traded between two epochs, as the ledger tells.


Kind = Literal["handover", "stop", "death"]
KINDS: tuple[Kind, ...] = ("handover", "stop", "death")
MOST = 100


@dataclass(frozen=True, slots=True)
class LeaseGap:
    """Between the end of one epoch and the beginning of `epoch`.

    kind: handover, the former holder yielded; stop, it was stopped; death, it died (the gap counts from its last claim of a
    tick, so up to one interval too much). began_ms: UTC ms of the new epoch.
    """

    epoch: int
    kind: Kind
    seconds: float
    began_ms: int


def read_gaps(ledger: Ledger, after: int) -> list[LeaseGap]:
    """The gaps before the epochs later than `after`, oldest first, at most the newest MOST; none across a reboot.

    Raises LedgerError.
    """
    rows = ledger.execute(
        "SELECT e.epoch, e.wall_ms, e.boot_ms, r.boot_ms, r.reason, (SELECT c.boot_ms FROM polls_claimed c "
        "WHERE c.epoch = e.epoch - 1 ORDER BY c.tick DESC LIMIT 1) "
        "FROM epochs e JOIN epochs f ON f.epoch = e.epoch - 1 AND f.boot_id = e.boot_id "
        "LEFT JOIN releases r ON r.epoch = e.epoch - 1 WHERE e.epoch > ? ORDER BY e.epoch DESC LIMIT ?",
        (after, MOST),
    )
    gaps = []
    for epoch, wall_ms, boot_ms, released_ms, reason, claimed_ms in reversed(rows):
        from_ms = released_ms if released_ms is not None else claimed_ms
        if from_ms is None:
            continue  # the former epoch never polled
        kind: Kind = "death" if released_ms is None else "handover" if reason == Released.HANDOVER else "stop"
        seconds = max(0, int(str(boot_ms)) - int(str(from_ms))) / 1000
        gaps.append(LeaseGap(int(str(epoch)), kind, seconds, int(str(wall_ms))))
    return gaps


# Tells Prometheus which bots there are: a file of targets (file_sd), so that it needs no Engine's socket.
#
# A bot's `instance` label is its *place*: its color and a small number, such as green-1, and not its container's name. The next
# bot of that color goes on with the same series, so that series do not multiply with deploys.


FILE = "bots.json"
_ANY_ADDRESS = ("0.0.0.0", "::", "[::]")


@dataclass(frozen=True, slots=True)
class Target:
    """One bot: where its /metrics is, its color, its place."""

    address: str
    color: str
    place: str


def targets(instances: Iterable[InstanceView], before: Mapping[str, str]) -> tuple[Target, ...]:
    """The living instances as targets. before: places by address, as they were assigned. Pure.

    Who has a place keeps it; a new one gets the lowest number of its color that is free.
    """
    living = [
        (address, view.document.color)
        for view in instances
        if view.alive and view.document is not None and (address := address_of(view)) is not None
    ]
    taken = {before[address] for address, color in living if before.get(address, "").startswith(f"{color}-")}
    made = []
    for address, color in living:
        place = before.get(address, "")
        if not place.startswith(f"{color}-"):
            place = next(name for n in range(1, len(living) + 1) if (name := f"{color}-{n}") not in taken)
            taken.add(place)
        made.append(Target(address, color, place))
    return tuple(sorted(made, key=lambda target: target.place))


def address_of(view: InstanceView) -> str | None:
    """host:port of an instance's /metrics as others reach it; a container that listens everywhere is reached by its name."""
    document = view.document
    if document is None or not document.metrics:
        return None
    host, _, port = document.metrics.rpartition(":")
    return f"{document.unit}:{port}" if host in _ANY_ADDRESS and document.unit else document.metrics


class TargetsFile:
    """The file, written when something changed. What an earlier deployer wrote is gone on with."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._written = _read(self._path)

    def write(self, instances: Iterable[InstanceView]) -> tuple[Target, ...]:
        """Write the targets. Raises OSError."""
        before = {target.address: target.place for target in self._written}
        made = targets(instances, before)
        if made != self._written or not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Prometheus reads it as another user.
            write_atomically(self._path, _text(made).encode(), durable=False, mode=0o644)
            self._written = made
        return made


def _text(made: Iterable[Target]) -> str:
    groups = [
        {"targets": [target.address], "labels": {"instance": target.place, "color": target.color}} for target in made
    ]
    return json.dumps(groups, indent=1) + "\n"


def _read(path: Path) -> tuple[Target, ...]:
    try:
        return tuple(
            Target(str(group["targets"][0]), str(group["labels"]["color"]), str(group["labels"]["instance"]))
            for group in json.loads(read_named(path))
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return ()  # not there yet, or spoiled: everybody gets a place anew


# The deployer's metrics, served from its own event loop.


COLORS = ("blue", "green")
DISKS = ("bus", "builds")
UNIT_STATES = ("running", "stopping", "ended")
STEPS = (
    "building",
    "built",
    "started",
    "healthy",
    "handover",
    "taken",
    "confirmed",
    "retired",
    "taking-back",
    "taken-back",
)
_STEP = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_GAP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WRITE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
_UNKNOWN = float("nan")


class Metrics:
    """All metrics of one deployer."""

    def __init__(self, policy: Policy) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, text: str, *labels: str, unknown: bool = False) -> Gauge:
            made = Gauge(name, text, labels, registry=registry)
            if unknown:
                made.set(_UNKNOWN)
            return made

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        Info("deployer_build", "The version that runs.", registry=registry).info({"version": VERSION})
        self._looked = gauge("deployer_look_timestamp_seconds", "When it last looked at everything.", unknown=True)
        self._problem = gauge("deployer_problem", "1 while it cannot do its work; `./ns status` says why.")
        self._confirmed = gauge("deployer_confirmed_info", "1 for the commit that is confirmed.", "git_sha")
        self._confirmed_sha: str | None = None
        self._open = gauge("deployer_deploy_open", "1 while a deploy is under way.")
        self._deploys = Counter("deployer_deploys", "Deploys that ended.", ["result"], registry=registry)
        self._ended_at = gauge("deployer_deploy_timestamp_seconds", "When a deploy last ended so.", "result")
        self._steps = histogram("deployer_step_seconds", "From a deploy's step before to this one.", _STEP, "step")
        self._to_trading = histogram("deployer_deploy_to_trading_seconds", "From queued to the take.", _STEP)
        self._gaps = histogram(
            "deployer_handover_gap_seconds", "How long nobody held the lease between two epochs.", _GAP, "kind"
        )
        self._gap = gauge("deployer_last_gap_seconds", "The newest such gap of each kind.", "kind")
        self._gap_at = gauge("deployer_last_gap_timestamp_seconds", "When that epoch began.", "kind")
        self._intended = gauge("deployer_intended", "1 for the color that should hold the lease.", "color")
        self._units = gauge("deployer_units", "Units by state.", "state")
        self._roles = gauge("deployer_instances", "Living instances by role.", "role")
        self._spares = gauge("deployer_spares_wanted", "Warm standbys that are wanted (DEPLOYER_SPARES).")
        self._spares.set(policy.spares)
        self.deaths = Counter("deployer_unit_deaths", "Units that ended without being asked to.", registry=registry)
        self._free = gauge("deployer_disk_free_bytes", "What is left on the disk of the bus, and of builds.", "disk")
        self._low = gauge(
            "deployer_disk_low", "1 while a disk has less than DEPLOYER_MIN_FREE left: nothing is built.", "disk"
        )
        self.kills = Counter("deployer_unit_kills", "Units that were killed for being stuck.", registry=registry)
        self.bus_write = histogram("deployer_bus_write_seconds", "A durable write to the bus, fsync included.", _WRITE)
        self._epoch = gauge("deployer_epoch", "The newest epoch in the ledger.", unknown=True)
        self._read_upto: int | None = None
        for family, values in (
            (self._deploys, RESULTS),
            (self._steps, STEPS),
            (self._gaps, KINDS),
            (self._intended, COLORS),
            (self._units, UNIT_STATES),
            (self._roles, Role),
            (self._low, DISKS),
        ):
            for value in values:
                family.labels(str(value))
        for unknown, values in (
            (self._ended_at, RESULTS),
            (self._gap, KINDS),
            (self._gap_at, KINDS),
            (self._free, DISKS),
        ):
            for value in values:
                unknown.labels(value).set(_UNKNOWN)

    def begin(self, history: History) -> None:
        """What the history tells of the time before this process."""
        for deploy in history.deploys:
            if (end := deploy.ending) is not None:
                self._ended_at.labels(end.word).set(end.time_ms / 1000)

    def note_step(self, step: Step, deploy: Deploy | None) -> None:
        """A step was recorded. deploy: as it was before it; None when the step begins it."""
        if deploy is None:
            return
        if step.step in STEPS:
            self._steps.labels(step.step).observe(max(0, step.time_ms - deploy.newest.time_ms) / 1000)
        if step.step == "taken":
            self._to_trading.observe(max(0, step.time_ms - deploy.began_ms) / 1000)
        if step.step in VERDICTS:
            self._deploys.labels(step.word).inc()
            self._ended_at.labels(step.word).set(step.time_ms / 1000)

    def note_look(self, observed: Observed, now: Now, problem: str | None) -> None:
        """What was seen in one look."""
        self._looked.set(now.wall_ms / 1000)
        self._problem.set(problem is not None)
        self._open.set(observed.history.open is not None)
        if observed.confirmed_sha is not None and observed.confirmed_sha != self._confirmed_sha:
            self._confirmed.clear()
            self._confirmed.labels(observed.confirmed_sha).set(1)
            self._confirmed_sha = observed.confirmed_sha
        intended = intended_color(observed, now)
        for color in COLORS:
            self._intended.labels(color).set(color == intended)
        states = ["ended" if not u.running else "stopping" if u.stopping else "running" for u in observed.units]
        for state in UNIT_STATES:
            self._units.labels(state).set(states.count(state))
        roles = [s.document.role for s in observed.instances if s.alive and s.document is not None]
        for role in Role:
            self._roles.labels(str(role)).set(roles.count(role))
        if observed.newest is not None:
            self._epoch.set(observed.newest.epoch)

    def note_disks(self, spaces: Iterable[Space], wanted: int) -> None:
        """What was seen of the disks, and the bytes that shall be free."""
        for space in spaces:
            self._free.labels(space.name).set(_UNKNOWN if space.free is None else space.free)
            self._low.labels(space.name).set(space.free is not None and space.free < wanted)

    def note_problem(self) -> None:
        """A look or what followed from it failed."""
        self._problem.set(1)

    def read_gaps(self, bus: Bus, observed: Observed, log: Log) -> None:
        """Take over the gaps before the epochs that are new; of those before this process only the newest is shown."""
        if observed.newest is None or observed.newest.epoch == self._read_upto:
            return
        try:
            ledger = Ledger.reader(bus.ledger)
            if ledger is None:
                return
            with ledger:
                gaps = read_gaps(ledger, self._read_upto or 0)
        except LedgerError as error:
            log.warning("gaps_not_read", reason=str(error))
            return
        for gap in gaps:
            if self._read_upto is not None:
                self._gaps.labels(gap.kind).observe(gap.seconds)
            self._gap.labels(gap.kind).set(gap.seconds)
            self._gap_at.labels(gap.kind).set(gap.began_ms / 1000)
        self._read_upto = observed.newest.epoch

    def text(self) -> bytes:
        """Everything as Prometheus reads it."""
        return generate_latest(self.registry)


def intended_color(observed: Observed, now: Now) -> str | None:
    """The color that should hold the lease: of the one that is named, else of the holder, else of the confirmed commit."""
    documents = {s.id: s.document for s in observed.instances if s.alive and s.document is not None}
    if observed.in_force(now) and observed.handover.wanted in documents:
        return documents[observed.handover.wanted].color
    if observed.holder is not None and observed.holder.id in documents:
        return documents[observed.holder.id].color
    return next((d.color for d in documents.values() if d.sha == observed.confirmed_sha), None)
