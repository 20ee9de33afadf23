"""The lease: an exclusive flock on one file. Whoever holds it may trade.

The kernel frees it the instant its holder dies, and never while the holder lives. `flock` and not `lockf`: closing any
descriptor of a file drops a POSIX lock. The descriptor is close-on-exec, and a holder forks nothing.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path

from bus.documents import open_regular
from bus.errors import BusDirectoryError, LeaseReplacedError, LockingUnreliableError

# Refuses a file system on which two processes could hold the same lock.


# Docker Desktop's bind mounts (virtiofs, fakeowner, fuse, 9p), NFS, SMB and the shared folders of virtual machines let two
# hosts, or two sides of a VM, lock the same file.
UNRELIABLE_TYPES = (
    "nfs",
    "nfs4",
    "9p",
    "fuse",
    "virtiofs",
    "fakeowner",
    "osxfs",
    "drvfs",
    "cifs",
    "smb",
    "smb2",
    "smb3",
    "afs",
    "ceph",
    "glusterfs",
    "vboxsf",
    "vmhgfs",
    "prl_fs",
)


def check_locking(directory: Path) -> None:
    """Open one file twice and see that the locks conflict; look up the file system's type.

    Raises LockingUnreliableError, BusDirectoryError (not writable).
    """
    kind = file_system_type(directory, _mount_table())
    if kind is not None and kind.split(".")[0] in UNRELIABLE_TYPES:
        raise LockingUnreliableError(
            f"{directory} is on a {kind} file system, on which locks cannot be trusted; "
            "expected a local one (ext4, xfs, btrfs, tmpfs, a named Docker volume): set BUS_DIR to a directory on one"
        )
    probe = directory / f".locktest-{secrets.token_hex(6)}"
    try:
        first = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BusDirectoryError(f"cannot write in {directory} ({error.strerror}); let this user write there") from error
    try:
        _try_locks(directory, probe, first)
    except OSError as error:  # such as ENOLCK: a file system without locks
        raise LockingUnreliableError(
            f"locks do not work in {directory} ({error.strerror}): set BUS_DIR to a directory on a local file system"
        ) from error
    finally:
        os.close(first)
        probe.unlink(missing_ok=True)


def _try_locks(directory: Path, probe: Path, first: int) -> None:
    second = open_regular(probe, os.O_RDWR)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _locks(second):
            raise LockingUnreliableError(
                f"two opens of one file in {directory} could both lock it; expected the second to be refused: "
                "set BUS_DIR to a directory on a local file system"
            )
        fcntl.flock(first, fcntl.LOCK_UN)
        if not _locks(second):
            raise LockingUnreliableError(f"a freed lock in {directory} could not be taken; set BUS_DIR elsewhere")
    finally:
        os.close(second)


def file_system_type(directory: Path, mounts: list[tuple[str, str]]) -> str | None:
    """The type of the file system that `directory` is on, by the longest matching mount point; None if unknown.

    mounts: (mount point, type) in the order of mounting; of two on one point the later covers the earlier.
    """
    path = str(directory.resolve())
    best: tuple[int, str] | None = None
    for point, kind in mounts:
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and (best is None or len(point) >= best[0]):
            best = (len(point), kind)
    return best[1] if best else None


def _mount_table() -> list[tuple[str, str]]:
    try:
        text = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except FileNotFoundError:  # not Linux
        return []
    return parse_mounts(text)


def parse_mounts(text: str) -> list[tuple[str, str]]:
    """(mount point, type) of each line of a mountinfo file (proc_pid_mountinfo(5))."""
    table = []
    for line in text.split("\n"):
        fields, _, rest = line.partition(" - ")
        if rest:
            # The kernel writes blanks and the like in a mount point as octal escapes.
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields.split(" ")[4])
            table.append((point, rest.split(" ")[0]))
    return table


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# The lease: an exclusive flock on one file. Whoever holds it may trade.


class FileLock:
    """An exclusive flock on `path`, which is created when missing and never removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock (see `Lease.check` for whether that still means anything)."""
        return self._descriptor is not None

    def try_lock(self) -> bool:
        """Lock without waiting; True when this object holds the lock now, on the file that is on disk now.

        Raises OSError (bus not readable).
        """
        if self._descriptor is not None:
            return True
        descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Replaced between the open and the lock: somebody may lock the other one.
            if not _is_at(descriptor, self.path):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def unlock(self) -> None:
        """Give the lock back; harmless when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # Not by closing alone: a child that was forked meanwhile may hold the same open file.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)


class Lease(FileLock):
    """The exclusive right to trade."""

    def check(self) -> None:
        """Raises LeaseReplacedError when the locked file is not the one on disk: somebody else may hold the other one."""
        if self._descriptor is None:
            raise LeaseReplacedError("the lease is not held")
        try:
            same = _is_at(self._descriptor, self.path)
        except OSError as error:
            raise LeaseReplacedError(
                f"the lease file cannot be seen any more ({error.strerror}): {self.path}"
            ) from error
        if not same:
            raise LeaseReplacedError(f"the lease file was replaced while it was held: {self.path}; never remove it")


def is_locked(path: Path) -> bool:
    """Whether some process holds an exclusive flock on `path`; False when the file is missing. Raises OSError."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    mine, on_disk = os.fstat(descriptor), path.lstat()
    return (mine.st_dev, mine.st_ino) == (on_disk.st_dev, on_disk.st_ino)
