"""The ledger's base on one connection: append-only, fenced, claimed and completed, its identity, its reserve."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from bus import (
    Anchor,
    FencedError,
    FsyncFailedError,
    InputsRing,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
    TickTakenError,
    WrongLedgerError,
    inputs,
)
from ledger import Identity, LastState, Ledger, append_only, connection
from tests.unit.bus.frozen import IDENTITY, complete, release, take

WORKERS_TABLE = (
    "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, text TEXT NOT NULL UNIQUE) STRICT;"
    + append_only("notes")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger will be."""
    return tmp_path / "ledger.db"


def filled(path: Path) -> Ledger:
    """A ledger with a row in every table, under epoch 2."""
    ledger = Ledger.hold(path, IDENTITY, WORKERS_TABLE)
    release(ledger, take(ledger))
    epoch = take(ledger)
    ledger.fasten(epoch, Anchor(5000, 100, "b", 5000))
    ledger.claim(5000, epoch, 1)
    complete(ledger, 5000, epoch)
    ledger.miss(10_000, 20_000, 3, epoch, "down")
    ledger.apply_control(4, epoch, body='{"a": 1}', refused="[]", wall_ms=1)
    ledger.execute("INSERT INTO notes(epoch, text) VALUES (?, 'one')", (epoch,))
    return ledger


def rows(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the ledger."""
    names = [
        str(name) for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    ]
    return {name: list(ledger.execute(f"SELECT * FROM {name}")) for name in names}


def test_rows_are_only_appended(path: Path) -> None:
    """In every table UPDATE, DELETE, REPLACE and upsert fail, for the worker's own tables as for the base's."""
    with filled(path) as ledger:
        before = rows(ledger)
        tables = [name for name in before if name != "reserve"]
        assert len(tables) == 9
        for table in tables:
            assert before[table], table
            columns = [str(row[1]) for row in ledger.execute(f"PRAGMA table_info({table})")]
            for sql in (
                f"UPDATE {table} SET {columns[-1]} = {columns[-1]}",
                f"DELETE FROM {table}",
                f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
                f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
            ):
                with pytest.raises(LedgerError):
                    ledger.execute(sql)
        with pytest.raises(LedgerError, match="append-only"):
            ledger.execute(
                "INSERT INTO notes(epoch, text) VALUES (2, 'one') ON CONFLICT (text) DO UPDATE SET text = 'two'"
            )
        assert rows(ledger) == before


@pytest.mark.parametrize("number", [0, 1, 2, 4, -1, None])
def test_only_the_newest_epoch_plus_one_is_accepted(path: Path, number: int | None) -> None:
    """Epochs rise by one, whatever a process believes."""
    with filled(path) as ledger, pytest.raises(LedgerError, match=r"newest epoch \+ 1|NOT NULL"):
        ledger.execute(
            "INSERT INTO epochs(epoch, instance, sha, color, request, wall_ms, boot_ms, boot_id) "
            "VALUES (?, 'i', 's', 'c', '', 1, 1, 'b')",
            (number,),
        )


def test_nothing_is_written_under_an_epoch_that_is_over(path: Path) -> None:
    """Every kind of row of an older or of a released epoch is refused as fenced, even where the tick is completed already."""
    with filled(path) as ledger:
        ledger.claim(25_000, 2, 1)
        release(ledger, 2, "h1")
        for _ in range(2):
            before = rows(ledger)
            writes: tuple[Callable[[], object], ...] = (
                lambda: ledger.claim(30_000, 2, 1),
                lambda: ledger.claim(5000, 2, 1),
                lambda: complete(ledger, 25_000, 2),
                lambda: complete(ledger, 5000, 2),
                lambda: complete(ledger, 99_000, 2),
                lambda: ledger.miss(30_000, 30_000, 1, 2, "x"),
                lambda: ledger.fasten(2, Anchor(1, 1, "b", 1)),
                lambda: ledger.apply_control(5, 2, body="{}", refused="", wall_ms=1),
                lambda: ledger.apply_control(1, 2, body="{}", refused="", wall_ms=1),
                lambda: release(ledger, 2),
                lambda: ledger.execute("INSERT INTO notes(epoch, text) VALUES (2, 'late')"),
                lambda: ledger.execute("INSERT OR IGNORE INTO notes(epoch, text) VALUES (2, 'late')"),
                lambda: ledger.execute("INSERT INTO notes(epoch, text) VALUES (99, 'early')"),
            )
            for write in writes:
                with pytest.raises(FencedError):
                    write()
            assert rows(ledger) == before
            take(ledger)  # the second round: not released only, but older


def test_a_tick_is_completed_at_most_once_and_only_when_claimed(path: Path) -> None:
    """A dead epoch's claim is no hindrance; a completed tick is; completing needs a claim of the same epoch."""
    with Ledger.hold(path, IDENTITY) as ledger:
        first = take(ledger)
        ledger.claim(5000, first, 1)
        second = take(ledger)
        with pytest.raises(LedgerError, match="not claimed under this epoch"):
            complete(ledger, 5000, second)
        ledger.claim(5000, second, 1)
        complete(ledger, 5000, second)
        with pytest.raises(TickTakenError):
            ledger.claim(5000, take(ledger), 1)
        with pytest.raises(TickTakenError):
            complete(ledger, 5000, take(ledger))
        assert ledger.execute("SELECT tick, epoch FROM polls_completed") == [(5000, second)]


def test_generations_applied_only_rise(path: Path) -> None:
    """An older or the same generation is refused, and the newest is what a taker starts from."""
    with filled(path) as ledger:
        for generation in (4, 3):
            with pytest.raises(FencedError, match="generations applied only rise"):
                ledger.apply_control(generation, 2, body="{}", refused="", wall_ms=1)
        ledger.apply_control(7, take(ledger), body='{"b": 2}', refused="", wall_ms=1)
        applied = ledger.applied_control()
        assert applied is not None
        assert (applied.generation, applied.body) == (7, '{"b": 2}')


def test_a_transaction_happens_wholly_or_not_at_all(path: Path) -> None:
    """An error in the middle, of the ledger or of the caller, undoes what came before it, and the ledger goes on."""
    with filled(path) as ledger:
        before = rows(ledger)

        def claim_and_fail(second: Callable[[], object]) -> None:
            with ledger.transaction():
                ledger.claim(30_000, 2, 1)
                second()

        with pytest.raises(FencedError):
            claim_and_fail(lambda: ledger.claim(30_000, 1, 1))
        with pytest.raises(ZeroDivisionError):
            claim_and_fail(lambda: 1 / 0)
        assert rows(ledger) == before
        with ledger.transaction():
            ledger.claim(30_000, 2, 1)
            with pytest.raises(LedgerError), ledger.transaction():
                raise AssertionError("transactions do not nest")
            complete(ledger, 30_000, 2)
        assert ledger.last_tick() == 30_000


def test_what_a_taker_reads(path: Path) -> None:
    """The newest epoch, anchor, tick and state, and which requests are spent, are read back as written."""
    with filled(path) as ledger:
        newest = ledger.newest_epoch()
        assert newest is not None
        assert (newest.epoch, newest.instance, newest.released) == (2, "i", False)
        assert (ledger.is_newest(2), ledger.is_newest(1), ledger.is_newest(3)) == (True, False, False)
        assert ledger.anchor() == Anchor(5000, 100, "b", 5000)
        assert ledger.last_tick() == 20_000
        assert ledger.last_state() == LastState("{}", 1, "b")
        assert (ledger.is_spent("r"), ledger.is_spent("other")) == (True, False)
        release(ledger, 2, "h1")
        assert not ledger.is_newest(2)
        assert ledger.is_spent("h1")


def test_the_newest_evaluation_state_is_the_releases_until_a_later_epoch_polled(path: Path) -> None:
    """A release's state comes after its epoch's polls, stays through an epoch without a poll, and ends with the next poll."""
    with filled(path) as ledger:
        ledger.release(2, request="r2", reason="handover", wall_ms=1, boot_ms=7, state="passed on")
        assert ledger.last_state() == LastState("passed on", 7, "b")
        take(ledger)
        assert ledger.last_state() == LastState("passed on", 7, "b")
        ledger.claim(30_000, 3, 9)
        complete(ledger, 30_000, 3)
        assert ledger.last_state() == LastState("{}", 9, "b")
        release(ledger, 3, "r3")
        assert ledger.last_state() == LastState("{}", 9, "b"), "a release that says nothing takes nothing away"


def test_a_ledger_belongs_to_one_account(path: Path) -> None:
    """Another venue, chain or wallet is refused in one line, by the holder and by a reader that asks."""
    assert Ledger.reader(path, IDENTITY) is None
    filled(path).close()
    for other in (
        Identity("live", "137", "0xwallet"),
        Identity("paper", "1", "0xwallet"),
        Identity("paper", "137", "0x"),
    ):
        for opening in (Ledger.hold, Ledger.reader):
            with pytest.raises(WrongLedgerError, match="belongs to venue paper, chain 137") as caught:
                opening(path, other)
            assert "\n" not in str(caught.value)
    with Ledger.hold(path, IDENTITY) as ledger:
        assert ledger.newest_epoch() is not None


def test_a_reader_cannot_write_and_sees_each_commit_at_once(path: Path) -> None:
    """Readers see what is committed, never write, and come and go without touching the WAL."""
    with filled(path) as holder:
        for epoch in range(3, 6):
            take(holder)
            reader = Ledger.reader(path, IDENTITY)
            assert reader is not None
            with reader:
                newest = reader.newest_epoch()
                assert newest is not None
                assert newest.epoch == epoch
                with pytest.raises(LedgerError, match="readonly"):
                    take(reader)
    wal = path.with_name("ledger.db-wal")
    assert wal.stat().st_size > 0
    reader = Ledger.reader(path)
    assert reader is not None
    reader.close()
    assert wal.stat().st_size > 0, "the last one to close must not delete what was never checkpointed"


@pytest.mark.parametrize("content", [b"not a database, surely" * 300, b"SQLite format 3\x00" + b"\x07" * 8000])
def test_a_file_that_is_no_ledger_is_corrupt(path: Path, content: bytes) -> None:
    """Junk in the ledger's place is called damage by everybody, and is left as it is."""
    path.write_bytes(content)
    for opening in (Ledger.hold, Ledger.reader):
        with pytest.raises(LedgerCorruptError):
            opening(path, IDENTITY)
    assert path.read_bytes() == content


@pytest.mark.parametrize("emptied", [True, False])
def test_a_lost_database_beside_its_wal_is_damage_and_not_a_new_ledger(path: Path, emptied: bool) -> None:
    """A truncated or missing ledger.db is refused, and opening it does not delete the WAL that holds its commits."""
    filled(path).close()
    wal = path.with_name("ledger.db-wal")
    held = wal.read_bytes()
    path.write_bytes(b"") if emptied else path.unlink()
    for opening in (Ledger.hold, Ledger.reader):
        with pytest.raises(LedgerCorruptError, match="missing or empty"):
            opening(path, IDENTITY)
    assert wal.read_bytes() == held


def test_a_mark_of_a_failed_fsync_keeps_everybody_from_taking(path: Path) -> None:
    """While the file fsync-failed is there nobody holds the ledger; reading goes on; removing the file ends it."""
    filled(path).close()
    mark = path.with_name("fsync-failed")
    mark.touch()
    with pytest.raises(FsyncFailedError, match=f"then remove {mark}"):
        Ledger.hold(path, IDENTITY)
    reader = Ledger.reader(path, IDENTITY)
    assert reader is not None
    reader.close()
    mark.unlink()
    Ledger.hold(path, IDENTITY).close()


def test_the_reserve_is_made_once_and_used_up(path: Path) -> None:
    """The reserve is room in the WAL and free pages; ordinary rows use it up, and restoring makes it whole again."""
    with Ledger.hold(path, IDENTITY, WORKERS_TABLE) as ledger:
        epoch = take(ledger)
        assert not ledger.has_reserve()
        ledger.restore_reserve()
        assert ledger.has_reserve()
        size = path.stat().st_size
        for n in range(3):
            ledger.execute("INSERT INTO notes(epoch, text) VALUES (?, ?)", (epoch, str(n) + "x" * (1 << 20)))
        ledger.checkpoint()
        assert path.stat().st_size == size, "rows went into the free pages"
        assert not ledger.has_reserve()
        ledger.restore_reserve()
        assert ledger.has_reserve()


def test_restoring_the_reserve_never_eats_the_last_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no room for it, nothing is written: what is left is for control, status and halt."""
    with filled(path) as ledger:
        monkeypatch.setattr(connection, "ROOM_FOR_RESERVE_BYTES", 1 << 60)
        wal = path.with_name("ledger.db-wal").stat().st_size
        with pytest.raises(LedgerFullError, match="MB free"):
            ledger.restore_reserve()
        assert path.with_name("ledger.db-wal").stat().st_size == wal


def test_a_backup_is_a_whole_ledger_and_overwrites_nothing(path: Path, tmp_path: Path) -> None:
    """A copy made while the holder writes can be held like the original; a name that is taken is refused."""
    with filled(path) as ledger, ledger.transaction():
        ledger.claim(30_000, 2, 1)
        reader = Ledger.reader(path)
        assert reader is not None
        with reader:
            reader.backup(tmp_path / "copy.db")
            with pytest.raises(LedgerError, match="does not exist yet"):
                reader.backup(path)
    with Ledger.hold(tmp_path / "copy.db", IDENTITY) as copy:
        assert copy.execute("SELECT tick FROM polls_claimed") == [(5000,)]
        assert take(copy) == 3


def test_a_checkpoint_that_somebody_else_does_is_no_error(path: Path) -> None:
    """Two connections that checkpoint at once, such as a holder that was paused, cost nobody the lease."""
    with filled(path) as ledger:
        other = apsw.Connection(str(path))
        other.execute("BEGIN; SELECT * FROM epochs")  # a reader that stands still
        take(ledger)
        ledger.checkpoint()
        other.execute("COMMIT")
        other.close()
        assert ledger.is_newest(3)


def test_the_ring_of_inputs_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring holds a bounded number of records; one that cannot be used says that it may be removed."""
    monkeypatch.setattr(inputs, "KEEP", 3)
    ring = InputsRing(tmp_path / "inputs.db")
    for tick in range(10):
        ring.add(tick, 1, "{}")
    ring.close()
    with apsw.Connection(str(tmp_path / "inputs.db")) as found:
        assert found.execute("SELECT tick FROM inputs").fetchall() == [(7,), (8,), (9,)]
    (tmp_path / "bad.db").write_bytes(b"junk" * 1000)
    with pytest.raises(LedgerError, match="remove it"):
        InputsRing(tmp_path / "bad.db")
