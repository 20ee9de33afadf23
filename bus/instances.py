"""Instances: who is alive is the kernel's word, what an instance says of itself is its document.

An id is one process start. Its lock file is locked for the process's whole life.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from bus import documents
from bus.clock import Clock
from bus.documents import Document, Stamp, open_regular
from bus.errors import BusError, DocumentError
from bus.layout import Bus
from bus.lease import is_locked

_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[a-z]+-[0-9a-z]{1,12}-[0-9a-f]{6}")


class Role(StrEnum):
    """What an instance does now (design section 5)."""

    WARMING = "warming"
    STANDBY = "standby"
    ACTIVE = "active"
    YIELDING = "yielding"
    RETIRED = "retired"
    STOPPED = "stopped"


class Instance(Document):
    """What one instance says of itself.

    unit: the runtime's name for what runs it (a container, a process). sha: git commit. last_tick: of its last poll.
    active_healthy, active_unhealthy: active polls in a row that were healthy, or were not, since it took the lease.
    why_not_code: the code of why_not, empty where it is healthy, or of a release before.
    waits_for_venue: not healthy, and only for want of the venue's answers.
    in_snipe: a snipe window of some slot is open. metrics: host:port of its /metrics.
    orders_sent, orders_refused: since it took the lease last, and of them those that were refused for what they were.
    """

    KIND: ClassVar[str] = "instance"
    MINOR: ClassVar[int] = 1

    id: str
    role: Role
    color: str
    sha: str
    unit: str = ""
    deploy_id: str = ""
    pid: int = 0
    started_ms: int = 0
    boot_ms: int = 0
    polls: int = 0
    healthy: bool = False
    why_not: str | None = None
    why_not_code: str = ""
    waits_for_venue: bool = False
    last_tick: int | None = None
    epoch: int | None = None
    active_healthy: int = 0
    active_unhealthy: int = 0
    in_snipe: bool = False
    metrics: str = ""
    orders_sent: int = 0
    orders_refused: int = 0


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as others see it: whether its lock is held, its document if it can be read, the document's sequence."""

    id: str
    alive: bool
    document: Instance | None
    sequence: int


class InstanceFile:
    """The instance's own side: takes the lock for life, writes the document.

    Not thread-safe. Close it last, so that nobody takes this process for dead while it still does something.
    """

    def __init__(self, bus: Bus, clock: Clock, instance: Instance) -> None:
        if not _ID.fullmatch(instance.id):
            raise BusError(f"expected an instance id made by new_id, found {instance.id!r}")
        self._bus, self._clock = bus, clock
        self._sequence = 0
        self.document = instance
        self._descriptor = _born_locked(bus.instances / f"{instance.id}.lock")

    def write(self, instance: Instance) -> None:
        """Publish a new state under the next sequence number. Raises OSError."""
        self._sequence += 1
        self.document = instance.model_copy(update={"boot_ms": self._clock.boot_ms()})
        stamp = Stamp(instance.id, self._sequence, self._clock.wall_ms(), instance.epoch)
        documents.write(self._bus.instances / f"{instance.id}.json", self.document, stamp, durable=False)

    def close(self) -> None:
        """Free the lock: this instance counts as dead from now on."""
        os.close(self._descriptor)


def new_id(clock: Clock, color: str, sha: str) -> str:
    """A fresh instance id: start time, color, short sha, random."""
    start = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    short = re.sub(r"[^0-9a-z]", "", sha.lower())[:7]
    return f"{start}-{color}-{short or 'none'}-{secrets.token_hex(3)}"


def read_instances(bus: Bus) -> list[InstanceView]:
    """All instances, dead ones included, oldest id first. Raises OSError when the folder cannot be read."""
    ids = sorted(path.stem for path in bus.instances.iterdir() if path.suffix == ".lock" and _ID.fullmatch(path.stem))
    return [seen for instance_id in ids if (seen := _look_unless_planted(bus, instance_id)) is not None]


def is_alive(bus: Bus, instance_id: str) -> bool:
    """Whether the instance's process lives. Raises OSError."""
    return _ID.fullmatch(instance_id) is not None and is_locked(bus.instances / f"{instance_id}.lock")


def read_instance(bus: Bus, instance_id: str) -> InstanceView:
    """One instance. Raises OSError."""
    if not _ID.fullmatch(instance_id):
        return InstanceView(instance_id, alive=False, document=None, sequence=0)
    return _look(bus, instance_id)


def forget_instance(bus: Bus, instance_id: str) -> None:
    """Remove a dead instance's files. Raises BusError when it lives."""
    if is_alive(bus, instance_id):
        raise BusError(f"instance {instance_id} is alive; only a dead one can be forgotten")
    if not _ID.fullmatch(instance_id):
        return
    # The lock last: while it is there, what is left is still listed. A killed writer leaves its temporary file.
    for pattern in (f".{instance_id}.*.tmp", f"{instance_id}.json", f"{instance_id}.lock"):
        for path in bus.instances.glob(pattern):
            path.unlink(missing_ok=True)


def _born_locked(path: Path) -> int:
    """Make a lock file that is locked before it has its name: nobody ever sees it unlocked while its process lives."""
    unnamed = path.with_name(f".{path.name}.tmp")
    descriptor = open_regular(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.hardlink_to(unnamed)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        unnamed.unlink()
    return descriptor


def _look_unless_planted(bus: Bus, instance_id: str) -> InstanceView | None:
    """None where the lock is no file of an instance, such as a link: it speaks for nobody and hides nobody else."""
    try:
        return _look(bus, instance_id)
    except PermissionError:  # what `open_regular` refuses, or a file that its owner closed
        (bus.instances / f"{instance_id}.lock").lstat()  # raises where the whole bus cannot be read
        return None


def _look(bus: Bus, instance_id: str) -> InstanceView:
    alive = is_locked(bus.instances / f"{instance_id}.lock")
    try:
        read = documents.read(bus.instances / f"{instance_id}.json", Instance)
    except DocumentError:
        return InstanceView(instance_id, alive, None, 0)
    return InstanceView(instance_id, alive, read.body, read.stamp.sequence)
