"""The deployer's settings (prefix DEPLOYER_)."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus import Bus, make_private, read_named, read_small, write_atomically
from bus.main import loopback, url_host
from deployer.counted import DEFAULT, parse_patterns
from deployer.errors import StartError
from deployer.runtimes.api import Unit

OWN_COMMAND = "-m bot"


class DeployerSettings(BaseSettings):
    """Settings of the deployer. Times are seconds."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="DEPLOYER_")

    repository: Path = Path()
    """the git repository that is watched from the first start on; commits only, never the work tree"""
    repository_name: str = ""
    """how people call the repository, where it is mounted elsewhere"""
    branch: str = ""
    """the branch that is watched from the first start on; the one checked out there when unset"""
    dir: Path = Path(".run/deployer")
    """the deployer's own state: trees, envs, units, logs, services"""
    runtime: Literal["process", "docker"] = "process"
    """what runs bots: process, or docker (in the deployer's own container alone)"""
    engine: str = "unix:///var/run/docker.sock"
    """the socket of the Docker Engine"""
    command: str = OWN_COMMAND
    """arguments for Python that run a bot"""
    check: str = "-m bot --version"
    """arguments for Python that must succeed in a build"""
    python: Path | None = None
    """run every commit with this interpreter, instead of an environment made from its requirements.lock"""
    confirm_polls: int = Field(default=3, ge=0, le=1000)
    """healthy active polls until green is confirmed and blue retired; 0 confirms at the take"""
    spares: int = Field(default=1, ge=0, le=3)
    """warm standbys of the confirmed commit, against a crash"""
    healthy_timeout: float = Field(default=120.0, gt=0, le=3600)
    """seconds from green's start to its first healthy poll"""
    stuck_after: float = Field(default=6.0, ge=2, le=8)
    """a bot without a sign of life for so many seconds is killed and replaced; the venue's dead-man switch is at 10"""
    keep: int = Field(default=5, ge=1, le=100)
    """builds kept besides those that run and the one that rollback needs"""
    on_difference: Literal["report", "hold", "always"] = "report"
    """what becomes of a commit that would have decided otherwise than the one that trades: report shows it, hold waits for
    approve, always lets each commit wait (docs/how-to/compare.md)"""
    bot_user: int = Field(default=0, ge=0, le=(1 << 31) - 1)
    """as processes, where root starts it: the uid that bots run as. They reach neither tokens nor keys, and write no word of
    people or the deployer. 0 is the deployer's own"""
    keys: Literal["lease", "start"] = "lease"
    """lease hands the wallet's keys to whoever may trade, and to no candidate before; start gives each bot their files, for
    workers that know nothing else (docs/how-to/live.md)"""
    verify: str = ""
    """signed, or a command: what a commit must pass before anything of it is built (docs/how-to/builds.md)"""
    signers: Path | None = None
    """for signed: the file that says whose signatures count, an absolute path that no push can write to"""
    hooks: Path | None = None
    """a folder of programs that run before and after steps (docs/how-to/push.md)"""
    ignore: str = DEFAULT
    """paths that no bot reads, comma-separated: a commit that differs in these alone from what runs replaces nobody
    (docs/how-to/push.md). In a checkout of Never Sleeps the default leaves out its other rooms as well. Empty: all paths count"""
    build_args: Path | None = None
    """a file of lines NAME=VALUE that builds are given (docs/how-to/builds.md)"""
    build_secrets: Path | None = None
    """a folder of secrets for builds, one file each (docs/how-to/builds.md)"""
    min_free: int = Field(default=1024, ge=0, le=1 << 20)
    """MB that shall be free on the disks of the bus and of builds; with less, old builds and caches are removed, and where that
    does not help none is begun. 0: any"""
    build_memory: int = Field(default=2048, ge=128, le=1 << 20)
    """MB of memory for all that one build runs; more ends it. 256 processes at one time"""
    build_size: int = Field(default=512, ge=1, le=1 << 20)
    """MB of a commit's files, and of any one file that its build writes. 50,000 files"""
    build_limit: float = Field(default=600.0, gt=0, le=7200)
    """seconds for one build; a busy machine is no fault of a commit's (docs/how-to/builds.md)"""
    metrics_host: str = Field(default_factory=loopback)
    """address at which /metrics is served (docs/how-to/monitoring.md)"""
    metrics_hosts: str = ""
    """further host names by which /metrics is scraped, comma-separated"""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """port of /metrics; 0 takes any free one"""
    targets: Path | None = None
    """the folder of the file that tells Prometheus which bots there are; DEPLOYER_DIR/targets when unset"""
    alertmanager: str = Field(default_factory=lambda: f"http://{url_host(loopback())}:9093")
    """where test-alert goes"""

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
        state = json.loads(read_named(folder / _NAME))
        return State(
            **{**state, "units": tuple(Unit(**unit) for unit in state["units"]), "built": tuple(state.get("built", ()))}
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
