"""The standing services that `up` runs beside the bots: paper, panel and the deployer itself, as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus import open_named, write_atomically
from deployer.errors import StartError
from deployer.runtimes.children import Children, last_lines

READY_LIMIT_S = 60.0
END_LIMIT_S = 10.0
BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
RECENT_S = 300.0
MAX_LOG_READ = 1 << 20
SERVICE_LOOK_EVERY_S = 0.05
_SETTING = re.compile(r"(BOT|BUS|PAPER|PANEL|DEPLOYER)_[A-Z_]+")


@dataclass(frozen=True, slots=True)
class Service:
    """One service: `python -m MODULE`, and the event of the log line that says that it is ready."""

    name: str
    arguments: tuple[str, ...]
    ready: str


PAPER = Service("paper", ("-m", "paper"), "listening")
PANEL = Service("panel", ("-m", "panel"), "listening")
DEPLOYER = Service("deployer", ("-m", "deployer", "run"), "watching")
ALL = (DEPLOYER, PANEL, PAPER)  # in the order in which they are ended


class Services:
    """Starts, watches and ends them."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder.absolute() / "services"
        self._children = Children(self._folder)
        self._say = say
        self._environment: dict[str, Mapping[str, str]] = {}
        self._deaths: dict[str, list[float]] = {}

    def log(self, service: Service) -> Path:
        """Where its output goes."""
        return self._folder / f"{service.name}.log"

    def start(self, service: Service, environment: Mapping[str, str], stopped: Callable[[], bool]) -> dict[str, Any]:
        """Start it and wait until it is ready; returns its line that says so. Raises StartError with its own words.

        One that an `up` left behind when it was killed is kept: the bots that still run depend on it.
        """
        self._environment[service.name] = environment
        log = self.log(service)
        if not self.is_running(service):
            self._spawn(service)
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline and not stopped():
            running = self._children.is_running(service.name)
            line = _event(log, service.ready)
            if line is not None:
                return line
            if not running:
                word = _last_word(log).removeprefix("deployer: ")
                raise StartError(word or f"{service.name} ended at its start; see {log}")
            time.sleep(SERVICE_LOOK_EVERY_S)
        if stopped():
            return {}
        raise StartError(f"{service.name} was not ready within {READY_LIMIT_S:g} s; see {log}")

    def restart_dead(self, service: Service) -> None:
        """Start it again if it died, later and later when it keeps dying."""
        if self._children.is_running(service.name):
            return
        now = time.monotonic()
        deaths = [moment for moment in self._deaths.get(service.name, []) if now - moment < RECENT_S]
        if deaths and now - deaths[-1] < BACKOFF_S[min(len(deaths), len(BACKOFF_S) - 1)]:
            return
        self._deaths[service.name] = [*deaths, now]
        self._say(f"{service.name} ended and is started again; see {self.log(service)}")
        self._spawn(service)

    def end(self, service: Service) -> bool:
        """SIGTERM, SIGKILL after a limit; whether it ran."""
        name = service.name
        ran = self._children.signal(name, signal.SIGTERM)
        deadline = time.monotonic() + END_LIMIT_S
        while self._children.is_running(name):
            if time.monotonic() > deadline:
                self._children.signal(name, signal.SIGKILL)
            time.sleep(SERVICE_LOOK_EVERY_S)
        self._children.exit_code(name)  # reaps it
        return ran

    def is_running(self, service: Service) -> bool:
        """Whether it lives."""
        return self._children.is_running(service.name)

    def _spawn(self, service: Service) -> None:
        log = self.log(service)
        try:
            if log.exists():  # each run has a log of its own; one former is kept
                log.replace(log.with_suffix(".log.old"))
            self._children.start(
                service.name,
                [sys.executable, *service.arguments],
                environment=self._environment[service.name],
                directory=Path.cwd(),
                log=log,
                facts={},
            )
        except OSError as error:
            raise StartError(f"{service.name} could not be started: {error}") from error


def service_environment(bus_directory: Path, *, fast: bool, mirror: bool = False) -> dict[str, str]:
    """What every service gets: this process's environment, the bus, short windows and polls when fast; mirror: real prices."""
    environment = {**os.environ, "BUS_DIR": str(bus_directory), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    if fast:
        for name, value in (
            ("BOT_POLL_INTERVAL", "1"),
            ("BOT_TIMEFRAMES", "30s,90s"),
            ("PAPER_TIMEFRAMES", "30s,90s"),
            # Sixteen windows begin at once, and all must be looked up before a just started bot has its third poll.
            ("BOT_REQUESTS_PER_SECOND", "15"),
        ):
            environment.setdefault(name, value)
    if mirror and not environment.get("PAPER_RECORDING"):
        environment.setdefault("PAPER_MIRROR", "real")
    if environment.get("PAPER_MIRROR") or environment.get("PAPER_RECORDING"):
        environment.setdefault("PANEL_BANNER", "real prices, play money")
    if environment.get("PAPER_MIRROR"):
        environment.setdefault("PAPER_RECORD_TO", ".run/recordings")
    return environment


def record_settings(file: Path, environment: Mapping[str, str]) -> None:
    """What this run was started with, NAME=VALUE a line; `ns config` compares with it. Raises OSError."""
    lines = [
        f"{name}={value}\n"
        for name, value in sorted(environment.items())
        if _SETTING.fullmatch(name) and "\n" not in value
    ]
    write_atomically(file, "".join(lines).encode("utf-8", "surrogateescape"), durable=False, mode=0o600)


def _event(log: Path, event: str) -> dict[str, Any] | None:
    for line in _lines(log):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == event:
            return entry
    return None


def _last_word(log: Path) -> str:
    """The service's own last line for people; its JSON log lines are not."""
    plain = [line for line in _lines(log) if line and not line.startswith("{")]
    return plain[-1] if plain else last_lines(log, 1)


def _lines(log: Path) -> list[str]:
    try:
        with open_named(log) as file:
            return file.read(MAX_LOG_READ).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
