"""Nothing on the bus is opened through a link or belongs to somebody else, and nobody else reaches it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus import (
    Bus,
    BusError,
    DocumentError,
    FileLock,
    Handover,
    InputsRing,
    LedgerError,
    Step,
    SystemClock,
    append_durably,
    append_step,
    is_alive,
    is_halted,
    is_locked,
    make_private,
    make_request,
    open_bus,
    read_control,
    read_handover,
    read_instances,
    read_requests,
    read_status,
    read_steps,
    set_halt,
    write_control,
    write_handover,
)
from bus.instances import new_id
from deployer.commands.backup import backup
from deployer.push.watched import read_watched
from deployer.runtimes.children import Children
from deployer.settings import claim_home
from ledger import Ledger
from panel.audit_log import read_writes, writes_file
from tests.unit.bus.frozen import IDENTITY

SECRET = b"a secret of the victim's\n"


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return open_bus(tmp_path / "bus")


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file elsewhere, which whoever plants links cannot read, or would like to see written. It must stay as it is."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    yield path
    assert path.read_bytes() == SECRET
    assert list(path.parent.glob("secret*")) == [path]


def _control(bus: Bus) -> object:
    return write_control(bus, 0, lambda control: control, by="x", clock=SystemClock())


OPENED: dict[str, tuple[str, Callable[[Bus], object]]] = {
    "control": ("control.json", read_control),
    "control's lock": ("control.lock", _control),
    "status": ("status.json", read_status),
    "handover": ("handover.json", read_handover),
    "history": ("deploys.jsonl", read_steps),
    "history, written": ("deploys.jsonl", lambda bus: append_step(bus, Step(deploy="d", step="queued", time_ms=1))),
    "the lease": ("lease", lambda bus: FileLock(bus.lease).try_lock()),
    "a lock that is looked at": ("deployer.lock", lambda bus: is_locked(bus.deployer_lock)),
    "writes": ("writes.jsonl", lambda bus: read_writes(bus, 10)),
    "the ledger": ("ledger.db", lambda bus: Ledger.reader(bus.ledger)),
    "the mark of a failed fsync": ("fsync-failed", lambda bus: Ledger.hold(bus.ledger, IDENTITY)),
    "the inputs": ("inputs.db", lambda bus: InputsRing(bus.inputs)),
    "the home": ("home", claim_home),
    "what is watched": ("watched", read_watched),
}


@pytest.mark.parametrize("what", OPENED)
@pytest.mark.parametrize("kind", ["link", "link to nothing", "fifo", "folder"])
def test_what_is_no_file_of_its_own_is_refused_and_never_waited_for(
    bus: Bus, secret: Path, what: str, kind: str
) -> None:
    """A link, to a file or to none, a fifo and a folder: an error that says so, and nothing is made where a link leads."""
    name, opened = OPENED[what]
    path = bus.directory / name
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "link to nothing":
        path.symlink_to(secret.with_name("secret-made"))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((DocumentError, LedgerError, BusError, OSError)) as refused:
        opened(bus)
    assert SECRET.decode().strip() not in str(refused.value)


def test_a_request_and_an_instance_behind_a_link_are_not_read(bus: Bus, tmp_path: Path, secret: Path) -> None:
    """A forged request elsewhere is none; a link among the locks makes nobody alive."""
    clock = SystemClock()
    elsewhere = open_bus(tmp_path / "elsewhere")
    request = make_request(elsewhere, "rollback", by="mallory", clock=clock)
    (bus.requests / f"{request.id}.json").symlink_to(elsewhere.requests / f"{request.id}.json")
    assert read_requests(bus)[0] == []
    instance = new_id(clock, "blue", "0" * 40)
    (bus.instances / f"{instance}.lock").symlink_to(secret)
    with pytest.raises(OSError, match="link"):
        is_alive(bus, instance)
    assert read_instances(bus) == []


@pytest.mark.parametrize("folder", ["instances", "requests"])
def test_a_folder_of_the_bus_that_is_a_link_is_refused(bus: Bus, tmp_path: Path, folder: str) -> None:
    """At the start, and by each file in it that is opened later."""
    elsewhere = open_bus(tmp_path / "elsewhere")
    request = make_request(elsewhere, "rollback", by="mallory", clock=SystemClock())
    (bus.directory / folder).rmdir()
    (bus.directory / folder).symlink_to(elsewhere.directory / folder)
    with pytest.raises(BusError, match="link"):
        open_bus(bus.directory)
    if folder == "requests":
        assert read_requests(bus)[0] == []
        assert request.id in read_requests(bus)[1]


def test_a_halt_that_is_a_link_halts_and_touches_nothing_else(bus: Bus, secret: Path) -> None:
    """Whatever has the name counts; setting it again follows no link."""
    before = secret.stat().st_mtime_ns
    bus.halt.symlink_to(secret)
    set_halt(bus)
    assert is_halted(bus)
    assert secret.stat().st_mtime_ns == before
    bus.halt.unlink()
    bus.halt.symlink_to(secret.with_name("secret-made"))
    set_halt(bus)
    assert is_halted(bus)


def test_what_is_replaced_is_the_link_and_not_what_it_leads_to(bus: Bus, secret: Path) -> None:
    """A document is written beside and renamed: the link goes."""
    bus.handover.symlink_to(secret)
    write_handover(bus, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    assert not bus.handover.is_symlink()
    assert read_handover(bus) == Handover()


def test_a_backup_holds_nothing_that_a_link_leads_to(bus: Bus, tmp_path: Path, secret: Path) -> None:
    """Links on the bus are left out of it."""

    Ledger.hold(bus.ledger, IDENTITY).close()
    (bus.directory / "paper.key").symlink_to(secret)
    to = tmp_path / "backup.tar.gz"
    backup(bus, to, SystemClock(), lambda _line: None)
    with tarfile.open(to) as archive:
        assert "paper.key" not in archive.getnames()


def test_others_neither_enter_the_bus_nor_read_what_is_on_it(tmp_path: Path) -> None:
    """0750 for the folders, whatever they had before; documents are for the owner and his group."""
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o755)
    bus = open_bus(folder)
    write_handover(bus, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    for path in (bus.directory, bus.instances, bus.requests):
        assert stat.S_IMODE(path.stat().st_mode) == 0o750, path
    for path in bus.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path


def test_a_bus_that_everybody_may_write_to_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """It may hold anybody's control, requests and code already: a person looks first."""
    folder = tmp_path / "bus"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(BusError, match=r"mode 0777.*expected 0750.*chmod 750"):
        open_bus(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_bus_of_another_user_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Root's `make run` on a bus that another user fills would do what that one wrote there."""
    folder = tmp_path / "bus"
    open_bus(folder)
    os.chown(folder, 12345, 12345)
    with pytest.raises(BusError, match=r"belongs to user 12345, expected user 0.*run it as that user.*chown"):
        open_bus(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_read(bus: Bus) -> None:
    """Neither the owner of the bus nor whoever runs this wrote it."""
    write_handover(bus, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    os.chown(bus.handover, 12345, 12345)
    with pytest.raises(DocumentError, match="user 12345"):
        read_handover(bus)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_root_writes_on_anothers_bus_is_the_others(bus: Bus) -> None:
    """Who trades there could not read it otherwise, and nothing may be traded by a document that cannot be read."""
    os.chown(bus.directory, 12345, 12345)
    write_handover(bus, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    append_step(bus, Step(deploy="d", step="queued", time_ms=1))
    assert bus.handover.stat().st_uid == bus.deploys.stat().st_uid == 12345


def test_a_file_that_everybody_may_write_to_is_not_read(bus: Bus) -> None:
    """It says so, and how to mend it."""
    write_handover(bus, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    bus.handover.chmod(0o666)
    with pytest.raises(DocumentError, match="chmod o-w"):
        read_handover(bus)


def test_the_bus_itself_may_be_reached_by_a_link_of_the_operators(bus: Bus, tmp_path: Path) -> None:
    """`volumes/bus` on another disk is the operator's own choice."""
    link = tmp_path / "linked"
    link.symlink_to(bus.directory)
    linked = open_bus(link)
    write_handover(linked, Handover(), writer="deployer", sequence=1, clock=SystemClock())
    InputsRing(linked.inputs).close()
    assert read_handover(bus) == Handover()


def test_logs_and_state_are_for_their_owner_alone(tmp_path: Path) -> None:
    """0600 for a log, also one from before; 0700 for `.run` and what is in it."""
    run = tmp_path / ".run"
    run.mkdir(mode=0o755)
    log = run / "services" / "panel.log"
    make_private(log.parent)
    log.touch()
    log.chmod(0o644)
    children = Children(run / "services")
    children.start("panel", ["true"], environment={}, directory=tmp_path, log=log, facts={})
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(run.stat().st_mode) == stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_writes_are_kept_in_a_file_of_the_bus_alone(bus: Bus, secret: Path) -> None:
    """A link planted as the record of writes is not appended to."""
    writes_file(bus).symlink_to(secret)
    with pytest.raises(OSError, match="link"):
        append_durably(writes_file(bus), b"{}\n")
