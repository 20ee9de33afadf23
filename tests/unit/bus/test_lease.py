"""The file-system self-test: refuses where two processes could hold the same lock."""

import errno
import fcntl
from pathlib import Path

import pytest

from bus import lease as selftest
from bus import open_bus
from bus.errors import BusDirectoryError, LockingUnreliableError
from bus.lease import check_locking, file_system_type, parse_mounts

# From Docker Desktop, WSL, a VM with a shared folder, a Linux host; shortened to what counts.
MOUNTS = r"""1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:30 /h /run/host rw,nosuid shared:3 master:1 - fakeowner /run/host_mark/Users rw,fakeowner
3 1 0:31 / /mnt/c rw - 9p drvfs rw
4 1 0:32 / /mnt/with\040blank\134slash rw - fuse.sshfs me@there rw
5 1 0:33 / /srv rw - nfs4 there:/srv rw
6 5 0:34 / /srv/local rw - xfs /dev/vdb rw
7 1 0:35 / /over rw - virtiofs one rw
8 7 0:36 / /over rw - tmpfs two rw

"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/bus", "nfs4"),
        ("/srv/local/bus", "xfs"),
        ("/srvs", "ext4"),
        ("/run/host/x", "fakeowner"),
        ("/mnt/c/bus", "9p"),
        (r"/mnt/with blank\slash/bus", "fuse.sshfs"),
        ("/over", "tmpfs"),
    ],
)
def test_the_type_is_that_of_the_nearest_mount(directory: str, kind: str) -> None:
    """The longest mount point counts, escapes undone, and of two on one point the later one."""
    assert file_system_type(Path(directory), parse_mounts(MOUNTS)) == kind


@pytest.mark.parametrize("kind", ["fuse", "fuse.grpcfuse", "9p", "nfs", "nfs4", "cifs", "virtiofs", "fakeowner"])
def test_unreliable_file_systems_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A bus on a file system whose locks are known to lie is refused in one line that says what to set."""
    monkeypatch.setattr(selftest, "_mount_table", lambda: [("/", "ext4"), (str(tmp_path), kind)])
    with pytest.raises(LockingUnreliableError, match=rf"on a {kind} file system.*BUS_DIR") as caught:
        open_bus(tmp_path / "bus")
    assert "\n" not in str(caught.value)


def test_a_real_directory_is_accepted_and_left_clean(tmp_path: Path) -> None:
    """On a local file system the test passes, leaves no file, and can be run by any number of processes again."""
    for _ in range(3):
        check_locking(tmp_path)
    assert list(tmp_path.iterdir()) == []
    bus = open_bus(tmp_path / "bus")
    assert sorted(path.name for path in bus.directory.iterdir()) == ["instances", "lease", "requests"]
    inode = bus.lease.stat().st_ino
    assert open_bus(bus.directory).lease.stat().st_ino == inode


def test_locks_that_do_not_conflict_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a second open of a locked file can lock it too, nothing may run."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(LockingUnreliableError, match="could both lock it"):
        check_locking(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the lock call itself is one line and not a traceback."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(LockingUnreliableError, match="No locks available"):
        check_locking(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_a_bus_is_refused(tmp_path: Path) -> None:
    """A file in the place of the directory is named, with what BUS_DIR must be."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "bus"):
        with pytest.raises(BusDirectoryError, match="BUS_DIR must name a directory"):
            open_bus(path)
