"""The deployer's side of the push hook: files in GIT_DIR/never-sleeps, which `./ns init` makes.

    alive          the deployer's sign of life and what it watches, rewritten twice a second; removed when it stops
    pushes/ID      one push, written by the hook, removed when it is answered to the end
    pushes/ID.log  what its pusher is told: "- TEXT" lines, and "= TEXT" as the last one

Only lines that are not in a log yet are appended, so a deployer that was killed goes on where it stopped.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bus import Clock, Log, write_atomically
from deployer.errors import RepositoryError
from deployer.git import locate
from deployer.push.receive import Push, Situation, parse_push, tell

FOLDER = "never-sleeps"
BEAT_EVERY_MS = 500
MAX_OPEN = 100
KEEP_LOGS = 100
MAX_CONTENT = 1_000
MAX_LOG = 1 << 20
_ID = re.compile(r"[0-9]{6,20}-[0-9]{1,10}-[0-9]{1,6}")


def push_folder(path: Path) -> Path:
    """The git directory of a repository, or where it would be while it cannot be read."""
    try:
        return locate(path).directory
    except RepositoryError:
        return path / ".git" if (path / ".git").is_dir() else path


class PushLog:
    """Nothing that goes wrong here stops a deploy: it is said once in the deployer's log."""

    def __init__(self, git_directory: Path, clock: Clock, log: Log, branch: str = "") -> None:
        """branch: what is watched, which the hook reads: it asks about nothing else."""
        self._watched = f" refs/heads/{branch}" if branch else ""
        self._folder, self._clock, self._log = git_directory / FOLDER, clock, log
        self._pushes = self._folder / "pushes"
        self._seen: dict[str, tuple[Push, int]] = {}  # the push, and how often the branch had been read by then
        self._said: dict[str, set[str]] = {}
        self._beat_ms, self._problem = 0, ""

    def beat(self) -> None:
        """Show a sign of life."""
        now_ms = self._clock.boot_ms()
        if now_ms - self._beat_ms < BEAT_EVERY_MS or not self._pushes.is_dir():
            return
        self._beat_ms = now_ms
        self._try(
            lambda: write_atomically(
                self._folder / "alive",
                f"{os.getpid()} {now_ms}{self._watched}\n".encode(),
                durable=False,
                mode=0o644,  # for whoever pushes
            )
        )

    def stop(self) -> None:
        """The deployer ends."""
        with suppress(OSError):
            (self._folder / "alive").unlink(missing_ok=True)

    def read(self, branch_reads: int) -> tuple[Push, ...]:
        """Open pushes, oldest first. branch_reads: how often the branch was read by now."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._pushes) if _ID.fullmatch(entry.name))
        except FileNotFoundError:
            return ()
        except OSError as error:
            self._note(error)
            return ()
        for name in names[-MAX_OPEN:]:
            if name not in self._seen:
                self._read_one(name, branch_reads)
        for name in names[:-MAX_OPEN]:
            self._forget(name)
        self._seen = {name: found for name, found in self._seen.items() if name in names}
        # The read that was under way when the push was seen may have begun before it.
        return tuple(replace(push, settled=branch_reads >= since + 2) for push, since in self._seen.values())

    def tell(self, pushes: tuple[Push, ...], at: Situation) -> None:
        """Append what is new to each push's log."""
        for push in pushes:
            lines = tell(push, at)
            written = self._said.setdefault(push.id, self._read_said(push.id))
            open_lines, verdict = (lines.lines[:-1], lines.lines[-1:]) if lines.ended else (lines.lines, ())
            fresh = [f"- {line}\n" for line in open_lines if line not in written]
            fresh += [f"= {line}\n" for line in verdict]
            if fresh and not self._append(push.id, "".join(fresh)):
                continue
            written.update(lines.lines)
            if lines.ended:
                self._forget(push.id)
                self._tidy()

    # --- files

    def _read_one(self, name: str, branch_reads: int) -> None:
        try:
            with open(_plain_file(self._pushes / name, os.O_RDONLY), "rb") as file:
                push = parse_push(name, file.read(MAX_CONTENT).decode("utf-8", "replace"))
        except OSError as error:
            self._note(error)
            return
        if push is None:
            self._append(name, "= this push could not be understood; see `./ns status`\n")
            self._forget(name)
            return
        self._seen[name] = (push, branch_reads)
        self._log.info("pushed", push=name, by=push.by, ref=push.ref, old=push.old[:12], sha=push.new[:12])

    def _read_said(self, name: str) -> set[str]:
        try:
            with open(_plain_file(self._pushes / f"{name}.log", os.O_RDONLY), "rb") as file:
                text = file.read(MAX_LOG).decode("utf-8", "replace")
        except OSError:
            return set()
        return {line[2:] for line in text.splitlines()}

    def _append(self, name: str, text: str) -> bool:
        def append() -> None:
            path = self._pushes / f"{name}.log"
            with open(_plain_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
                file.write(text.encode("utf-8", "replace"))

        return self._try(append)

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._said.pop(name, None)
        self._try(lambda: (self._pushes / name).unlink(missing_ok=True))

    def _tidy(self) -> None:
        logs = sorted(path for path in self._pushes.glob("*.log"))
        for log in logs[:-KEEP_LOGS]:
            self._try(partial(log.unlink, missing_ok=True))

    def _try(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except OSError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: OSError) -> None:
        if self._problem != str(error):
            self._problem = str(error)
            self._log.warning("push_log", reason=str(error), deploys="go on", pushers="see nothing of them")


def _plain_file(path: Path, flags: int) -> int:
    """Open a file in the folder that pushers write to: never through a link, and never one that waits. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "expected a plain file", str(path))
    return descriptor
