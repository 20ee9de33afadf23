"""The durable record: one SQLite file, written in groups by one thread.

Whatever a request changes is buffered with ``add``; ``durable`` waits until everything buffered so far is on disk
(WAL, synchronous=FULL). While one commit waits for the disk, the next group gathers, so that many requests share one fsync.
No answer leaves before its rows are durable: a killed exchange has lost nothing that it acknowledged.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.resources
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from paper.engine.feed import Tick
from paper.errors import PaperError, UsageError

Value = str | int | float | bytes | None
Row = tuple[Value, ...]
_FILE = "paper.db"
_BUSY_MS = 5_000
# Columns that files of older releases lack: table, column, type. An older release passes over what it does not know.
_ADDED = (
    ("trades", "fate", "TEXT NOT NULL DEFAULT 'confirmed'"),
    ("trades", "settle_ms", "INTEGER NOT NULL DEFAULT 1000"),
    ("trades", "reversed_ms", "INTEGER"),
    ("trades", "match_id", "TEXT NOT NULL DEFAULT ''"),
    ("trades", "limit_price", "INTEGER NOT NULL DEFAULT 0"),
    ("markets", "tick", "INTEGER NOT NULL DEFAULT 10000"),
)
# What the rows of older releases, which know no trades of several makers, say in the added columns.
_FILL = "UPDATE trades SET match_id = trade_id, limit_price = taker_price WHERE match_id = ''"
_VERSION = 4  # by which a release that counts changes knows that it has nothing to add


class RecordError(PaperError):
    """The record could not be written; the exchange must stop."""


class Record:
    """The record of one data folder, for one process.

    Raises:
        UsageError: the folder cannot be written, or another exchange uses it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / _FILE
        self._pending: list[tuple[str, Sequence[Value]]] = []
        self._callbacks: list[Callable[[], None]] = []
        self._group: asyncio.Future[None] | None = None  # resolved when what is buffered now is on disk
        self._in_flight: asyncio.Future[None] | None = None  # the same for what is being written
        self._writing: asyncio.Task[None] | None = None
        self._failed: str | None = None
        self._inserts: dict[tuple[str, ...], str] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record")
        self._lock: int | None = None
        if read_only:
            if not self.path.exists():
                raise UsageError(f"{self.path} does not exist; give the data folder of an exchange with --data")
            self._reader = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._writer = apsw.Connection(str(self.path))
            self._prepare(self._writer)
            self._reader = apsw.Connection(str(self.path))
        except BlockingIOError as error:
            raise UsageError(
                f"data folder {folder} is in use by another exchange; stop it or give another --data"
            ) from error
        except (OSError, apsw.Error) as error:
            raise UsageError(
                f"data folder {folder} cannot be used: {error}; give a writable folder with --data"
            ) from error
        self._reader.set_busy_timeout(_BUSY_MS)

    @staticmethod
    def _prepare(connection: apsw.Connection) -> None:
        connection.set_busy_timeout(_BUSY_MS)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        for table, column, kind in _ADDED:
            there = {str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")}
            if there and column not in there:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        connection.execute(importlib.resources.files("paper").joinpath("schema.sql").read_text(encoding="utf-8"))
        connection.execute(_FILL)
        connection.pragma("user_version", _VERSION)

    def add(self, sql: str, values: Sequence[Value]) -> None:
        """Buffer one statement for the next commit."""
        self._pending.append((sql, values))

    def insert(self, table: str, values: dict[str, Value]) -> None:
        """Buffer one row."""
        form = (table, *values)
        sql = self._inserts.get(form)
        if sql is None:
            sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
            self._inserts[form] = sql
        self.add(sql, [*values.values()])

    def after(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once everything buffered so far is durable; somebody must wait for that."""
        self._callbacks.append(callback)

    async def durable(self) -> None:
        """Wait until everything buffered so far is on disk.

        Raises:
            RecordError: the disk refused; nothing more is written.
        """
        if self._failed:
            raise RecordError(self._failed)
        if self._pending or self._callbacks:
            if self._group is None:
                self._group = asyncio.get_running_loop().create_future()
            group = self._group
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_groups(), name="record")
            await asyncio.shield(group)
        elif self._in_flight is not None:
            await asyncio.shield(self._in_flight)

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        failed: str | None = f"{self.path} is written no more"  # unless this ends as it should
        try:
            while self._group is not None:
                group, rows, callbacks = self._group, self._pending, self._callbacks
                self._group, self._in_flight, self._pending, self._callbacks = None, group, [], []
                self._execute(rows)
                await loop.run_in_executor(self._thread, self._commit)
                group.set_result(None)
                for callback in callbacks:
                    loop.call_soon(callback)
            failed = None
        except apsw.Error as error:
            failed = f"{self.path} cannot be written: {error}"
        finally:
            self._failed = failed
            for waiting in (self._in_flight, self._group):
                if failed and waiting is not None and not waiting.done():
                    waiting.set_exception(RecordError(failed))
            self._writing = self._in_flight = None

    def _execute(self, rows: list[tuple[str, Sequence[Value]]]) -> None:
        """Run statements in a transaction that ``_commit`` ends.

        On the loop's thread: they touch memory alone, and a thread of their own would wait for the interpreter lock at each.
        """
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in rows:
                self._writer.execute(sql, values)
        except apsw.Error:
            self._writer.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        """Wait for the disk; in a thread, so that others are served meanwhile."""
        self._writer.execute("COMMIT")

    def query(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Read rows that are durable already."""
        return self._reader.execute(sql, values).fetchall()

    def query_dicts(self, sql: str, values: Sequence[Value] = ()) -> list[dict[str, Value]]:
        """Read rows as dictionaries."""
        cursor = self._reader.execute(sql, values)
        # The names are known only while rows are left.
        return [dict(zip((column[0] for column in cursor.get_description()), row, strict=True)) for row in cursor]

    def meta(self, key: str) -> str | None:
        """Read a setting of this record."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", [key])
        return str(rows[0][0]) if rows else None

    def remember(self, key: str, fresh: str) -> str:
        """Return a setting of this record; the first time, set it to ``fresh``."""
        value = self.meta(key)
        if value is None:
            self.add("INSERT INTO meta VALUES (?, ?)", (key, fresh))
        return value or fresh

    def write_now(self) -> None:
        """Commit what is buffered, on the caller's thread; only before the loop runs and after it ended."""
        rows, self._pending = self._pending, []
        self._execute(rows)
        self._commit()

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._thread.shutdown(wait=True)
        self._reader.close()
        if self._lock is not None:
            if not self._failed:
                self.write_now()
            self._writer.close()
            os.close(self._lock)


# Prices in the record: one row a second, for a day; what a restart goes on from.


_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_KEPT_MS = 90_000_000
_READ_MS = 60_000_000  # as far back as a thousand one-minute candles reach
_READ_FINE_MS = 1_000_000  # every second of the last thousand


class PriceLog:
    """Writes the prices of whole seconds, and reads them at a start."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def write(self, ticks: list[Tick]) -> None:
        """Record the ticks of whole seconds."""
        seconds: dict[int, list[Tick]] = {}
        for tick in ticks:
            if tick.time_ms % _SECOND_MS == 0:
                seconds.setdefault(tick.time_ms, []).append(tick)
        for time_ms, group in seconds.items():
            lead = json.dumps({tick.asset: tick.price for tick in group})
            settlement = json.dumps({tick.asset: tick.settlement for tick in group})
            self._record.add("INSERT OR REPLACE INTO prices VALUES (?, ?, ?)", (time_ms, lead, settlement))
            if time_ms % _MINUTE_MS == 0:
                self._record.add("DELETE FROM prices WHERE time_ms < ?", (time_ms - _KEPT_MS,))

    def read(self, now_ms: int) -> list[Tick]:
        """Return what is recorded, oldest first: each second of late, and quarters of a minute before."""
        sql = (
            "SELECT time_ms, lead, settlement FROM prices "
            "WHERE time_ms > ? AND (time_ms > ? OR time_ms % 15000 = 0) ORDER BY time_ms"
        )
        ticks: list[Tick] = []
        for time_ms, lead, settlement in self._record.query(sql, [now_ms - _READ_MS, now_ms - _READ_FINE_MS]):
            assert isinstance(time_ms, int), "times are integers"
            settled = json.loads(str(settlement))
            for asset, price in json.loads(str(lead)).items():
                ticks.append(Tick(time_ms, asset, price, settled[asset], None))
        return ticks
