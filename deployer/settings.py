"""The deployer's settings (prefix DEPLOYER_)."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus import Bus, make_private, read_small, write_atomically
from bus.main import loopback, url_host
from deployer.counted import DEFAULT, parse_patterns
from deployer.errors import StartError
from deployer.runtimes.api import Unit

OWN_COMMAND = "-m bot"


class DeployerSettings(BaseSettings):
    """Times are seconds.

    repository, branch: what is watched from the first start on (push.watched); the branch that is checked out when branch is
    empty. repository_name: how people call the repository, where it is mounted elsewhere. dir: the deployer's own state.
    command, check: arguments for Python that run a bot, and that only try whether it can be imported.
    python: run every commit with this interpreter instead of an environment made from its requirements.lock.
    confirm_polls: healthy active polls until the old commit is retired; 0 retires it at once. spares: warm standbys.
    runtime: what runs bots: process, or docker (in the deployer's own container alone). engine: the socket of its Engine.
    healthy_timeout: from start to the first healthy poll. stuck_after: a bot that shows no sign of life for so long is
    killed; with the kill it must stay under the venue's 10 s. keep: builds kept besides those in use.
    on_difference: a commit that would have decided otherwise is reported, or held until somebody approves; always: each commit is
    held, whatever its own code says that it would have decided (deployer.rollout.decision_gate).
    keys: "lease" hands the wallet's keys to whoever may trade, and to no candidate before (deployer.keys); "start" gives each bot
    their files at its start, for workers that know nothing else.
    bot_user: as processes, the uid that bots run as where root starts the deployer; 0 for the deployer's own.
    build_args: a file of lines NAME=VALUE for builds. build_secrets: a folder of one file a secret (deployer.runtimes.api).
    build_memory: MB of memory that one build may hold. build_size: MB of a commit's files, and of one file that a build writes.
    min_free: MB that shall be free on the disks of bus and builds; with less, old builds are removed and none is begun. 0: any.
    verify: "signed", or a command that a commit must pass before it is built (deployer.push.verify).
    signers: for "signed", the file that says whose signatures count (deployer.push.signatures). hooks: a folder of programs that
    run before and after steps (deployer.push.hooks). ignore: paths that do not count. A commit of the branch that
    differs from what runs in these alone replaces nobody (deployer.counted). Patterns, separated by commas; empty: all count.
    metrics_host, metrics_port: where /metrics is served; port 0 takes any. metrics_hosts: further host names of it, separated by
    commas. targets: the folder for Prometheus's file of bots; DIR/targets when unset. alertmanager: where
    `./ns test-alert` sends its alert.
    """

    model_config = SettingsConfigDict(env_prefix="DEPLOYER_")

    repository: Path = Path()
    repository_name: str = ""
    branch: str = ""
    dir: Path = Path(".run/deployer")
    runtime: Literal["process", "docker"] = "process"
    engine: str = "unix:///var/run/docker.sock"
    command: str = OWN_COMMAND
    check: str = "-m bot --version"
    python: Path | None = None
    confirm_polls: int = Field(default=3, ge=0, le=1000)
    spares: int = Field(default=1, ge=0, le=3)
    healthy_timeout: float = Field(default=120.0, gt=0, le=3600)
    stuck_after: float = Field(default=6.0, ge=2, le=8)
    keep: int = Field(default=5, ge=1, le=100)
    on_difference: Literal["report", "hold", "always"] = "report"
    bot_user: int = Field(default=0, ge=0, le=(1 << 31) - 1)
    keys: Literal["lease", "start"] = "lease"
    verify: str = ""
    signers: Path | None = None
    hooks: Path | None = None
    ignore: str = DEFAULT
    build_args: Path | None = None
    build_secrets: Path | None = None
    min_free: int = Field(default=1024, ge=0, le=1 << 20)
    build_memory: int = Field(default=2048, ge=128, le=1 << 20)
    build_size: int = Field(default=512, ge=1, le=1 << 20)
    build_limit: float = Field(default=600.0, gt=0, le=7200)
    metrics_host: str = Field(default_factory=loopback)
    metrics_hosts: str = ""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    targets: Path | None = None
    alertmanager: str = Field(default_factory=lambda: f"http://{url_host(loopback())}:9093")

    @field_validator("build_args", "build_secrets", "signers", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("ignore")
    @classmethod
    def _patterns(cls, value: str) -> str:
        parse_patterns(value)
        return value

    @field_validator("command", "check")
    @classmethod
    def _arguments(cls, value: str) -> str:
        if not shlex.split(value):
            raise ValueError("expected arguments for Python such as -m bot")
        return value


# A bus trades at one place: a copy of it beside the original would be two traders on one account.
#
# The file `home` on the bus says which file `lease` it was made with. That file is never removed or replaced, so its number on
# the file system is another one wherever the bus was copied to, restored, or moved over file systems.


NAME = "home"


def claim_home(bus: Bus) -> None:
    """Write it once; later see that it still holds. Raises StartError: this bus is a copy. OSError."""
    try:
        recorded = read_small(home_of(bus))
    except FileNotFoundError:
        recorded = ""
    if recorded and recorded != _here(bus):
        raise StartError(
            f"the bus {bus.directory} is a copy: it traded elsewhere before, and both would trade on one account; "
            "where the original has ended for good, say so: `./ns move`"
        )
    if not recorded:
        move_home(bus)


def move_home(bus: Bus) -> None:
    """From now on it trades here. Raises OSError."""
    write_atomically(home_of(bus), f"{_here(bus)}\n".encode(), durable=True)


def home_of(bus: Bus) -> Path:
    """The file."""
    return bus.directives / NAME


def _here(bus: Bus) -> str:
    return f"lease {bus.lease.lstat().st_ino}"


# What a running deployer says of itself in its own folder, for `./ns status`. Nothing else reads it.


_NAME = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """What is watched, what runs, what could be started, and what is wrong now (None when nothing is)."""

    pid: int
    repository: str
    branch: str
    tip: str | None
    runtime: str
    problem: str | None
    units: tuple[Unit, ...]
    built: tuple[str, ...] = ()


def write_state(folder: Path, state: State) -> None:
    """Raises OSError."""
    make_private(folder)
    write_atomically(folder / _NAME, json.dumps(asdict(state), indent=1).encode(), durable=False)


def read_state(folder: Path) -> State | None:
    """The newest state, or None when there is none that can be read."""
    try:
        state = json.loads((folder / _NAME).read_bytes())
        return State(
            **{**state, "units": tuple(Unit(**unit) for unit in state["units"]), "built": tuple(state.get("built", ()))}
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
