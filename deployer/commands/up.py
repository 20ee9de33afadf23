"""`up`: the main job as processes. Starts the services, shows who trades, and ends everything when it is asked to."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bus import Bus, Clock, DocumentError, FileLock, is_locked, read_status
from deployer.down import end_everything, up_lock
from deployer.errors import StartError
from deployer.services import DEPLOYER, PANEL, PAPER, Services, service_environment
from deployer.settings import DeployerSettings
from deployer.start import already_runs

LOOK_EVERY_S = 1.0
PLAIN_LINE_EVERY_S = 10.0


def up(settings: DeployerSettings, bus: Bus, clock: Clock, *, fast: bool) -> int:
    """Run everything until SIGINT or SIGTERM; the exit code. Raises StartError."""
    screen = Screen(is_terminal=sys.stdout.isatty())
    settings.dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(up_lock(settings))
    if not lock.try_lock():
        raise StartError(
            f"`up` runs in {settings.dir} already; `make status` shows it, and its page (`make stop` would end the bots, too)"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        up_lock(settings).with_name("up.pid").write_text(str(os.getpid()))
        services = Services(settings.dir, screen.say)
        services.end(DEPLOYER)  # left behind by an `up` that was killed; it may have had other settings
        if is_locked(bus.deployer_lock):
            raise already_runs(settings, bus)
        try:
            _start(services, bus, screen.say, stop.is_set, fast=fast)
            while not stop.wait(LOOK_EVERY_S):
                for service in (PAPER, PANEL, DEPLOYER):
                    services.restart_dead(service)
                screen.show(trading_line(bus, clock.wall_ms()))
        finally:
            screen.say("ending: bots first, then services")
            code = end_everything(settings, bus, clock, screen.say)
    finally:
        lock.unlock()
    return code


def _start(
    services: Services, bus: Bus, say: Callable[[str], None], stopped: Callable[[], bool], *, fast: bool
) -> None:
    environment = service_environment(bus.directory, fast=fast)
    paper = services.start(PAPER, environment, stopped)
    if paper:
        environment.setdefault("BOT_PAPER_URL", str(paper["url"]))
        say(f"paper exchange   {paper['url']}")
        panel = services.start(PANEL, environment, stopped)
        where = panel.get("link") or f"{panel.get('url')} (its token: {panel.get('token_file')})"
        say(f"control panel    {where}")
        watching = services.start(DEPLOYER, environment, stopped)
        say(
            f"deployer         watches {watching.get('branch')} at {str(watching.get('sha'))[:7]}; Ctrl-C ends everything"
        )


def trading_line(bus: Bus, now_ms: int) -> str:
    """Who trades, in one line."""
    try:
        read = read_status(bus)
    except DocumentError:
        return "nobody trades yet"
    status, age_ms = read.body, now_ms - read.stamp.time_ms
    if age_ms > 5_000:
        return f"nobody trades; the last status is {age_ms / 1000:.0f} s old"
    tick = "none" if status.tick is None else datetime.fromtimestamp(status.tick / 1000, UTC).strftime("%H:%M:%S")
    totals = status.totals
    return (
        f"{status.color} {status.sha[:7]}  epoch {status.epoch}  tick {tick}  {totals.polls_completed} polls, "
        f"{totals.polls_missed} missed  {len(status.positions)} positions  PnL {totals.pnl:+.2f}  entries {status.entries}"
    )


class Screen:
    """Lines for people; on a terminal the last one is live."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._live = False
        self._shown_s = -PLAIN_LINE_EVERY_S
        self._who = ""

    def say(self, line: str) -> None:
        """A line that stays."""
        self._write(f"\r\033[K{line}\n" if self._live else f"{line}\n")
        self._live = False

    def show(self, line: str) -> None:
        """The live line; without a terminal one line when somebody else trades, and now and then."""
        if self._is_terminal:
            width = os.get_terminal_size().columns if sys.stdout.isatty() else 120
            self._write(f"\r\033[K{line[: width - 1]}")
            self._live = True
            return
        who = line.partition("  tick")[0].partition(";")[0]  # not the age of a status
        if who != self._who or time.monotonic() - self._shown_s >= PLAIN_LINE_EVERY_S:
            self._who, self._shown_s = who, time.monotonic()
            self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:  # the terminal is gone (SIGHUP): ending everything goes on without it
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  kept open for the rest of the process
