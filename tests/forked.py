"""Real processes that start in milliseconds: forked from one that has the programs loaded already.

A fresh interpreter spends seconds of processor on a bot's imports and one on any other's, which over all tests were minutes.
What depends on how an interpreter starts is tested with a fresh one: by the deployer's rigs, the demo and the containers.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import patience

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 30
LOADED = ["tests.forked", "bot.lifecycle.app", "bot.cli", "deployer.commands.cli", "panel.server", "paper.cli"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LOADED)


class Forked:
    """A process as `subprocess.Popen` has it: the part of its interface that tests use."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], stdout: Path, stderr: Path) -> None:
        """Start `python -m command` with its output added to files, in a session of its own."""
        with contextlib.chdir(ROOT):  # where the first of all finds the modules to load
            multiprocessing.forkserver.ensure_running()
        for path in stdout, stderr:
            path.touch()  # whoever looks for its first words finds a file
        self._process = _context.Process(
            target=_become, args=([*command], dict(environment), str(stdout), str(stderr)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        deadline = patience.now() + timeout
        while (code := self.poll()) is None:
            if (left := deadline - patience.now()) <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self._process.join(min(left, patience.TURN_S))
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment, and its end is not told yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run(command: Sequence[str], *, environment: Mapping[str, str], limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run `python -m command` to its end. Raises subprocess.TimeoutExpired after `limit_s` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = Forked(command, environment=environment, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(limit_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, code, stdout.read_text(), stderr.read_text())


def listening(process: Forked, log: Path) -> dict[str, Any]:
    """Wait until a service says that it listens; its line of the log."""
    deadline = patience.now() + START_LIMIT_S
    while patience.now() < deadline:
        ended, read = process.poll(), log.read_bytes() if log.exists() else b""
        for line in read.split(b"\n")[:-1]:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == "listening":
                return said
        assert ended is None, f"it ended with {ended} before it listened: {read!r}"
        time.sleep(0.01)
    raise AssertionError(f"it did not listen within {START_LIMIT_S} s: {read!r}")


def _become(arguments: list[str], environment: dict[str, str], stdout: str, stderr: str) -> None:
    """In the new process: what an interpreter does before `python -m`."""
    os.setsid()
    os.chdir(ROOT)
    for descriptor, path in ((1, stdout), (2, stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
