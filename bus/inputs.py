"""A ring of recent decisions' inputs, exactly what each decision was given. It may be lost."""

from __future__ import annotations

from pathlib import Path

import apsw

from bus.errors import LedgerError

KEEP = 2000


class InputsRing:
    """Keeps the newest KEEP records. Written without waiting for the disk. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises LedgerError when the file cannot be used; remove it then, nothing depends on it."""
        try:
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(250)
            self._connection.pragma("journal_mode", "WAL")
            self._connection.pragma("synchronous", "OFF")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS inputs "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, tick INTEGER NOT NULL, epoch INTEGER NOT NULL, body TEXT NOT NULL)"
            )
        except apsw.Error as error:
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
