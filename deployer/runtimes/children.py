"""Child processes that outlive their parent and are found again by the next one.

Each has a folder entry of three files: NAME.lock, locked by the child for its whole life (the kernel's word on whether it
runs: a reused pid can never be taken for it), NAME.pid, and NAME.json with what the caller wants to remember of it.
The child inherits the locked descriptor, so there is no moment at which it runs and does not hold the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bus import is_locked, make_private, open_named, open_private, read_named, write_atomically
from deployer.errors import RuntimeFailedError
from deployer.runtimes.api import OneOff

# A process that runs once for the deployer and tells something: bounded in time, in what it says, and gentle to the trader.

MAX_BYTES = 4 << 20


KILL_AFTER_S = 5.0


_LAST_OF_SESSIONS = '[ ! -w "/proc/$$/autogroup" ] || echo 19 >"/proc/$$/autogroup"; exec "$@"'


async def run_one_off(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str], limit_s: float
) -> OneOff:
    """Run it to its end, with all that it starts. Raises RuntimeFailedError: it cannot be run, or is too slow."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):  # no pipe: what lives on must not hold this up
        try:
            process = await asyncio.create_subprocess_exec(
                *_bounded(gently(command), limit_s),
                cwd=directory,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeFailedError(f"{command[0]} could not be run: {error}") from error
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
        except TimeoutError as error:
            raise RuntimeFailedError(f"it did not end within {limit_s:g} s") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return OneOff(code, _read(out), _read(errors))


def gently(command: Sequence[str]) -> list[str]:
    """The command at the lowest priority for processor and disk, where the machine has the programs for it.

    For a process in a session of its own, which it must be: that is what the kernel's autogroups weigh, and `nice` counts inside
    of one alone.
    """
    gentle = ["/bin/sh", "-c", _LAST_OF_SESSIONS, "sh"]
    gentle += ["nice", "-n", "19"] if shutil.which("nice") else []
    if shutil.which("ionice"):
        gentle += ["ionice", "-c", "3"]
    return [*gentle, *command]


# The program in a network of its own, which has none but itself: as root, or in a user namespace where the kernel grants one.
_UNSHARED = """
if unshare --net true 2>/dev/null; then exec unshare --net "$@"; fi
if unshare --user --map-root-user --net true 2>/dev/null; then exec unshare --user --map-root-user --net "$@"; fi
exec "$@"
"""
WITHOUT_NETWORK = ("/bin/sh", "-c", _UNSHARED, "sh")


def as_user(user: int) -> tuple[str, ...]:
    """What runs a program as another user, who can become no other again. user: its uid and gid; 0 for this one's."""
    if not user:
        return ()
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", "--")


def why_not_as(user: int, command: Sequence[str], folders: Sequence[Path]) -> str:
    """Why bots cannot run as that user: what it cannot reach; empty where they can. command: a program that they need.

    Raises OSError.
    """
    if os.geteuid() != 0:
        return "only root can let bots run as another user"
    if shutil.which("setpriv") is None:
        return "the program setpriv (util-linux) is missing"
    for what in ([*command], *(["test", "-x", str(folder), "-a", "-r", str(folder)] for folder in folders)):
        # By a shell, as bots are: setpriv itself still reaches what root does.
        shell = ("/bin/sh", "-c", 'exec "$@"', "sh")
        done = subprocess.run([*as_user(user), *shell, *what], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            return f"user {user} cannot use {what[0] if what[0] != 'test' else what[2]}: {done.stderr.strip()[-200:]}"
    return ""


def _bounded(command: Sequence[str], limit_s: float) -> list[str]:
    """With a limit to what it writes, and one in time that holds even when the deployer died meanwhile."""
    timeout = ["timeout", "-s", "KILL", str(limit_s + KILL_AFTER_S)] if shutil.which("timeout") else []
    return ["/bin/sh", "-c", 'ulimit -f "$0" 2>/dev/null; exec "$@"', str(MAX_BYTES >> 9), *timeout, *command]


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MAX_BYTES).decode("utf-8", "replace")


# $0 = pid file. The shell writes its own pid and becomes the program, so the pid is known even if the parent dies here.
_LAUNCH = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One child: its name, whether it runs, and what was remembered of it."""

    name: str
    running: bool
    facts: Mapping[str, Any]


class Children:
    """The children that are remembered in one folder. Not thread-safe; one process at a time starts children in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        facts: Mapping[str, Any],
    ) -> None:
        """Start a child in a session of its own, its output appended to `log`. Raises OSError."""
        for folder in (self._folder, log.parent):
            make_private(folder)
        self._path(name, "pid").unlink(missing_ok=True)  # a name may be used again: never signal its former pid
        self.remember(name, facts)
        lock = os.open(self._path(name, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with os.fdopen(open_private(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as out:
                self._mine[name] = subprocess.Popen(
                    ["/bin/sh", "-c", _LAUNCH, str(self._path(name, "pid")), *arguments],
                    cwd=directory,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)

    def entries(self) -> list[Entry]:
        """All children, ended ones too until they are forgotten, in the order of their names."""
        self._reap()
        if not self._folder.is_dir():
            return []
        names = sorted(path.stem for path in self._folder.glob("*.json") if not path.name.startswith("."))
        return [Entry(name, self.is_running(name), self._facts(name)) for name in names]

    def is_running(self, name: str) -> bool:
        """Whether the child lives: its lock says so, or for one of this process, whose folder was cleared away, its pid."""
        child = self._mine.get(name)
        return is_locked(self._path(name, "lock")) or (child is not None and child.poll() is None)

    def has_run(self, name: str) -> bool:
        """Whether it ever ran: False when the parent died before it could start the child."""
        return self.pid(name) is not None

    def exit_code(self, name: str) -> int | None:
        """How a child that this process started ended; None while it runs, or when another process started it."""
        self._reap()
        child = self._mine.get(name)
        return child.returncode if child is not None else None

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal if the child lives; whether it was sent. SIGKILL goes to all that it started, too."""
        pid = self.pid(name)
        if pid is None or not self.is_running(name):
            return False
        try:
            if number is signal.SIGKILL:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def remember(self, name: str, facts: Mapping[str, Any]) -> None:
        """Replace what is remembered of a child. Raises OSError."""
        write_atomically(self._path(name, "json"), json.dumps(dict(facts)).encode(), durable=True)

    def forget(self, name: str) -> None:
        """Remove the entry of a child that ended."""
        for ending in ("json", "pid", "lock"):
            self._path(name, ending).unlink(missing_ok=True)
        self._mine.pop(name, None)

    def _reap(self) -> None:
        for child in self._mine.values():
            child.poll()

    def pid(self, name: str) -> int | None:
        """The child's process; None when it never ran. It may have ended."""
        try:
            text = read_named(self._path(name, "pid")).decode("ascii", "replace").strip()
        except OSError:
            return None
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None

    def _facts(self, name: str) -> dict[str, Any]:
        try:
            facts = json.loads(read_named(self._path(name, "json")))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _path(self, name: str, ending: str) -> Path:
        return self._folder / f"{name}.{ending}"


def last_lines(log: Path, lines: int, max_bytes: int = 64 << 10) -> str:
    """The end of a log; empty when there is none."""
    try:
        with open_named(log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
            text = file.read(max_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
