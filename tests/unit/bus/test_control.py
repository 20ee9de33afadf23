"""Control: desired state with generations, and the halt file."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from bus import (
    Bus,
    BusError,
    Control,
    DocumentCorruptError,
    FileLock,
    Mode,
    StaleGenerationError,
    clear_halt,
    control,
    documents,
    is_halted,
    open_regular,
    read_control,
    write_control,
)
from tests.unit.bus.frozen import FrozenClock

CLOCK = FrozenClock()


def same(found: Control) -> Control:
    """A change that changes nothing."""
    return found


def write(bus: Bus, based_on: int, **more: Control | None) -> Control:
    """Write the next generation without a change."""
    return write_control(bus, based_on, same, by="me", clock=CLOCK, last_applied=more.get("last_applied"))


def test_each_write_is_the_next_generation_and_a_stale_one_changes_nothing(bus: Bus) -> None:
    """A write based on an older generation, or on one that does not exist yet, raises with both numbers."""
    write(bus, 0)
    write(bus, 1)
    before = bus.control.read_bytes()
    for stale in (0, 1, 3):
        with pytest.raises(StaleGenerationError, match=f"generation {stale}, the newest is 2") as caught:
            write(bus, stale)
        assert (caught.value.based_on, caught.value.newest) == (stale, 2)
    assert bus.control.read_bytes() == before


def test_a_change_that_is_no_control_writes_nothing(bus: Bus) -> None:
    """What `change` makes is validated before anything is written, NaN parameters included."""
    write(bus, 0)
    before = bus.control.read_bytes()
    with pytest.raises(ValidationError, match=r"strategy\.edge"):
        write_control(bus, 1, lambda c: c.model_copy(update={"strategy": {"edge": float("nan")}}), by="me", clock=CLOCK)
    assert bus.control.read_bytes() == before


def test_a_damaged_control_is_only_replaced_from_the_last_applied_one(bus: Bus) -> None:
    """With nothing to stand in for it a damaged file is left alone; with the applied one the next write continues from it."""
    bus.control.write_text("{")
    with pytest.raises(DocumentCorruptError):
        write(bus, 0)
    assert bus.control.read_text() == "{"
    applied = Control(generation=41, by="ledger", strategy={"edge": 0.5})
    assert write(bus, 41, last_applied=applied).generation == 42
    assert read_control(bus).strategy == {"edge": 0.5}


def test_an_older_file_that_was_put_back_does_not_turn_generations_back(bus: Bus) -> None:
    """Generations only rise: where a newer one was applied, the file of an older one counts as stale."""
    write(bus, 0)
    applied = Control(generation=9, by="ledger")
    with pytest.raises(StaleGenerationError):
        write(bus, 1, last_applied=applied)
    assert write(bus, 9, last_applied=applied).generation == 10


def test_halt_is_on_the_bus_before_control_says_so(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A halt whose control write fails has stopped entries all the same."""
    write(bus, 0)

    def no_disk(*args: object, **more: object) -> None:
        assert is_halted(bus)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(documents, "write", no_disk)
    with pytest.raises(OSError, match="No space"):
        write_control(bus, 1, lambda c: c.model_copy(update={"mode": Mode.HALT}), by="me", clock=CLOCK)
    assert is_halted(bus)


def test_the_halt_files_presence_alone_counts(bus: Bus, tmp_path: Path) -> None:
    """Any kind of file named halt halts; so does a bus that cannot be seen; clearing is repeatable."""
    assert not is_halted(bus)
    bus.halt.symlink_to("nowhere")
    assert is_halted(bus)
    clear_halt(bus)
    clear_halt(bus)
    assert not is_halted(bus)
    assert is_halted(Bus(tmp_path / "gone"))
    (tmp_path / "file").touch()
    assert is_halted(Bus(tmp_path / "file"))


def test_a_writer_that_keeps_the_lock_is_named_after_a_limit(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits for another writer only so long, and the lock is free again after any write, also a failed one."""
    monkeypatch.setattr(control, "LOCK_LIMIT_S", 0.05)
    other = FileLock(bus.control_lock)
    assert other.try_lock()
    with pytest.raises(BusError, match=r"control\.lock was held by another writer"):
        write(bus, 0)
    other.unlock()
    with pytest.raises(StaleGenerationError):
        write(bus, 5)
    write(bus, 0)


def test_a_lock_file_that_was_replaced_is_not_locked(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers never hold two files of one name: a file replaced between open and lock is not taken."""
    lock = FileLock(bus.control_lock)

    def slow_open(path: Path, flags: int) -> int:
        descriptor = open_regular(path, flags)
        path.unlink()
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr("bus.lease.open_regular", slow_open)
        assert not lock.try_lock()
    assert not lock.held
    assert lock.try_lock()
