"""`up`: the main job as processes. Starts the services, shows who trades, and ends everything when it is asked to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bus import (
    Bus,
    Clock,
    DocumentError,
    FileLock,
    InstanceView,
    Role,
    is_locked,
    make_private,
    open_private,
    read_instances,
    read_named,
    read_status,
    read_steps,
)
from bus.main import control
from deployer.commands.services import ALL, DEPLOYER, PANEL, PAPER, Services, record_settings, service_environment
from deployer.deploys import fold
from deployer.errors import RepositoryError, StartError
from deployer.push.checkout import PUSH_CHANGES_FILES, takes_pushes
from deployer.push.repository import Repository
from deployer.push.watched import read_watched, refuse_another, repository_of
from deployer.runtimes.api import Runtime
from deployer.settings import DeployerSettings, read_state
from deployer.start import already_runs, make_runtime

# The standing services that `up` runs beside the bots: paper, panel and the deployer itself, as child processes.
#
# They live in sessions of their own, so that Ctrl-C in a terminal reaches only `up`, which ends bots first and them after.


# Ending everything: the deployer first, so that nobody starts bots again, then the bots, then the other services.


STOP_LIMIT_S = 15.0
KILL_LIMIT_S = 10.0
UP_LIMIT_S = 90.0
DEPLOYER_LIMIT_S = 15.0
ENDED_LOOK_EVERY_S = 0.05

Say = Callable[[str], None]


def up_lock(settings: DeployerSettings) -> Path:
    """Held by the one `up` of this folder; its pid is in the file `up.pid` beside."""
    return settings.dir / "up.lock"


def what_ends(bus: Bus) -> str | None:
    """What of the trader `down` ends, in a sentence for whoever asks for it; None where no bot lives. Raises OSError."""
    living = [view for view in read_instances(bus) if view.alive]
    if not living:
        return None
    bots = ", ".join(sorted(_called(view) for view in living))
    try:
        positions = len(read_status(bus).body.positions)
    except DocumentError:
        positions = 0
    positions_text = (
        f"; {positions} open positions are left to themselves until the next `make run`" if positions else ""
    )
    return f"this ends all trading on the bus {bus.directory}: the bots ({bots}), the deployer and the services{positions_text}"


def _called(view: InstanceView) -> str:
    document = view.document
    if document is None:
        return view.id
    return f"{document.color} {document.sha[:7]}{', which trades' if document.role is Role.ACTIVE else ''}"


def down(settings: DeployerSettings, bus: Bus, clock: Clock, say: Say) -> int:
    """End everything, whoever started it; 0 when nothing runs any more. Raises StartError."""
    if is_locked(up_lock(settings)):
        _end_up(settings, say)
    return end_everything(settings, bus, clock, say)


def end_everything(settings: DeployerSettings, bus: Bus, clock: Clock, say: Say) -> int:
    """Bots and services. Harmless when nothing runs."""
    services = Services(settings.dir, say)
    if services.end(DEPLOYER):
        say("ended the deployer")
    lock = _lock_deployer(settings, bus, say)
    try:
        runtime = make_runtime(settings, Repository(settings.repository), bus, clock, say)
        asyncio.run(_end_bots(runtime, say))
    finally:
        lock.unlock()
    for service in ALL:
        if services.end(service):
            say(f"ended {service.name}")
    left = [view.id for view in read_instances(bus) if view.alive]
    for instance_id in left:
        say(f"instance {instance_id} still lives; this deployer did not start it: end it yourself")
    return 1 if left else 0


async def _end_bots(runtime: Runtime, say: Say) -> None:
    """SIGTERM to all: each yields and ends. SIGKILL after a limit."""
    asked: set[str] = set()
    deadline = time.monotonic() + STOP_LIMIT_S
    while running := [unit.name for unit in await runtime.units() if unit.running]:
        late = time.monotonic() > deadline
        if time.monotonic() > deadline + KILL_LIMIT_S:
            raise StartError(f"{', '.join(running)} did not end though killed; is a disk hanging? try again")
        for name in running:
            if late:
                await runtime.kill(name)
            elif name not in asked:
                await runtime.stop(name)
            asked.add(name)
        await asyncio.sleep(ENDED_LOOK_EVERY_S)
    for name in sorted(asked):
        say(f"ended {name}")
    for unit in await runtime.units():
        await runtime.remove(unit.name)


def _lock_deployer(settings: DeployerSettings, bus: Bus, say: Say) -> FileLock:
    """Hold the deployers' lock; a deployer that was started by hand is ended for it."""
    lock = FileLock(bus.deployer_lock)
    deadline = time.monotonic() + DEPLOYER_LIMIT_S
    asked = False
    while not lock.try_lock():
        state = read_state(settings.dir)
        if not asked and state is not None and state.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(state.pid, signal.SIGTERM)
                say(f"ended the deployer (pid {state.pid})")
            asked = True
        if time.monotonic() > deadline:
            raise StartError(f"another deployer holds {bus.deployer_lock} and does not end; end it, then try again")
        time.sleep(ENDED_LOOK_EVERY_S)
    return lock


def _end_up(settings: DeployerSettings, say: Say) -> None:
    """Ask the `up` of another terminal to end everything, and wait for it."""
    try:
        pid = int(read_named(up_lock(settings).with_name("up.pid")))
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError) as error:
        raise StartError(
            f"`up` runs in {settings.dir}, but could not be asked to end ({error}); end it there"
        ) from error
    say(f"asked `up` (pid {pid}) to end everything")
    deadline = time.monotonic() + UP_LIMIT_S
    while is_locked(up_lock(settings)):
        if time.monotonic() > deadline:
            raise StartError(f"`up` (pid {pid}) did not end within {UP_LIMIT_S:g} s; end it, then try again")
        time.sleep(ENDED_LOOK_EVERY_S)


# `up`: the main job as processes. Starts the services, shows who trades, and ends everything when it is asked to.


LOOK_EVERY_S = 1.0
PLAIN_LINE_EVERY_S = 10.0
DETACHED_LINE_EVERY_S = 86_400.0  # its log is kept whole
DETACH_LIMIT_S = 200.0  # three services, each within READY_LIMIT_S
NEWEST_STEPS = 64 << 10  # bytes
ENDS_ALL = "; Ctrl-C ends everything"
LINK_LIMIT_S = 20.0


def detach(settings: DeployerSettings, *, fast: bool, mirror: bool, say: Say) -> int:
    """Begin `up` in a session of its own, which no terminal ends, and return once everything is ready. Raises StartError."""
    make_private(settings.dir)
    if is_locked(up_lock(settings)):
        raise _runs_already(settings)
    log, shown = settings.dir / "up.log", 0
    with os.fdopen(open_private(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as out:
        begun = subprocess.Popen(
            [sys.executable, "-m", "deployer", "up", "--detached", *_flags(fast=fast, mirror=mirror)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + DETACH_LIMIT_S
    while True:
        code = begun.poll()
        whole = log.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0].splitlines()
        for line in whole[shown:]:
            say(line.removesuffix(ENDS_ALL) if code is None else line)
            if line.endswith(ENDS_ALL):
                say("it goes on without a terminal; ./ns status, ./ns stop")
                return 0
        shown = len(whole)
        if code is not None:
            return code
        if time.monotonic() > deadline:
            raise StartError(f"it was not ready within {DETACH_LIMIT_S:g} s and goes on; see {log}")
        time.sleep(ENDED_LOOK_EVERY_S)


def _flags(**given: bool) -> list[str]:
    return [f"--{name}" for name, on in given.items() if on]


def _runs_already(settings: DeployerSettings) -> StartError:
    return StartError(
        f"`up` runs in {settings.dir} already; `./ns status` shows it, and its page (`./ns stop` would end the bots, too)"
    )


def _end_on_signals(stop: threading.Event) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end everything; under nohup, which ignores SIGHUP, a closed terminal does not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        signal.signal(number, lambda *_: stop.set())


def up(
    settings: DeployerSettings, bus: Bus, clock: Clock, *, fast: bool, mirror: bool = False, detached: bool = False
) -> int:
    """Run everything until SIGINT or SIGTERM; the exit code.

    mirror: on real prices, with play money. detached: it is written to a log for ever. Raises StartError.
    """
    refuse_another(settings, bus, read_watched(bus))  # before anything of a former `up` is touched
    screen = Screen(is_terminal=sys.stdout.isatty(), every_s=DETACHED_LINE_EVERY_S if detached else PLAIN_LINE_EVERY_S)
    make_private(settings.dir)
    lock = FileLock(up_lock(settings))
    if not lock.try_lock():
        raise _runs_already(settings)
    stop = threading.Event()
    _end_on_signals(stop)
    try:
        up_lock(settings).with_name("up.pid").write_text(str(os.getpid()))
        services = Services(settings.dir, screen.say)
        services.end(DEPLOYER)  # left behind by an `up` that was killed; it may have had other settings
        if is_locked(bus.deployer_lock):
            raise already_runs(settings, bus)
        trades_on = what_ends(bus) is not None  # of an `up` that was killed
        try:
            environment = service_environment(bus.directory, fast=fast, mirror=mirror)
            if environment.get("PAPER_MIRROR") and environment.get("BOT_VENUE", "paper") != "paper":
                venue = environment["BOT_VENUE"]
                raise StartError(
                    f"a mirror is for play money, and BOT_VENUE={venue} trades real money: give one of both"
                )
            record_settings(settings.dir.parent / "settings.env", environment)
            _start(services, environment, repository_of(settings, bus).path, screen.say, stop.is_set)
        except StartError as error:
            if trades_on:
                raise StartError(f"{error}; the bots that ran before trade on, and nothing was ended") from error
            screen.say("ending: bots first, then services")
            end_everything(settings, bus, clock, screen.say)
            raise
        problem = ""
        while not stop.wait(LOOK_EVERY_S):
            try:
                for service in (PAPER, PANEL, DEPLOYER):
                    services.restart_dead(service)
                screen.show(trading_line(bus, clock.wall_ms()))
                problem = ""
            except (StartError, OSError) as error:  # a full disk, no process left: no reason to end what trades
                if str(error) != problem:
                    screen.say(f"{error}; it is tried again, and the bots trade on")
                problem = str(error)
        screen.say("ending: bots first, then services")
        code = end_everything(settings, bus, clock, screen.say)
    finally:
        lock.unlock()
    return code


def _start(
    services: Services,
    environment: dict[str, str],
    repository: Path,
    say: Callable[[str], None],
    stopped: Callable[[], bool],
) -> None:
    paper = services.start(PAPER, environment, stopped)
    if paper:
        environment.setdefault("BOT_PAPER_URL", str(paper["url"]))
        say(f"paper exchange   {paper['url']}")
        panel = services.start(PANEL, environment, stopped)
        where = _link(environment, panel) or f"{panel.get('url')} (its token: {panel.get('token_file')})"
        say(f"control panel    {where}")
        with suppress(RepositoryError):  # the deployer says what is wrong with it
            if asyncio.run(takes_pushes(repository)):
                say(f"WARNING: {PUSH_CHANGES_FILES}")
        watching = services.start(DEPLOYER, environment, stopped)
        newest = (
            f" at {str(watching['sha'])[:7]}" if watching.get("sha") else f" once it can: {watching.get('problem')}"
        )
        say(f"deployer         watches {watching.get('branch')}{newest}{ENDS_ALL}")


def _link(environment: Mapping[str, str], panel: Mapping[str, Any]) -> str:
    """A link that opens the page once, for a terminal alone: what goes into a file is read by others. Else empty."""
    if not sys.stdout.isatty():
        return ""
    command = [sys.executable, "-m", "panel", "link", "--url", str(panel.get("url"))]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LINK_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f"{done.stdout.strip()}  (opens once, within ten minutes)" if done.returncode == 0 else ""


def trading_line(bus: Bus, now_ms: int) -> str:
    """Who trades, in one line; the deployer's reason where nobody does."""
    nobody = fold(read_steps(bus, NEWEST_STEPS)).nobody
    if nobody is not None:
        return f"nobody trades: {nobody.text}"
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

    def __init__(self, *, is_terminal: bool, every_s: float = PLAIN_LINE_EVERY_S) -> None:
        self._is_terminal, self._every_s = is_terminal, every_s
        self._live = False
        self._shown_s = -every_s
        self._who = ""

    def say(self, line: str) -> None:
        """A line that stays."""
        self._write(f"{line}\n", over=self._live)
        self._live = False

    def show(self, line: str) -> None:
        """The live line; without a terminal one line when somebody else trades, and now and then."""
        if self._is_terminal:
            try:
                width = os.get_terminal_size().columns
            except OSError:  # it is gone
                width = 120
            self._write(line[: width - 1], over=True)
            self._live = True
            return
        who = line.partition("  tick")[0].partition(";")[0]  # not the age of a status
        if who != self._who or time.monotonic() - self._shown_s >= self._every_s:
            self._who, self._shown_s = who, time.monotonic()
            self._write(f"{line}\n")

    def _write(self, text: str, *, over: bool = False) -> None:
        """over: in place of the live line."""
        try:
            if over:
                control("\r\033[K")
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:  # the terminal is gone (SIGHUP): ending everything goes on without it
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  kept open for the rest of the process
