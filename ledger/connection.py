"""A connection to the ledger's file by SQLite's rules for it: durable transactions, the checkpoint, the reserve, the mark.

Only SQLite opens the three files of the ledger: a plain open and close of one of them inside the holder would drop its
POSIX locks. Only the holder's connection checkpoints.

An fsync that fails is never tried again: the kernel may have dropped what it could not write, and says so once. The
connection refuses everything from then on and leaves the file `fsync-failed` beside the ledger; while it is there, nobody
takes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import apsw

from bus import (
    FencedError,
    FsyncFailedError,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
    TickTakenError,
    open_regular,
    sync_directory,
)
from bus.documents import check_database
from bus.layout import FSYNC_FAILED

RESERVE_BYTES = 8 << 20
# Once in the WAL, once in the database, and some for everybody else.
ROOM_FOR_RESERVE_BYTES = 3 * RESERVE_BYTES
HOLDER_BUSY_MS = 1000
READER_BUSY_MS = 250
# Where a database's first page has `user_version` (SQLite's file format, 1.3), and how many numbers of checkpoints there are.
USER_VERSION_AT = 60
NUMBERS = 1 << 30

Value = str | int | float | None
Row = tuple[Value, ...]


class Connection:
    """One connection. Not thread-safe."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._failure: str | None = None

    @classmethod
    def open_holder(cls, path: Path) -> Self:
        """The connection that writes and checkpoints; makes the file where it is missing.

        Raises FsyncFailedError (the mark is there), LedgerCorruptError, LedgerFullError, LedgerError.
        """
        mark = path.with_name(FSYNC_FAILED)
        if os.path.lexists(mark):
            raise FsyncFailedError(f"the disk failed to confirm a write earlier; look at the disk, then remove {mark}")
        _refuse_emptied(path)
        try:
            with _translated():
                connection = _connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, HOLDER_BUSY_MS)
        except FsyncFailedError as error:
            _leave_mark(mark, error)
            raise
        return cls(_whole(connection, path), path)

    @classmethod
    def open_reader(cls, path: Path) -> Self | None:
        """A connection for short reads; None when there is no file. Raises LedgerCorruptError, LedgerError."""
        _refuse_emptied(path)
        if not os.path.lexists(path):
            return None
        with _translated():
            connection = _connect(path, apsw.SQLITE_OPEN_READWRITE, READER_BUSY_MS)
        return cls(_whole(connection, path), path)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable when the block ends, or nothing of it happened. Not nested.

        Raises FencedError, TickTakenError, LedgerFullError, FsyncFailedError, LedgerCorruptError, LedgerError.
        """
        with self._watched():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            with self._watched():
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with _translated():
                    self._connection.execute("ROLLBACK")
            raise

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Run one statement and return its rows. Outside `transaction` a write commits by itself."""
        if self._failure is not None:
            raise FsyncFailedError(self._failure)
        try:  # what succeeds, which is nearly all, goes without two context managers: an order waits for this
            return list(self._connection.execute(sql, values))
        except apsw.Error as error:
            with self._watched():
                raise error

    def scalar(self, sql: str, values: Sequence[Value] = ()) -> Value:
        """The first column of the first row, or None."""
        rows = self.execute(sql, values)
        return rows[0][0] if rows else None

    def integer(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Like scalar, for a number; 0 for none."""
        value = self.scalar(sql, values)
        return value if isinstance(value, int) else 0

    # --- room on the disk

    def checkpoint(self) -> None:
        """Move what is in the WAL into the database, as far as readers let it. The holder calls it right after a poll.

        Raises LedgerFullError, FsyncFailedError, LedgerError.
        """
        number = self.integer(
            "PRAGMA user_version"
        )  # before: what a holder that wakes late writes beside must not be noted
        with self._watched():
            try:
                frames, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.BusyError:
                return  # somebody else does it now, such as a holder that was paused; the next poll comes soon
        if frames == moved > 0:
            self._number_checkpoint(number)

    def _number_checkpoint(self, number: int) -> None:
        """Note in the WAL which number the database has now, and give it the next one with the next checkpoint (see `_whole`)."""
        try:
            with self.transaction():
                self.execute(f"PRAGMA application_id = {number}")
                self.execute(f"PRAGMA user_version = {(number + 1) % NUMBERS}")
        except LedgerFullError:
            return  # the reserve is for what trades; without a number the next one is noted

    def has_reserve(self) -> bool:
        """Whether half of the reserve is still there, in free pages and in the WAL."""
        free = self.integer("PRAGMA freelist_count") * self.integer("PRAGMA page_size")
        try:
            wal = self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            wal = 0
        return free >= RESERVE_BYTES // 2 and wal >= RESERVE_BYTES // 2

    def restore_reserve(self) -> None:
        """Make free pages and room in the WAL, so that a release, a take and exits commit on a full disk.

        Raises LedgerFullError when there is no room for it, before anything is written: what is left of the disk belongs to
        control, status and halt.
        """
        try:
            room = os.statvfs(self.path.parent)
        except OSError as error:
            raise LedgerError(f"the folder of the ledger cannot be seen any more ({error})") from error
        if room.f_bavail * room.f_frsize < ROOM_FOR_RESERVE_BYTES:
            raise LedgerFullError(
                f"expected {ROOM_FOR_RESERVE_BYTES >> 20} MB free on the disk of the bus to restore the ledger's reserve, "
                f"found {room.f_bavail * room.f_frsize >> 20} MB; free some: entries stay closed until then"
            )
        with self.transaction():
            self.execute("INSERT INTO reserve(filler) VALUES (zeroblob(?))", (RESERVE_BYTES,))
        with self.transaction():
            self.execute("DELETE FROM reserve")
        self.checkpoint()

    def backup(self, to: Path) -> None:
        """Copy the ledger as it is now into a new file, by SQLite's backup API. Raises LedgerError."""
        if to.exists():
            raise LedgerError(f"expected a file that does not exist yet, found {to}; name another one")
        with _translated():
            copy = apsw.Connection(str(to))
            try:
                with copy.backup("main", self._connection, "main") as backup:
                    backup.step(-1)
            finally:
                copy.close()

    def make_name_durable(self) -> None:
        """Make sure that a power cut does not lose the file itself. Raises FsyncFailedError, LedgerError."""
        with self._watched():
            try:
                sync_directory(self.path.parent)
            except OSError as error:
                kind = FsyncFailedError if error.errno == errno.EIO else LedgerError
                raise kind(f"the folder of the ledger could not be made durable ({error}); look at the disk") from error

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """SQLite's errors as the bus's own; after an fsync that failed, nothing any more."""
        if self._failure is not None:
            raise FsyncFailedError(self._failure)
        try:
            with _translated():
                yield
        except FsyncFailedError as error:
            if self._failure is None:
                self._failure = str(error)
                _leave_mark(self.path.with_name(FSYNC_FAILED), error)
            raise


def _connect(path: Path, flags: int, busy_ms: int) -> apsw.Connection:
    try:
        check_database(path)
        # The folder may be reached by a link of the operator's, but the file is none.
        connection = apsw.Connection(str(path.parent.resolve() / path.name), flags=flags | apsw.SQLITE_OPEN_NOFOLLOW)
    except OSError as error:
        raise LedgerError(f"the ledger cannot be opened ({error})") from error
    try:
        connection.set_busy_timeout(busy_ms)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.wal_autocheckpoint(0)
        connection.pragma("temp_store", "MEMORY")
        if flags & apsw.SQLITE_OPEN_CREATE:
            connection.pragma("journal_mode", "WAL")
            connection.pragma("synchronous", "FULL")
            # INSERT OR REPLACE deletes without a trigger unless this is on.
            connection.pragma("recursive_triggers", True)
        else:
            connection.pragma("query_only", True)
    except BaseException:
        connection.close()
        raise
    return connection


def _leave_mark(mark: Path, error: FsyncFailedError) -> None:
    try:
        os.close(open_regular(mark, os.O_WRONLY | os.O_CREAT))
        sync_directory(mark.parent)
    except OSError as failure:  # the same disk: this process stops all the same
        error.add_note(f"{mark} could not be made durable: {failure}")


UNIQUE = "UNIQUE constraint failed"
"""The code of a row that is there already."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn SQLite's errors into the bus's own, each with what to do."""
    try:
        yield
    except apsw.ConstraintError as error:
        # SQLite has nothing but a text for what a trigger or key refused: "code: words", "UNIQUE constraint failed: columns".
        code, _, words = str(error).partition(": ")
        if code == "fenced":
            raise FencedError(words) from error
        if code == "taken" or (code == UNIQUE and words == "polls_completed.tick"):
            raise TickTakenError(words if code == "taken" else str(error)) from error
        if code == UNIQUE and words == "releases.epoch":
            raise FencedError("the epoch is released") from error
        refused = LedgerError(str(error))
        refused.code = code
        raise refused from error
    except (apsw.BusyError, apsw.ProtocolError) as error:  # the latter: a process stands in the middle of a commit
        raise LedgerError(
            "the ledger is busy: another process writes to it or recovers it; if that one is stopped, continue or kill it"
        ) from error
    except apsw.FullError as error:
        raise LedgerFullError(
            "no room left on the disk of the bus; free some: entries stay closed until then"
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise LedgerCorruptError(
            f"the ledger is damaged ({error}); nobody trades until it is restored from a backup or moved away"
        ) from error
    except apsw.IOError as error:
        if getattr(error, "extendedresult", None) in _FSYNC_RESULTS:  # not in the stubs
            raise FsyncFailedError(
                f"the disk did not confirm a write ({error}); look at the disk, then remove the file fsync-failed"
            ) from error
        raise LedgerError(f"the ledger could not be read or written ({error})") from error
    except apsw.Error as error:
        raise LedgerError(str(error)) from error


_FSYNC_RESULTS = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def _refuse_emptied(path: Path) -> None:
    """SQLite deletes a WAL that it finds beside an empty or missing database, with all commits in it.

    A database is never empty while it has a WAL: its first page is durable before the WAL is made.
    """
    wal = path.with_name(path.name + "-wal")
    if _size(path) == 0 and (left := _size(wal)) > 0:
        raise LedgerCorruptError(
            f"{path.name} is missing or empty, but {wal.name} holds {left} bytes of it; "
            "restore it from a backup, or move both away"
        )


def _whole(connection: apsw.Connection, path: Path) -> apsw.Connection:
    """The connection, unless the database is older than the WAL beside it, as after restoring one of the two from a backup.

    SQLite would lay the newer pages over the older ones and notice nothing. So each checkpoint has a number (`user_version`).
    It is in the database's own first page once it is through, and is noted in the WAL right after it (`application_id`). The
    database's must not be the lower one. Read in this order: a checkpoint beside makes the second one higher. Both are 0 in a
    ledger of a release that numbered none.
    """
    try:
        with _translated():
            noted = connection.pragma("application_id")
            # Through SQLite: a plain open and close would drop this process's locks.
            _, raw = connection.read("main", 0, USER_VERSION_AT, 4)
        number = int.from_bytes(raw, "big")
        if noted > number and noted - number < NUMBERS // 2:
            raise LedgerCorruptError(
                f"{path.name} is older than {path.name}-wal beside it: it knows checkpoint {number}, the WAL follows {noted}; "
                "nobody trades until both are restored from one backup, or moved away"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
