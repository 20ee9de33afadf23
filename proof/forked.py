"""Bots that start in milliseconds: forked from this process, which has imported everything; and strace that tampers with one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import bot.lifecycle.app  # noqa: F401 - imported before the fork, so that no child has to
from bot.cli import main as bot_main

EVERY_S = 0.01
DETACH_LIMIT_S = 2.0
END_LIMIT_S = 30.0


class StraceError(Exception):
    """strace is missing, or may not attach here."""


class ForkedBot:
    """One bot process. It looks like a `Popen` as far as tests.e2e.rig needs one. Only for a parent without threads."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _be_a_bot(environment, log)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, limit_s: float) -> int:
        """Until its end. Raises TimeoutExpired."""
        deadline = time.monotonic() + limit_s
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("bot", limit_s)
            time.sleep(EVERY_S)
        return code

    def send_signal(self, number: int) -> None:
        """Harmless when it is dead."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)


def _be_a_bot(environment: dict[str, str], log: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(descriptor, target)
        os.closerange(3, 256)
        os.environ.update(environment)
        code = bot_main([])
    finally:
        os._exit(code)


@contextmanager
def tampered(pid: int, calls: str, fault: str, number: int, *, threads: bool = True) -> Iterator[None]:
    """From now on the `number`-th of these system calls of each thread fails or kills.

    fault: as in strace(1) after the calls: signal=KILL, error=EIO. threads: all threads and those to come, else the first.
    Raises StraceError.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise StraceError("strace is not installed (apt-get install strace)")
    follow = ["-f"] if threads else []
    inject = f"inject={calls}:{fault}:when={number}"
    tracer = subprocess.Popen(
        [strace, *follow, "-p", str(pid), "-e", f"trace={calls}", "-e", inject, "-o", "/dev/null"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline()
        if not re.search(r"Process \d+ attached", line):
            raise StraceError(f"strace may not attach to a process here: {line.strip()}")
        yield
    finally:
        with suppress(ProcessLookupError):
            tracer.terminate()
        try:
            tracer.wait(DETACH_LIMIT_S)
        except subprocess.TimeoutExpired:
            # It may wait for ever for the last thread of a process that it killed; the kernel detaches it when it dies.
            tracer.kill()
            tracer.wait(END_LIMIT_S)
        tracer.stderr.close()
