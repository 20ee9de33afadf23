"""The one clock by which tests wait: it runs slower where the machine has less to give, so that limits follow the machine.

A limit of 60 s says that something takes less on a machine that has the time for it. Beside other work it takes longer, and is
not wrong for that. So `now()` advances by the part of the wall time in which the tests and what they started could run. That is
what ran of what wanted to, as the kernel counts it for each thread (/proc/PID/task/TID/schedstat: ns run, ns waited in a run
queue). It is processors by load where that is less, as for containers, which are nobody's children here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

LEAST_SHARE = 1 / 50  # no wait is longer than that many times its limit
SAMPLE_S = 0.5
LEAST_BUSY = 0.02  # of a sample; threads that wanted less say nothing of the machine
TURN_S = 1.0  # between two looks at the clock in the midst of a wait
T = TypeVar("T")
Times = dict[str, tuple[int, int]]


class PatientClock:
    """Seconds that the tests could use. It never goes back, and never faster than the wall.

    Args:
        wall: seconds, monotonic.
        read: (run, waited) in ns of each thread of the tests.
        load: how many threads want a processor, a processor.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.monotonic,
        read: Callable[[], Times] | None = None,
        load: Callable[[], float] | None = None,
    ) -> None:
        self._wall, self._read, self._load = wall, read or threads, load or load_a_processor
        self._at, self._before = wall(), self._read()
        self._now, self.share = 0.0, 1.0

    def now(self) -> float:
        """The time by this clock, in seconds."""
        wall = self._wall()
        passed = wall - self._at
        if passed < SAMPLE_S:
            return self._now + passed * self.share
        after = self._read()
        self.share = max(LEAST_SHARE, min(self._own_share(after, passed), 1 / max(1.0, self._load())))
        self._now, self._at, self._before = self._now + passed * self.share, wall, after
        return self._now

    def _own_share(self, after: Times, passed: float) -> float:
        ran = waited = 0
        for thread, (run, wait) in after.items():
            run_before, wait_before = self._before.get(thread, (0, 0))
            ran, waited = ran + max(0, run - run_before), waited + max(0, wait - wait_before)
        wanted = ran + waited
        return 1.0 if wanted < LEAST_BUSY * passed * 1e9 else ran / wanted


def threads() -> Times:
    """(run, waited) in ns of each thread of this process and of all that it started; empty where the kernel does not say."""
    found: Times = {}
    todo = [os.getpid()]
    while todo:
        tasks = Path(f"/proc/{todo.pop()}/task")
        try:
            for task in tasks.iterdir():
                run, waited, _ = (task / "schedstat").read_text().split()
                found[str(task)] = int(run), int(waited)
                todo += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):  # it ended, or this is no Linux
            continue
    return found


def load_a_processor() -> float:
    """The load of the last minute, a processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


_clock = PatientClock()


def now() -> float:
    """Seconds that the tests of this process could use."""
    return _clock.now()


def until(what: str, look: Callable[[], T | None], limit_s: float, every_s: float = 0.02) -> T:
    """Wait for an event that can only be seen by looking; fails with its name when it does not come."""
    deadline = now() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert now() < deadline, f"waited {limit_s:g} s for: {what}"
        time.sleep(every_s)


@contextlib.asynccontextmanager
async def timeout(limit_s: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`."""
    loop, deadline = asyncio.get_running_loop(), now() + limit_s

    async def look(limit: asyncio.Timeout) -> None:
        while (left := deadline - now()) > 0:
            limit.reschedule(loop.time() + left)
            await asyncio.sleep(min(left / 2, TURN_S))

    async with asyncio.timeout(limit_s) as limit:
        looking = asyncio.create_task(look(limit))
        try:
            yield
        finally:
            looking.cancel()


async def wait_for(awaited: Awaitable[T], limit_s: float) -> T:
    """As `asyncio.wait_for`."""
    async with timeout(limit_s):
        return await awaited


# What waits with a limit of its own: processes, and pytest-timeout's limit of a test.


def wait_patiently() -> None:
    """Make `subprocess.run` and `Popen.wait` and `.communicate` of this process count their limits by this clock."""
    wait, communicate = subprocess.Popen.wait, subprocess.Popen.communicate

    def patient_wait(self: Any, timeout: float | None = None) -> int:
        return _in_turns(timeout, lambda turn_s: wait(self, turn_s))

    def patient_communicate(self: Any, input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002  its name
        waiting = [input]

        def turn(turn_s: float | None) -> Any:
            given = waiting.pop() if waiting else None  # what was begun to be sent is sent on
            return communicate(self, given, turn_s)

        return _in_turns(timeout, turn)

    subprocess.Popen.wait = patient_wait  # type: ignore[method-assign]
    subprocess.Popen.communicate = patient_communicate  # type: ignore[method-assign]


def _in_turns(limit_s: float | None, turn: Callable[[float | None], T]) -> T:
    if limit_s is None:
        return turn(None)
    deadline = now() + limit_s
    while True:
        left = deadline - now()
        try:
            return turn(max(0.0, min(left, TURN_S)))
        except subprocess.TimeoutExpired as error:
            if now() >= deadline:
                error.timeout = limit_s
                raise


def set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """pytest-timeout's limit of a test, counted by this clock. None: where its method is no signal it counts itself."""
    if settings.method != "signal":
        return None
    from pytest_timeout import timeout_sigalrm  # type: ignore[import-untyped]

    deadline = now() + settings.timeout

    def look(_number: int, _frame: object) -> None:
        if now() >= deadline:
            timeout_sigalrm(item, settings)
        signal.setitimer(signal.ITIMER_REAL, TURN_S)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout keeps it
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, TURN_S)
    return True
