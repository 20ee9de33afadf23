"""What a deployer is made of, by what it is for."""

from __future__ import annotations

from dataclasses import dataclass

from bus import Log
from deployer.disk import Disks
from deployer.keys import KeyRing
from deployer.metrics import Metrics, TargetsFile
from deployer.push.branch import BranchWatch
from deployer.push.hooks import Hooks
from deployer.push.log import PushLog
from deployer.push.repository import Repository
from deployer.push.unchanged import Unchanged
from deployer.push.verify import Verify
from deployer.runtimes.api import Runtime


@dataclass(frozen=True, slots=True)
class Pushes:
    """Where commits come from, and what is asked about them before they are built."""

    repository: Repository
    branch: BranchWatch
    log: PushLog
    """what pushers are shown"""
    verify: Verify
    unchanged: Unchanged


@dataclass(frozen=True, slots=True)
class Machine:
    """Where bots are built and run."""

    runtime: Runtime
    disks: Disks
    keys: KeyRing
    hooks: Hooks


@dataclass(frozen=True, slots=True)
class Shown:
    """What people and Prometheus are told."""

    log: Log
    metrics: Metrics
    targets: TargetsFile
