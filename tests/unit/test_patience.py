"""The limits of tests follow the machine: time counts as far as they could run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys

import pytest

from tests import patience
from tests.forked import ROOT
from tests.patience import LEAST_SHARE, PatientClock, Times, threads

SECOND = 10**9


class Machine:
    """A wall clock, one thread of the tests, and a load."""

    def __init__(self) -> None:
        self.wall_s, self.ran, self.waited, self.load = 100.0, 0, 0, 0.5
        self.clock = PatientClock(lambda: self.wall_s, self.read, lambda: self.load)

    def read(self) -> Times:
        return {"thread": (self.ran, self.waited)}

    def passes(self, seconds: float, *, ran: float, waited: float) -> float:
        """So much time passes; how much of it counts."""
        before = self.clock.now()
        self.wall_s += seconds
        self.ran, self.waited = self.ran + int(ran * SECOND), self.waited + int(waited * SECOND)
        return self.clock.now() - before


@pytest.mark.parametrize(
    ("ran", "waited", "load", "counts"),
    [
        (5.0, 0.0, 0.5, 10.0),  # nobody else wants the machine
        (0.0, 0.0, 0.5, 10.0),  # nor do the tests: what does not come in time is missing
        (1.0, 9.0, 1.0, 1.0),  # a tenth of what they wanted
        (0.01, 9.99, 1.0, 10 * LEAST_SHARE),  # at the lowest priority; no wait is endless all the same
        (2.0, 0.0, 4.0, 2.5),  # containers beside, which are nobody's children
    ],
)
def test_time_counts_as_far_as_the_tests_could_run(ran: float, waited: float, load: float, counts: float) -> None:
    """Ten seconds in which they ran and waited so long."""
    machine = Machine()
    machine.load = load
    assert machine.passes(10, ran=ran, waited=waited) == pytest.approx(counts)


def test_it_never_goes_back_nor_faster_than_the_wall() -> None:
    """Threads that end take their counts with them."""
    machine = Machine()
    machine.passes(10, ran=5, waited=5)
    assert 0 <= machine.passes(1, ran=-5, waited=-5) <= 1
    assert 0 <= machine.passes(0.1, ran=0, waited=0) <= 0.1


def test_what_the_tests_started_counts_with_them() -> None:
    """A process of a process is among the threads."""
    code = "import subprocess; subprocess.run(['sleep', '600'])"
    before = set(threads())
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        try:
            patience.until("the child and its own", lambda: len(set(threads()) - before) >= 2, 30)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its limit by the clock."""
    moment = 0.0

    def now() -> float:
        nonlocal moment
        moment += 0.3
        return moment

    monkeypatch.setattr(patience, "now", now)
    monkeypatch.setattr(patience, "TURN_S", 0.1)
    echo = "import sys, time; print(sys.stdin.read(), flush=True); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired, match="after 5 seconds"):
        subprocess.run(
            [sys.executable, "-c", echo], input="said", text=True, capture_output=True, timeout=5, check=False
        )


def test_a_process_that_ends_in_time_has_its_input_and_output() -> None:
    """Whatever it takes of its limit."""
    done = subprocess.run(
        [sys.executable, "-c", "print(input())"], input="said", text=True, capture_output=True, timeout=30, check=True
    )
    assert done.stdout == "said\n"


async def test_a_wait_of_a_coroutine_is_given_up() -> None:
    """As asyncio's own."""
    with pytest.raises(TimeoutError):
        await patience.wait_for(asyncio.Event().wait(), 0.05)
    assert await patience.wait_for(asyncio.sleep(0, "done"), 5) == "done"


def test_no_test_counts_the_wall_for_a_limit() -> None:
    """A limit of seconds that a busy machine uses up is no failure: all deadlines are by this clock, but of virtual time."""
    wall = re.compile(r"(deadline|end) = time\.monotonic\(\) \+|asyncio\.(timeout|wait_for)\(")
    odd = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.parts[-2:-1] != ("bot",) and "unit/bot" not in str(path) and path.name not in OWN
        if wall.search(path.read_text())
    ]
    assert not odd, f"use tests.patience there: {odd}"


OWN = {"patience.py", "test_patience.py", "settlement.py", "test_wire_mirror.py", "tiny_bot.py"}
"""The clock itself; programs that are no tests; one that waits until two seconds of the wall are over."""
