"""The lease: an exclusive flock on one file. Whoever holds it may trade.

The kernel frees it the instant its holder dies, and never while the holder lives. `flock` and not `lockf`: closing any
descriptor of a file drops a POSIX lock. The descriptor is close-on-exec, and a holder forks nothing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bus.errors import LeaseReplacedError


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
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
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
        descriptor = os.open(path, os.O_RDONLY)
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
    mine, on_disk = os.fstat(descriptor), path.stat()
    return (mine.st_dev, mine.st_ino) == (on_disk.st_dev, on_disk.st_ino)
