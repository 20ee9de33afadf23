"""The watchdog thread ends a process whose event loop stands, and no other."""

from __future__ import annotations

import asyncio
import threading
import time

from bot.lifecycle.app import WAKE_EVERY_S, Watchdog


async def test_a_loop_that_stands_is_noticed() -> None:
    """The thread calls once the loop has not run for the limit."""
    stuck = threading.Event()
    watchdog = Watchdog(2 * WAKE_EVERY_S, stuck.set)
    watchdog.start()
    started = time.monotonic()
    assert stuck.wait(10), "the loop stands here, and nobody noticed"  # this blocks the loop on purpose
    assert time.monotonic() - started > 1.5 * WAKE_EVERY_S
    watchdog.stop()


async def test_a_loop_that_runs_is_left_alone() -> None:
    """As long as the loop runs, however long that is, nothing is called; nor after the watch was stopped."""
    stuck = threading.Event()
    watchdog = Watchdog(2 * WAKE_EVERY_S, stuck.set)
    watchdog.start()
    await asyncio.sleep(5 * WAKE_EVERY_S)
    watchdog.stop()
    time.sleep(3 * WAKE_EVERY_S)  # noqa: ASYNC251  the loop stands on purpose
    assert not stuck.is_set()


async def test_a_loop_that_waits_for_its_disk_is_given_as_long_again_once_it_answers() -> None:
    """While a write waits nobody is ended; a loop that still stands when writes are there at once is."""
    stuck = threading.Event()
    written: list[float] = []

    def write() -> None:
        if not written:
            assert not stuck.wait(2 * WAKE_EVERY_S), "ended for a disk that stands"
        written.append(time.monotonic())

    watchdog = Watchdog(2 * WAKE_EVERY_S, stuck.set, write)
    watchdog.start()
    assert stuck.wait(10), "the loop stands here, and nobody noticed"  # this blocks the loop on purpose
    assert len(written) == 2
    assert time.monotonic() - written[0] > 1.5 * WAKE_EVERY_S
    watchdog.stop()
