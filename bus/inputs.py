"""A ring of recent decisions' inputs, exactly what each decision was given. It may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from bus.documents import check_database
from bus.errors import LedgerError
from bus.layout import LEASE

KEEP = 5000
"""An hour of polls every 5 s is 720 records of 16 slots each, and leaves room for those between polls."""
_AT_ONCE = 50
MOST_COPIED = 1 << 30


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One record as it was written. tick: UTC ms. body: JSON, of whichever release wrote it."""

    tick: int
    epoch: int
    body: str


class InputsRing:
    """Keeps the newest KEEP records. Written without waiting for the disk. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises LedgerError when the file cannot be used; remove it then, nothing depends on it."""
        try:
            check_database(path)
            self._connection = apsw.Connection(
                str(path.parent.resolve() / path.name),
                flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOFOLLOW,
            )
            self._connection.set_busy_timeout(250)
            self._connection.pragma("journal_mode", "WAL")
            self._connection.pragma("synchronous", "OFF")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS inputs "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, tick INTEGER NOT NULL, epoch INTEGER NOT NULL, body TEXT NOT NULL)"
            )
        except (apsw.Error, OSError) as error:
            raise LedgerError(
                f"{path.name} cannot be used ({error}); remove it, it only holds recent inputs"
            ) from error

    def add(self, tick: int, epoch: int, body: str) -> None:
        """Add one record (JSON); the oldest falls out. Raises LedgerError."""
        try:
            with self._connection:
                self._connection.execute("INSERT INTO inputs(tick, epoch, body) VALUES (?,?,?)", (tick, epoch, body))
                self._connection.execute(
                    "DELETE FROM inputs WHERE id <= ?", (self._connection.last_insert_rowid() - KEEP,)
                )
        except apsw.Error as error:
            raise LedgerError(f"the ring of inputs could not be written ({error})") from error

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def read_inputs(path: Path, last_ms: int) -> Iterator[InputRecord]:
    """The records of the last `last_ms` ms before the newest one, oldest first; in short reads, while the bot writes.

    Raises LedgerError: there is no such file, or it cannot be read.
    """
    if not path.exists():
        raise LedgerError(f"there is no {path.name} on this bus; a bot writes it as soon as it trades")
    try:
        # Readers of WAL write its index.
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        connection = apsw.Connection(str(_of_whom(path)), flags=flags)
        try:
            connection.set_busy_timeout(1000)
            newest: Any = connection.execute("SELECT CAST(max(tick) AS INTEGER) FROM inputs").get
            after = 0
            while newest is not None:
                rows: list[Any] = connection.execute(
                    "SELECT id, CAST(tick AS INTEGER), epoch, body FROM inputs WHERE id > ? AND tick > ? ORDER BY id LIMIT ?",
                    (after, newest - last_ms, _AT_ONCE),
                ).fetchall()
                if not rows:
                    return
                after = rows[-1][0]
                for _, tick, epoch, body in rows:
                    yield InputRecord(tick, epoch, str(body))
        finally:
            connection.close()
    except (apsw.Error, OSError) as error:
        raise LedgerError(f"{path.name} cannot be read ({error}); remove it, it only holds recent inputs") from error


def copy_inputs(path: Path, target: Path) -> None:
    """Copy the ring as of one moment, to be read without a file beside it; pages alone, nothing in it is run.

    Raises LedgerError: it cannot be read, is larger than MOST_COPIED, or the copy cannot be written.
    """
    try:
        check_database(path)
        if (size := path.lstat().st_size) > MOST_COPIED:
            raise LedgerError(f"{path.name} has {size} bytes, expected at most {MOST_COPIED}; remove it")
        source = apsw.Connection(
            str(path.parent.resolve() / path.name), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        )
        try:
            source.set_busy_timeout(1000)
            copy = apsw.Connection(str(target))
            try:
                with copy.backup("main", source, "main") as backup:
                    backup.step()
                copy.pragma("journal_mode", "DELETE")
            finally:
                copy.close()
        finally:
            source.close()
    except (apsw.Error, OSError) as error:
        raise LedgerError(f"{path.name} cannot be copied ({error})") from error


def _of_whom(path: Path) -> Path:
    """The file itself. On a bus it is no link; a deployer hands a comparison a folder that holds nothing but a link to it."""
    if (path.parent / LEASE).exists():
        check_database(path)
        return path.parent.resolve() / path.name
    return path.resolve()
