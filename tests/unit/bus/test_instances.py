"""Instances, handover and requests: what others see."""

from pathlib import Path

import pytest

from bus import (
    Bus,
    BusError,
    DocumentCorruptError,
    Handover,
    Instance,
    InstanceFile,
    Role,
    forget_instance,
    is_alive,
    make_request,
    new_id,
    read_handover,
    read_instance,
    read_instances,
    read_requests,
    remove_request,
    write_handover,
)
from tests.unit.bus.frozen import FrozenClock

CLOCK = FrozenClock()


def started(bus: Bus, sha: str = "abc1234") -> InstanceFile:
    """An instance of this process that has not written yet."""
    return InstanceFile(
        bus, CLOCK, Instance(id=new_id(CLOCK, "blue", sha), role=Role.WARMING, color="blue", sha=sha, polls=3)
    )


def test_an_instance_is_alive_as_long_as_its_lock_is_held(bus: Bus) -> None:
    """Alive is the lock; the document says the rest, each write under the next sequence."""
    file = started(bus)
    (seen,) = read_instances(bus)
    assert (seen.alive, seen.document, seen.sequence) == (True, None, 0)
    file.write(file.document)
    file.write(file.document.model_copy(update={"role": Role.STANDBY, "unknown": 1}))
    (seen,) = read_instances(bus)
    assert seen == read_instance(bus, seen.id)
    assert seen.document is not None
    assert (seen.sequence, seen.document.role, seen.document.boot_ms) == (2, Role.STANDBY, CLOCK.boot)
    file.close()
    (seen,) = read_instances(bus)
    assert (seen.alive, seen.sequence) == (False, 2)


def test_a_starting_instance_is_never_seen_dead(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock file is locked before it has its name, so that nobody can take it for dead and forget it."""
    named: list[bool] = []
    real = Path.hardlink_to

    def look_at_birth(self: Path, target: Path) -> None:
        assert read_instances(bus) == []
        real(self, target)
        named.extend(seen.alive for seen in read_instances(bus))

    monkeypatch.setattr(Path, "hardlink_to", look_at_birth)
    started(bus).close()
    assert named == [True]
    assert [path.suffix for path in bus.instances.iterdir()] == [".lock"]


def test_only_a_dead_instance_can_be_forgotten_and_then_wholly(bus: Bus) -> None:
    """Forgetting removes all its files, also the temporary one of a killed writer, and nothing of others."""
    other, file = started(bus), started(bus)
    file.write(file.document)
    other.write(other.document)
    (bus.instances / f".{file.document.id}.json.0123.tmp").touch()
    with pytest.raises(BusError, match="is alive"):
        forget_instance(bus, file.document.id)
    file.close()
    forget_instance(bus, file.document.id)
    assert {path.stem for path in bus.instances.iterdir()} == {other.document.id}
    other.close()


@pytest.mark.parametrize("name", ["../lease", "", "*", "20260921T141320-blue-abc1234-0a1b2c/../x"])
def test_an_id_that_is_none_reaches_no_file(bus: Bus, name: str) -> None:
    """Names from outside are dead instances and never paths."""
    before = sorted(bus.directory.rglob("*"))
    assert not is_alive(bus, name)
    assert not read_instance(bus, name).alive
    forget_instance(bus, name)
    with pytest.raises(BusError, match="expected an instance id"):
        InstanceFile(bus, CLOCK, Instance(id=name, role=Role.WARMING, color="blue", sha=""))
    remove_request(bus, name)
    assert sorted(bus.directory.rglob("*")) == before


@pytest.mark.parametrize("sha", ["", "ABCDEF0123", "v1.0-rc/2", "work tree"])
def test_new_id_makes_an_id_for_any_sha(bus: Bus, sha: str) -> None:
    """Whatever stands for the commit, the id is accepted, and two are never the same."""
    first, second = started(bus, sha), started(bus, sha)
    assert {seen.id for seen in read_instances(bus)} == {first.document.id, second.document.id}
    first.close()
    second.close()


def test_a_damaged_instance_document_hides_nobody(bus: Bus) -> None:
    """An instance whose document cannot be read is still listed, alive, without a document."""
    file = started(bus)
    file.write(file.document)
    (bus.instances / f"{file.document.id}.json").write_text("{")
    (seen,) = read_instances(bus)
    assert (seen.alive, seen.document) == (True, None)
    file.close()


def test_a_handover_is_in_force_until_it_expires_or_the_host_restarts(bus: Bus) -> None:
    """Nobody wanted, no request, expired by CLOCK_BOOTTIME, or of another boot: not in force."""
    assert not read_handover(bus).in_force(CLOCK)
    handover = Handover(wanted="x", request_id="r", expires_boot_id=CLOCK.boot_id, expires_boot_ms=CLOCK.boot + 1)
    write_handover(bus, handover, writer="deployer", sequence=1, clock=CLOCK)
    assert read_handover(bus) == handover
    assert handover.in_force(CLOCK)
    assert not handover.in_force(FrozenClock(boot=CLOCK.boot + 1))
    assert not handover.in_force(FrozenClock(boot_id="boot-2"))
    assert not handover.changed(request_id="").in_force(CLOCK)
    assert not handover.changed(wanted=None).in_force(CLOCK)
    bus.handover.write_bytes(b"")
    with pytest.raises(DocumentCorruptError):
        read_handover(bus)


def test_requests_come_in_order_and_bad_ones_hide_no_good_ones(bus: Bus) -> None:
    """Open requests are read oldest first; an unreadable one is named; a removed one is gone."""
    clock = FrozenClock()
    made = []
    for action in ("deploy", "cancel"):
        made.append(make_request(bus, action, by="anna", clock=clock))
        clock.wall += 1
    (bus.requests / "1790000000000-00000000.json").write_text("{}")
    (bus.requests / "notes.json").write_text("not ours")
    good, bad = read_requests(bus)
    assert good == made
    assert list(bad) == ["1790000000000-00000000"]
    remove_request(bus, made[0].id)
    remove_request(bus, made[0].id)
    assert read_requests(bus)[0] == made[1:]
