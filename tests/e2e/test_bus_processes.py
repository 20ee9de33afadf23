"""Control, lease and instances between real processes."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import (
    Bus,
    FileLock,
    SystemClock,
    forget_instance,
    is_alive,
    open_bus,
    read_control,
    read_instances,
    write_control,
)
from tests.e2e.bus_nursery import Nursery


@pytest.fixture(scope="module")
def nursery_process() -> Iterator[Nursery]:
    """The process that forks the actors of this file."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def nursery(nursery_process: Nursery) -> Iterator[Nursery]:
    """Starts actors; none outlives its test."""
    yield nursery_process
    nursery_process.end_actors()


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """A bus with a first control."""
    made = open_bus(tmp_path / "bus")
    write_control(made, 0, lambda control: control, by="test", clock=SystemClock())
    return made


def test_two_panels_lose_no_write_of_control(bus: Bus, nursery: Nursery) -> None:
    """Two processes make 200 changes each at once, repeating every stale one: all 400 are there, in 400 generations."""
    writers = [nursery.start("control_writer", bus.directory, name, 200) for name in "ab"]
    assert [writer.event() for writer in writers] == [{"ready": True}] * 2
    for writer in writers:
        writer.order("go")
    conflicts = [writer.event()["conflicts"] for writer in writers]
    control = read_control(bus)
    assert control.generation == 401
    assert control.strategy == {f"{name}-{n}": n for name in "ab" for n in range(200)}
    assert sum(conflicts) > 0, "they never met: the test shows nothing"


def test_a_writer_killed_at_any_moment_leaves_a_whole_document(bus: Bus, nursery: Nursery) -> None:
    """After SIGKILL control is whole, no acknowledged generation is lost, and the next writer finds the lock free."""
    moments = random.Random(7)
    for _ in range(30):
        writer = nursery.start("control_writer_forever", bus.directory)
        acknowledged = [writer.event()["generation"] for _ in range(moments.randrange(1, 6))]
        os.kill(writer.pid, signal.SIGSTOP)  # stops it wherever it is; nothing waits for a fixed time
        acknowledged += [event["generation"] for event in writer.kill()]
        found = read_control(bus).generation
        assert acknowledged[-1] <= found <= acknowledged[-1] + 1
        write_control(bus, found, lambda control: control, by="test", clock=SystemClock())


def test_the_lease_passes_on_when_its_holder_is_killed_or_gives_it_back(bus: Bus, nursery: Nursery) -> None:
    """One holder at a time; SIGKILL frees the lease, SIGSTOP does not, and giving back does."""
    first, second = (nursery.start("lease_holder", bus.lease) for _ in range(2))
    assert [actor.event() for actor in (first, second)] == [{"ready": True}] * 2
    assert first.ask("try") == {"answer": True}
    assert second.ask("try") == {"answer": False}
    assert first.ask("check") == {"answer": None}
    first.signal(signal.SIGSTOP)
    assert second.ask("try") == {"answer": False}
    first.kill()
    assert second.ask("try") == {"answer": True}
    third = nursery.start("lease_holder", bus.lease)
    third.event()
    assert third.ask("try") == {"answer": False}
    assert second.ask("unlock") == {"answer": None}
    assert second.ask("check")["error"] == "LeaseReplacedError"
    assert third.ask("try") == {"answer": True}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_holder_notices_that_its_lease_file_was_replaced(bus: Bus, nursery: Nursery, replaced: bool) -> None:
    """Removed or replaced: the check says so, so that two holders of two files do not both trade on."""
    holder = nursery.start("lease_holder", bus.lease)
    holder.event()
    assert holder.ask("try") == {"answer": True}
    bus.lease.unlink()
    if replaced:
        bus.lease.touch()
    assert holder.ask("check")["error"] == "LeaseReplacedError"


def test_a_child_that_the_holder_started_does_not_keep_the_lease(bus: Bus, nursery: Nursery) -> None:
    """A program that the holder started and that outlives it does not hold the lease on."""
    holder = nursery.start("lease_holder", bus.lease)
    holder.event()
    assert holder.ask("try") == {"answer": True}
    child = holder.ask("child")["pid"]
    try:
        holder.kill()
        os.kill(child, 0)  # it lives
        assert FileLock(bus.lease).try_lock()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lease_that_was_given_back_is_free_in_spite_of_a_forked_child(bus: Bus, nursery: Nursery) -> None:
    """Giving back frees the lock itself, also where a forked child has the same open file."""
    holder = nursery.start("lease_holder", bus.lease)
    holder.event()
    assert holder.ask("try") == {"answer": True}
    child = holder.ask("fork")["pid"]
    try:
        assert holder.ask("unlock") == {"answer": None}
        assert FileLock(bus.lease).try_lock()
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_instance_is_dead_the_moment_its_process_is(bus: Bus, nursery: Nursery) -> None:
    """Alive by its lock, also when stopped; dead after SIGKILL and after an end in order; then it can be forgotten."""
    killed, ended = (nursery.start("instance", bus.directory) for _ in range(2))
    ids = [killed.event()["id"], ended.event()["id"]]
    killed.signal(signal.SIGSTOP)
    assert {seen.id: seen.alive for seen in read_instances(bus)} == dict.fromkeys(ids, True)
    killed.kill()
    assert [is_alive(bus, each) for each in ids] == [False, True]
    assert ended.ask("write") == {"written": True}
    found = {seen.id: seen for seen in read_instances(bus)}
    assert (found[ids[1]].sequence, found[ids[1]].alive) == (2, True)
    ended.finish()
    assert not is_alive(bus, ids[1])
    for each in ids:
        forget_instance(bus, each)
    assert list(bus.instances.iterdir()) == []
