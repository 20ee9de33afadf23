"""Noticing changes: inotify as a hint, stat as the truth."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import Bus, Watch, write_atomically
from bus.watch import STAT_EVERY_S


async def within(watch: Watch, limit_s: float) -> tuple[frozenset[Path], float]:
    """What changed, and how long it took in seconds."""
    start = time.monotonic()
    found = await watch.changed(limit_s)
    return found, time.monotonic() - start


async def test_inotify_wakes_the_waiter_long_before_the_stat(bus: Bus) -> None:
    """Made, replaced and removed: each is noticed at once, once, and for the right path alone."""
    with Watch((bus.control, bus.halt)) as watch:
        assert watch.has_hints
        took = []
        changes: tuple[Callable[[], None], ...] = (
            lambda: write_atomically(bus.control, b"1", durable=False),
            lambda: write_atomically(bus.control, b"2", durable=True),
            bus.control.unlink,
        )
        for change in changes:
            waiting = asyncio.create_task(within(watch, 5))
            await asyncio.sleep(0)  # it has looked and waits now
            change()
            found, seconds = await waiting
            assert found == {bus.control}
            took.append(seconds)
        assert min(took) < STAT_EVERY_S / 2
        (bus.directory / "other").touch()
        assert await watch.changed(0) == frozenset()


async def test_without_inotify_the_stat_notices(bus: Bus) -> None:
    """With the observer dead a change is noticed within one period of the stat."""
    with Watch((bus.control, bus.halt)) as watch:
        assert watch._hints is not None
        watch._hints.__exit__()
        assert not watch.has_hints
        waiting = asyncio.create_task(within(watch, 5))
        await asyncio.sleep(0)
        bus.halt.touch()
        found, seconds = await waiting
        assert found == {bus.halt}
        assert seconds < STAT_EVERY_S + 1


async def test_a_watch_that_gets_no_inotify_still_watches(bus: Bus) -> None:
    """Where inotify cannot be had (here: the folder is not there yet) the watch starts all the same."""
    later = bus.directory / "later" / "file"
    with Watch((later, bus.halt)) as watch:
        assert not watch.has_hints
        later.parent.mkdir()
        later.touch()
        assert (await within(watch, 5))[0] == {later}


def none_left() -> None:
    """As the observer of inotify is made where the user has no instance left (fs.inotify.max_user_instances)."""
    raise OSError(errno.EMFILE, "inotify instance limit reached")


async def test_where_no_inotify_instance_is_left_everything_goes_on_by_looking(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is noticed by the next look."""
    monkeypatch.setattr("bus.watch.Observer", none_left)
    with Watch((bus.halt,)) as watch:
        assert not watch.has_hints
        bus.halt.touch()
        assert (await within(watch, 5))[0] == {bus.halt}


async def test_a_change_between_two_calls_is_not_lost(bus: Bus) -> None:
    """What changed while nobody waited is told by the next call, at once."""
    with Watch((bus.control,)) as watch:
        write_atomically(bus.control, b"1", durable=False)
        assert await watch.changed(0) == {bus.control}
        assert await watch.changed(0) == frozenset()


async def test_a_file_replaced_inside_a_folder_is_noticed_even_when_times_stand_still(bus: Bus) -> None:
    """Of a watched folder every replaced entry is noticed, also within the grain of the file system's clock."""
    entry = bus.instances / "x.json"
    write_atomically(entry, b"1", durable=False)
    with Watch((bus.instances,)) as watch:
        times = bus.instances.stat()
        write_atomically(entry, b"2", durable=False)
        os.utime(bus.instances, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (await within(watch, 5))[0] == {bus.instances}
