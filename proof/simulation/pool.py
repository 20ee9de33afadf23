"""Runs in processes of their own, forked from this one, which has imported everything.

So no run can hand anything to the next one, and what a killed bot left behind ends with its process.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from proof.simulation.mutants import MUTANTS
from proof.simulation.world import UNKNOWN, Outcome, as_json, from_json, run

LIMIT_S = 120.0
FAST = Path("/dev/shm")  # memory: what a power cut leaves is not what is asked here


def run_seeds(seeds: Iterator[int], jobs: int, *, mutant: str | None = None, trace: bool = False) -> Iterator[Outcome]:
    """The outcomes of these seeds in their order of ending, `jobs` at a time. What was begun is ended with the generator."""
    running: dict[int, _Run] = {}
    try:
        while True:
            while len(running) < jobs and (seed := next(seeds, None)) is not None:
                one = _Run(seed, mutant, trace=trace)
                running[one.reader] = one
            if not running:
                return
            left_s = min(one.deadline for one in running.values()) - time.monotonic()
            readable, _, _ = select.select(list(running), [], [], max(0.0, left_s))
            for reader in readable or [min(running, key=lambda key: running[key].deadline)]:
                if (out := running[reader].read(ended=not readable)) is not None:
                    del running[reader]
                    yield out
    finally:
        for one in running.values():
            one.end()


class _Run:
    """One run in a child process."""

    def __init__(self, seed: int, mutant: str | None, *, trace: bool) -> None:
        self.seed, self.deadline = seed, time.monotonic() + LIMIT_S
        self._said = b""
        self._folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=FAST if FAST.is_dir() else None))
        sys.stdout.flush()
        self.reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.reader)
            _child(seed, mutant, self._folder, writer, trace=trace)
        os.close(writer)

    def read(self, *, ended: bool) -> Outcome | None:
        """What it said, once it has ended. ended: its time is over."""
        if not ended:
            some = os.read(self.reader, 1 << 20)
            if some:
                self._said += some
                return None
        self.end()
        try:
            return from_json(self._said.decode())
        except ValueError:
            why = f"did not end within {LIMIT_S:g} s" if ended else "ended without a word"
            return Outcome(self.seed, UNKNOWN, [f"the run {why}"])

    def end(self) -> None:
        """End it if it has not, and clear its folder away."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.reader)
        shutil.rmtree(self._folder, ignore_errors=True)


def _child(seed: int, mutant: str | None, folder: Path, writer: int, *, trace: bool) -> None:
    """Never returns, and collects no garbage: the coroutines of what was killed must not run on."""
    gc.disable()
    hidden = str(folder)

    def say(text: str) -> None:
        if trace:
            sys.stdout.write(text.replace(hidden, "") + "\n")

    try:
        out = run(seed, folder, say, MUTANTS[mutant].remove if mutant is not None else None)
    except BaseException as error:  # noqa: BLE001  # told to whoever waits
        where = traceback.format_exc().splitlines()[-4:]
        out = Outcome(seed, UNKNOWN, [f"the run itself failed: {error!r} {where}"])
    try:
        sys.stdout.flush()
        text = as_json(out).encode()
        while text:
            text = text[os.write(writer, text) :]
    finally:
        os._exit(0)
