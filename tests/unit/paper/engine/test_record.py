"""The record: what is durable, and what a reader sees."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from paper.engine.record import Record, RecordError
from paper.errors import UsageError


def _add(record: Record, number: int) -> None:
    record.add("INSERT INTO meta VALUES (?, ?)", (f"row {number}", "x"))


async def test_durable_means_readable_by_others(tmp_path: Path) -> None:
    """After ``durable``, another connection reads everything that was buffered, and callbacks have been called after it."""
    record = Record(tmp_path)
    seen: list[int] = []

    async def change(number: int) -> None:
        _add(record, number)
        record.after(lambda: seen.append(number))
        await record.durable()
        other = Record(tmp_path, read_only=True)
        assert other.meta(f"row {number}") == "x"
        other.close()

    await asyncio.gather(*(change(number) for number in range(50)))
    await asyncio.sleep(0)
    assert seen == list(range(50))
    record.close()


async def test_commits_are_grouped(tmp_path: Path) -> None:
    """A hundred changes that wait together share few commits."""
    record = Record(tmp_path)
    commits = 0
    commit = record._commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        commit()

    record._commit = counted  # type: ignore[method-assign]  # counting only

    async def change(number: int) -> None:
        _add(record, number)
        await record.durable()

    await asyncio.gather(*(change(number) for number in range(100)))
    assert 1 <= commits <= 3
    record.close()


async def test_failed_write_is_told_and_stays(tmp_path: Path) -> None:
    """A statement that fails is raised to whoever waits, and everything after it is refused."""
    record = Record(tmp_path)
    record.add("INSERT INTO nowhere VALUES (1)", ())
    with pytest.raises(RecordError, match=r"paper\.db cannot be written"):
        await record.durable()
    _add(record, 1)
    with pytest.raises(RecordError):
        await record.durable()
    record.close()


def test_one_folder_one_exchange(tmp_path: Path) -> None:
    """A second exchange on the same folder is refused; after the first is closed it may have it."""
    first = Record(tmp_path)
    with pytest.raises(UsageError, match="in use by another exchange"):
        Record(tmp_path)
    first.close()
    Record(tmp_path).close()


def test_file_of_an_older_release_is_brought_up_to_date(tmp_path: Path) -> None:
    """Columns that an older file lacks are added with their defaults, and an older release in between does no harm."""
    with contextlib.closing(apsw.Connection(str(tmp_path / "paper.db"))) as older:
        older.execute(
            "CREATE TABLE markets (condition_id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, up TEXT NOT NULL UNIQUE,"
            " down TEXT NOT NULL UNIQUE, end_ms INTEGER NOT NULL, reference REAL, final REAL, winner INTEGER,"
            " resolved_ms INTEGER) WITHOUT ROWID"
        )
        older.execute("INSERT INTO markets (condition_id, slug, up, down, end_ms) VALUES ('c', 's', 'u', 'd', 1)")
    for version in (3, 2):
        record = Record(tmp_path)
        assert record.query("SELECT slug, tick FROM markets") == [("s", 10_000)]
        record._writer.pragma("user_version", version)
        record.close()
