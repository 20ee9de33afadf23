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

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bus import read_named
from bus.logs import Secrets
from deployer.errors import BuildError, StartError

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

    async def build(self, sha: str) -> tuple[str, ...]:
        """Make a commit ready to start; quick when it is. Cancelling it ends what it runs.

        Returns lines about what the commit names and does not bring. Raises BuildError.
        """

    async def comparable(self) -> frozenset[str]:
        """Those of the last answer of `built` whose worker declares that it knows `compare` (docs/reference/contract.md)."""

    async def compare(self, sha: str, by: str) -> OneOff:
        """Ask a comparable commit what it would have decided where the commit `by` did; it can write to no bus.

        At most COMPARE_LIMIT_S, gently; nothing of it is left when this ends or is cancelled. Raises RuntimeFailedError.
        """

    def is_unit(self, name: str, pid: int) -> bool:
        """Whether a process that reached the socket of a unit (deployer.keys) is the unit's. pid: 0 for one in a container."""

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


# DEPLOYER_BUILD_ARGS and DEPLOYER_BUILD_SECRETS: what a build is given beside the commit.
#
# Arguments are a file of lines NAME=VALUE. They are no secrets: an image's history shows them. Secrets are a folder, one file
# each, whose name is the secret's id. They reach a build as files alone and nothing of them is ever in an image, a process
# list, a log or the history; should a build print one, `redact` blackens it. Both are read anew for every build.


MAX_ARGUMENTS = 100
MAX_BYTES = 500_000  # BuildKit's own limit for a secret
# Commands of a build find the folder of secrets under this name, where the runtime is process.
FOLDER = "BUILD_SECRETS"
MIN_WORD, MOST_SPELT = 6, 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# The builder's own client would be misled by these.
_RESERVED = re.compile(r"PATH|HOME|LD_.*|DOCKER_.*|BUILDX_.*|GIT_.*|" + FOLDER)


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What was read. secrets: the file of each id; words: what must never be shown."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def redact(self, text: str) -> str:
        """The text without a secret's lines and words of MIN_WORD characters or more; also such as are none elsewhere.

        The longest are starred in any spelling.
        """
        spelt = Secrets()
        spelt.add(*self.words[:MOST_SPELT])
        text = spelt.star(text)
        for word in self.words:
            text = text.replace(word, "***")
        return text


def read_build_inputs(arguments: Path | None, secrets: Path | None) -> BuildInputs:
    """Raises StartError: what was expected of the file, the folder or one of its files, and was found instead."""
    files = _secrets(secrets) if secrets is not None else {}
    words: set[str] = set()
    for path in files.values():
        text = read_named(path).decode("utf-8", "replace")
        words |= {word for part in text.splitlines() for word in (part.strip(), *part.split()) if len(word) >= MIN_WORD}
    # The longest first: a line before the words in it.
    ordered = tuple(sorted(words, key=len, reverse=True))
    return BuildInputs(_arguments(arguments) if arguments is not None else {}, files, ordered)


def _arguments(path: Path) -> dict[str, str]:
    try:
        lines = read_named(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"DEPLOYER_BUILD_ARGS={path} cannot be read ({error}); name a file of lines NAME=VALUE"
        ) from error
    arguments: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise StartError(f"DEPLOYER_BUILD_ARGS={path}: expected NAME=VALUE in line {number}; correct it")
        if _RESERVED.fullmatch(name):
            raise StartError(f"DEPLOYER_BUILD_ARGS={path}: {name} belongs to the builder itself; choose another name")
        arguments[name] = value
    if len(arguments) > MAX_ARGUMENTS:
        raise StartError(
            f"DEPLOYER_BUILD_ARGS={path}: expected at most {MAX_ARGUMENTS} arguments, found {len(arguments)}"
        )
    return arguments


def _secrets(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(path for path in folder.absolute().iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise StartError(
            f"DEPLOYER_BUILD_SECRETS={folder} cannot be read ({error.strerror}); name a folder of one file a secret"
        ) from error
    for path in paths:
        found = path.stat()
        named = f"the secret {path.name} in DEPLOYER_BUILD_SECRETS"
        if not _ID.fullmatch(path.name) or not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise StartError(
                f"{named}: expected a file of at most {MAX_BYTES // 1000} KB whose name is letters, digits, _ . -; remove it"
            )
        if found.st_mode & 0o077:
            raise StartError(
                f"{named}: expected mode 0400 or 0600, found {stat.S_IMODE(found.st_mode):04o}; chmod 600 it"
            )
        if not os.access(path, os.R_OK):
            raise StartError(
                f"{named}: user {os.geteuid()} cannot read it; chown it to that user, which the deployer runs as"
            )
    return {path.name: path for path in paths}
