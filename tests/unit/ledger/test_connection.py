"""The connection: a database that is older than the WAL beside it is noticed, and nothing else is taken for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import LedgerCorruptError, LedgerFullError
from ledger import Ledger
from tests.unit.bus.frozen import IDENTITY, complete, take


class Trader:
    """A holder that polls and checkpoints."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger.hold(path, IDENTITY)
        self.epoch, self.tick = take(self.ledger), self.ledger.last_tick() or 0

    def poll(self, *, checkpoint: bool = True) -> None:
        """One completed poll."""
        self.tick += 5_000
        self.ledger.claim(self.tick, self.epoch, 1)
        complete(self.ledger, self.tick, self.epoch)
        if checkpoint:
            self.ledger.checkpoint()

    def dies(self) -> None:
        """As by SIGKILL: what is in the WAL stays there."""
        self.ledger.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger will be."""
    return tmp_path / "ledger.db"


def opens(path: Path) -> bool:
    """Whether a holder and a reader open it; both must say the same."""
    return _is_opened(lambda: Ledger.hold(path, IDENTITY)) and _is_opened(lambda: Ledger.reader(path))


def is_refused(path: Path) -> bool:
    """Whether neither does, and both say what to do."""
    return not any(
        _is_opened(open_it) for open_it in (lambda: Ledger.hold(path, IDENTITY), lambda: Ledger.reader(path))
    )


def _is_opened(open_it: Callable[[], Ledger | None]) -> bool:
    try:
        opened = open_it()
    except LedgerCorruptError as error:
        said = str(error)
        return "is older than ledger.db-wal beside it" not in said or "restored from one backup" not in said
    assert opened is not None
    opened.close()
    return True


@pytest.mark.parametrize("polls_after", [1, 2, 7])
@pytest.mark.parametrize("unfinished", [False, True])
def test_an_older_database_beside_a_newer_wal_is_noticed(path: Path, polls_after: int, unfinished: bool) -> None:
    """Restored from a copy while the WAL stayed: no holder and no reader opens it; with both of one time they do."""
    trader = Trader(path)
    trader.poll()
    older = path.with_name("older.db")
    shutil.copy(path, older)
    for _ in range(polls_after):
        trader.poll()
    if unfinished:
        trader.poll(checkpoint=False)
    trader.dies()
    newer = path.with_name("newer.db")
    shutil.copy(path, newer)
    assert opens(path)
    wal = path.with_name("ledger.db-wal")
    kept = wal.read_bytes()
    shutil.copy(older, path)
    assert is_refused(path)
    assert wal.read_bytes() == kept, "nothing was changed by looking"
    shutil.copy(newer, path)
    assert opens(path)


def test_whatever_moment_a_holder_dies_at_its_own_files_belong_together(path: Path) -> None:
    """Before a checkpoint, after it, before its number is noted, and again and again; also with a reader that holds it up."""
    for number in range(12):
        trader = Trader(path)
        trader.poll(checkpoint=number % 3 == 0)
        with Ledger.reader(path) or pytest.fail("there is a ledger") as reader:
            reader.execute("BEGIN")
            reader.last_tick()
            trader.poll()
            reader.execute("ROLLBACK")
        trader.poll(checkpoint=number % 2 == 0)
        trader.dies()
        assert opens(path)


def test_a_checkpoint_whose_number_could_not_be_noted_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the checkpoint went through, the ledger opens, and the next one is numbered."""
    trader = Trader(path)
    trader.poll()

    def full(*_: object) -> None:
        raise LedgerFullError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(trader.ledger, "transaction", full)
        trader.ledger.checkpoint()
    trader.poll()
    trader.dies()
    assert opens(path)


def test_a_ledger_of_a_release_without_numbers_opens(path: Path) -> None:
    """Both numbers are 0 there, also after a checkpoint that numbered nothing."""
    trader = Trader(path)
    trader.poll(checkpoint=False)
    trader.ledger._connection.wal_checkpoint()
    trader.poll(checkpoint=False)
    assert trader.ledger.integer("PRAGMA user_version") == 0
    trader.dies()
    assert opens(path)
