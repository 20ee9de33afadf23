"""The process runtime: one tree a commit, one environment a lock file, one process a bot.

State in DEPLOYER_DIR: `trees/`, `envs/` (builder), `units/` (spawn: labels, pid, life-long lock), `logs/UNIT.log`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bus import Bus, Clock, LedgerError, read_regular, write_atomically
from bus.inputs import copy_inputs
from deployer.errors import RuntimeFailedError
from deployer.keys import KEY_SETTINGS, SOCKET, folder_of, forget_folder, make_folder
from deployer.runtimes.api import COMPARE, COMPARE_LIMIT_S, MEMORY_BYTES, OneOff, Start, Unit
from deployer.runtimes.builder import Builder
from deployer.runtimes.children import WITHOUT_NETWORK, Children, Entry, as_user, last_lines, run_one_off

# A process that runs once for the deployer and tells something: bounded in time, in what it says, and gentle to the trader.


# Linux with autogroups: without it two sessions share a processor equally, whatever their nice values.


# The process runtime: one tree a commit, one environment a lock file, one process a bot.


KEEP_LOGS = 50
MOST_CREDENTIALS = 64 << 10
# The kernel refuses what goes beyond (RLIMIT_DATA, in KB), where it knows such a limit; the shell becomes the bot.
_LIMITED = ("/bin/sh", "-c", 'ulimit -d "$0" 2>/dev/null; exec "$@"', str(MEMORY_BYTES >> 10))
_PASSED_ON = ("BOT_", "BUS_")
_NEEDED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ProcessRuntime:
    """Runs bots as processes of this machine (see runtime.Runtime)."""

    name = "process"

    def __init__(
        self,
        builder: Builder,
        folder: Path,
        bus: Bus,
        clock: Clock,
        *,
        keep: int,
        environment: Mapping[str, str],
        keys: Path | None = None,
        user: int = 0,
    ) -> None:
        """environment: the deployer's own; what starts with BOT_ or BUS_ is passed on to the bots.

        keys: the folder of sockets, where keys are handed over. user: the uid that bots run as, which takes root; 0 for the
        deployer's own.
        """
        self._keys, self._user = keys, user
        self._builder, self._bus, self._clock, self._keep = builder, bus, clock, keep
        self._children = Children(folder / "units")
        self._folder, self._logs = folder, folder / "logs"
        self._environment = environment

    @property
    def builds_at(self) -> Path:
        """Where trees and environments are."""
        return self._folder

    async def watch(self, changed: Callable[[], None]) -> None:  # noqa: ARG002
        """Nothing tells: looking at processes costs next to nothing."""
        await asyncio.Event().wait()

    async def built(self) -> frozenset[str]:
        """The commits that can be started."""
        return self._builder.built()

    async def build(self, sha: str) -> tuple[str, ...]:
        """Make a commit ready. Raises BuildError."""
        return await self._builder.build(sha)

    async def comparable(self) -> frozenset[str]:
        """The commits that know the command `compare`."""
        return self._builder.comparable()

    async def compare(self, sha: str, by: str) -> OneOff:
        """In the commit's tree, on a bus of its own that has a copy of the recorded inputs and nothing else, without a network
        where the machine lets it. Raises RuntimeFailedError."""
        try:
            with tempfile.TemporaryDirectory(prefix="never-sleeps-compare-") as folder:
                copy = Path(folder) / self._bus.inputs.name
                await asyncio.to_thread(copy_inputs, self._bus.inputs, copy)
                if self._user:
                    for path in (Path(folder), copy):
                        os.chown(path, self._user, self._user)
                return await run_one_off(
                    [*WITHOUT_NETWORK, *as_user(self._user), *_LIMITED, *self._builder.command(sha), *COMPARE, by],
                    directory=self._builder.tree(sha),
                    environment={**self._settings(secrets=False), "BUS_DIR": folder},
                    limit_s=COMPARE_LIMIT_S,
                )
        except (LedgerError, OSError) as error:
            raise RuntimeFailedError(f"its inputs could not be copied: {error}") from error

    async def start(self, what: Start) -> str:
        """Start a bot in a session of its own; it survives the deployer. Raises RuntimeFailedError."""
        name = f"bot-{what.color}-{what.sha[:7]}-{secrets.token_hex(3)}"
        labels = {
            "sha": what.sha,
            "color": what.color,
            "deploy_id": what.deploy_id,
            "bus": str(self._bus.directory),
            "boot_id": self._clock.boot_id,
            "started_ms": self._clock.boot_ms(),
            "stopping": False,
        }
        try:
            environment = self._bot_environment(what, name)
            if self._keys is not None:
                place = make_folder(self._keys, name, (self._user, self._user) if self._user else None)
                self._pass_credentials(environment, place)
            self._children.start(
                name,
                [*as_user(self._user), *_LIMITED, *self._builder.command(what.sha)],
                environment=environment,
                directory=self._builder.tree(what.sha),
                log=self._logs / f"{name}.log",
                facts=labels,
            )
        except OSError as error:
            if self._keys is not None:
                forget_folder(self._keys, name)
            raise RuntimeFailedError(f"a bot of {what.sha[:7]} could not be started: {error}") from error
        return name

    def is_unit(self, name: str, pid: int) -> bool:
        """Whether a process that reached a unit's socket is the unit's."""
        return self._children.pid(name) == pid

    async def stop(self, unit: str) -> None:
        """SIGTERM; noted first, so that an end after it is never taken for a death."""
        for entry in self._children.entries():
            if entry.name == unit and not entry.facts.get("stopping"):
                self._children.remember(unit, {**entry.facts, "stopping": True})
        self._children.signal(unit, signal.SIGTERM)

    async def kill(self, unit: str) -> None:
        """SIGKILL; works on a paused process as well."""
        self._children.signal(unit, signal.SIGKILL)

    async def remove(self, unit: str) -> None:
        """Forget an ended unit. Raises RuntimeFailedError when it runs."""
        if self._children.is_running(unit):
            raise RuntimeFailedError(f"unit {unit} still runs; only an ended one can be removed")
        self._children.forget(unit)

    async def units(self) -> tuple[Unit, ...]:
        """All units of this bus, oldest first."""
        entries = [entry for entry in self._children.entries() if entry.facts.get("bus") == str(self._bus.directory)]
        units = []
        for entry in entries:
            if not entry.running and not self._children.has_run(entry.name):
                self._children.forget(entry.name)  # a deployer died before it could start this one
            else:
                units.append(self._unit(entry))
        return tuple(sorted(units, key=lambda unit: unit.started_ms))

    async def logs(self, unit: str, lines: int) -> str:
        """The last lines of a unit's log."""
        return last_lines(self._logs / f"{unit}.log", lines)

    async def prune(self, keep: frozenset[str], *, all_else: bool = False) -> None:
        """Remove old trees, environments and logs."""
        units = await self.units()
        in_use, newest = keep | {unit.sha for unit in units}, 0 if all_else else self._keep
        await asyncio.to_thread(self._prune, in_use, newest, {f"{unit.name}.log" for unit in units})

    def _prune(self, keep: frozenset[str], newest: int, shas: set[str]) -> None:
        self._builder.prune(keep, newest)
        if not self._logs.is_dir():
            return
        logs = sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for log in logs[:-KEEP_LOGS]:
            if log.name not in shas:
                log.unlink(missing_ok=True)

    def _unit(self, entry: Entry) -> Unit:
        facts = entry.facts
        # Boot times of an earlier run of the kernel do not compare: such a unit counts as old.
        started = facts.get("started_ms", 0) if facts.get("boot_id") == self._clock.boot_id else 0
        return Unit(
            name=entry.name,
            sha=str(facts.get("sha", "")),
            color=str(facts.get("color", "")),
            deploy_id=str(facts.get("deploy_id", "")),
            started_ms=int(started),
            running=entry.running,
            stopping=bool(facts.get("stopping")),
            ended="" if entry.running else _ending(self._children.exit_code(entry.name)),
        )

    def _bot_environment(self, what: Start, name: str) -> dict[str, str]:
        handed = {} if self._keys is None else {"BOT_KEY_SOCKET": str(folder_of(self._keys, name).absolute() / SOCKET)}
        return {
            **self._settings(secrets=True),
            **handed,
            **({"HOME": str(self._builder.tree(what.sha))} if self._user else {}),
            "BUS_DIR": str(self._bus.directory),
            "BOT_COLOR": what.color,
            "BOT_SHA": what.sha,
            "BOT_UNIT": name,
            "BOT_DEPLOY_ID": what.deploy_id,
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }

    def _pass_credentials(self, environment: dict[str, str], place: Path) -> None:
        """A copy that the bots' own user may read, where it is not the deployer's. Raises OSError."""
        given = environment.get("BOT_CREDENTIALS_FILE")
        if not self._user or not given or not Path(given).exists():
            return
        copy = place / "credentials"
        write_atomically(copy, read_regular(Path(given), MOST_CREDENTIALS), durable=False, mode=0o400)
        os.chown(copy, self._user, self._user)
        environment["BOT_CREDENTIALS_FILE"] = str(copy)

    def _settings(self, *, secrets: bool) -> dict[str, str]:
        """What of the deployer's own environment is passed on. secrets: the files that hold them are named, too.

        Those of the keys are not, where they are handed over; the credentials that lie beside the wallet's then are.
        """
        passed = {
            key: value for key, value in self._environment.items() if key.startswith(_PASSED_ON) or key in _NEEDED
        }
        if self._keys is not None:
            wallet = passed.get("BOT_KEY_FILE", "")
            passed = {key: value for key, value in passed.items() if key not in KEY_SETTINGS}
            if wallet and not passed.get("BOT_CREDENTIALS_FILE"):
                passed["BOT_CREDENTIALS_FILE"] = f"{wallet}.credentials"
        for key in [key for key in passed if key.startswith("BOT_") and key.endswith("_FILE")]:
            if not secrets:
                del passed[key]
            elif passed[key]:
                # The bot runs in its commit's tree: a file named relative to here must be found from there.
                passed[key] = str(Path(passed[key]).absolute())
        return passed


def _ending(code: int | None) -> str:
    """How a process ended; empty when another deployer had started it."""
    if code is None:
        return ""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
