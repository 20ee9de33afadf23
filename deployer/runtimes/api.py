"""What runs bots: the protocol that the process runtime and the docker runtime keep.

A *unit* is what one runtime runs one bot in: a process, a container. Its labels are given at its start and never change;
with the runtime's word on whether it runs they are all that the deployer needs to carry on after its own death.
The role of the bot inside is no label: the bus tells it.

Rules for every runtime:
- `start` makes the unit findable by `units` before the bot can run. SIGKILL of the deployer at any point inside `start`
  leaves either a unit that is listed, or nothing that runs.
- Units outlive the deployer.
- `stop` and `kill` return as soon as the unit was asked; `units` tells when it ended. Both are harmless on one that ended.
- Every call is bounded in time and raises RuntimeFailedError (or BuildError) with one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deployer.errors import BuildError

# For one comparison of decisions: an hour on record takes 6 s of a processor that nobody else uses.
COMPARE_LIMIT_S = 60.0
COMPARE = ("compare", "--json", "--by")  # and the sha of the commit whose decisions are on record
# What one bot may have of memory, whatever runs it: ten times of what it needs. One that eats more dies, and nobody beside it.
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Start:
    """What to start: the labels of a unit before it has a name."""

    sha: str
    color: str
    deploy_id: str


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as the runtime sees it.

    started_ms: CLOCK_BOOTTIME in ms. running: it has not ended. stopping: `stop` was asked for, by this deployer or an
    earlier one; an ended unit with stopping=False died by itself or was killed. ended: how, as far as the runtime can tell.
    """

    name: str
    sha: str
    color: str
    deploy_id: str
    started_ms: int
    running: bool
    stopping: bool
    ended: str = ""


@dataclass(frozen=True, slots=True)
class OneOff:
    """How a process that ran once ended, and what it wrote to its two streams."""

    code: int
    out: str
    errors: str


class Runtime(Protocol):
    """Builds commits and runs units."""

    @property
    def name(self) -> str:
        """What the bus's file `runtime` says: process or docker."""

    @property
    def builds_at(self) -> Path:
        """A folder on the disk that builds lie on, as this process sees it."""

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` as soon as the runtime tells that a unit began or ended; a hint, until cancelled."""

    async def built(self) -> frozenset[str]:
        """The commits (full shas) that can be started right now."""

    async def build(self, sha: str) -> None:
        """Make a commit ready to start; quick when it is. Cancelling it ends what it runs. Raises BuildError."""

    async def comparable(self) -> frozenset[str]:
        """Those of the last answer of `built` whose worker declares that it knows `compare` (docs/contract.md)."""

    async def compare(self, sha: str, by: str) -> OneOff:
        """Ask a comparable commit what it would have decided where the commit `by` did; it can write to no bus.

        At most COMPARE_LIMIT_S, gently; nothing of it is left when this ends or is cancelled. Raises RuntimeFailedError.
        """

    async def start(self, what: Start) -> str:
        """Start a unit of a built commit and return its name; it is also the bot's BOT_UNIT."""

    async def stop(self, unit: str) -> None:
        """Ask the bot to yield and end (SIGTERM), and never restart it."""

    async def kill(self, unit: str) -> None:
        """End it at once (SIGKILL), a paused one too."""

    async def remove(self, unit: str) -> None:
        """Forget a unit that ended; its log is kept for a while."""

    async def units(self) -> tuple[Unit, ...]:
        """All units of this bus, oldest first; ended ones until they are removed."""

    async def logs(self, unit: str, lines: int) -> str:
        """The last lines that a unit wrote; empty when there are none."""

    async def prune(self, keep: frozenset[str], *, all_else: bool = False) -> None:
        """Remove old builds and logs: keep these commits, what runs, and the newest few. all_else: not those, nor caches."""


__all__ = ["COMPARE", "COMPARE_LIMIT_S", "MEMORY_BYTES", "BuildError", "OneOff", "Runtime", "Start", "Unit"]
