"""Ending everything: the deployer first, so that nobody starts bots again, then the bots, then the other services."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bus import Bus, Clock, DocumentError, FileLock, Role, Seen, is_locked, read_instances, read_status
from deployer.errors import StartError
from deployer.push.repository import Repository
from deployer.runtimes.api import Runtime
from deployer.services import ALL, DEPLOYER, Services
from deployer.settings import DeployerSettings
from deployer.start import make_runtime
from deployer.state import read_state

STOP_LIMIT_S = 15.0
KILL_LIMIT_S = 10.0
UP_LIMIT_S = 90.0
DEPLOYER_LIMIT_S = 15.0
LOOK_EVERY_S = 0.05

Say = Callable[[str], None]


def up_lock(settings: DeployerSettings) -> Path:
    """Held by the one `up` of this folder; its pid is in the file `up.pid` beside."""
    return settings.dir / "up.lock"


def what_ends(bus: Bus) -> str | None:
    """What of the trader `down` ends, in a sentence for whoever asks for it; None where no bot lives. Raises OSError."""
    living = [seen for seen in read_instances(bus) if seen.alive]
    if not living:
        return None
    bots = ", ".join(sorted(_called(seen) for seen in living))
    try:
        positions = len(read_status(bus).body.positions)
    except DocumentError:
        positions = 0
    kept = f"; {positions} open positions are left to themselves until the next `make run`" if positions else ""
    return f"this ends all trading on the bus {bus.directory}: the bots ({bots}), the deployer and the services{kept}"


def _called(seen: Seen) -> str:
    document = seen.document
    if document is None:
        return seen.id
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
    left = [seen.id for seen in read_instances(bus) if seen.alive]
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
        await asyncio.sleep(LOOK_EVERY_S)
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
        time.sleep(LOOK_EVERY_S)
    return lock


def _end_up(settings: DeployerSettings, say: Say) -> None:
    """Ask the `up` of another terminal to end everything, and wait for it."""
    try:
        pid = int(up_lock(settings).with_name("up.pid").read_text())
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
        time.sleep(LOOK_EVERY_S)
