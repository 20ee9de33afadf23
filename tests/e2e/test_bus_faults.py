"""Files and the ledger under faults: system calls that fail, SIGKILL at any of them, and a full disk."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import Bus, Step, append_step, open_bus, read_steps
from ledger import Identity, Ledger
from tests.e2e.bus_nursery import Actor, Nursery, injected

IDENTITY = Identity("paper", "137", "0xwallet")
OLD, NEW = "old" * 1000, "new" * 2000
RENAMES = "rename,renameat,renameat2"
TAKE = [
    "take",
    [],
    {"instance": "i", "sha": "s", "color": "c", "request": "", "wall_ms": 1, "boot_ms": 1, "boot_id": "b"},
]
RELEASE = ["release", [1], {"request": "r", "reason": "handover", "wall_ms": 1, "boot_ms": 1}]


@pytest.fixture(scope="module")
def nursery_process() -> Iterator[Nursery]:
    """The process that forks the actors of this file."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def nursery(nursery_process: Nursery) -> Iterator[Nursery]:
    """Starts actors; none outlives its test."""
    yield nursery_process
    nursery_process.end_actors()


def complete(tick: int, epoch: int, state: str = "{}") -> list[Any]:
    """The order to complete a poll."""
    return ["complete", [tick, epoch], {"healthy": True, "lag_ms": 0, "duration_ms": 1, "state": state}]


def claim(tick: int, epoch: int) -> list[Any]:
    """The order to claim a poll."""
    return ["claim", [tick, epoch, 1], {}]


HOLD: list[Any] = ["hold", [], {}]


def holder(nursery: Nursery, path: Path) -> Actor:
    """An actor that holds the ledger."""
    actor = nursery.start("ledger", path)
    assert actor.event() == {"ready": True}
    assert actor.ask(HOLD) == {"ok": None}
    return actor


def opened(path: Path) -> Ledger:
    """A reader of a ledger that must be there and whole."""
    reader = Ledger.reader(path, IDENTITY)
    assert reader is not None
    assert reader.execute("PRAGMA integrity_check") == [("ok",)]
    return reader


# --- documents


@pytest.mark.parametrize(
    ("injection", "answer", "content"),
    [
        ("write:error=ENOSPC:when=1", {"errno": 28}, OLD),
        ("fsync:error=EIO:when=1", {"errno": 5}, OLD),
        (f"{RENAMES}:error=EIO:when=1", {"errno": 5}, OLD),
        ("fsync:error=EIO:when=2", {"errno": 5}, NEW),  # of the directory: the new one is there, its durability is not
        ("write:signal=KILL:when=1", None, OLD),
        ("fsync:signal=KILL:when=1", None, OLD),
        (f"{RENAMES}:signal=KILL:when=1", None, OLD),
        ("fsync:signal=KILL:when=2", None, NEW),
    ],
)
def test_a_write_that_fails_anywhere_leaves_the_old_or_the_new_content(
    tmp_path: Path, nursery: Nursery, injection: str, answer: dict[str, int] | None, content: str
) -> None:
    """Whichever system call of a write fails or is the last one, the file holds all of the old or all of the new content."""
    path = tmp_path / "document"
    actor = nursery.start("files", path)
    actor.event()
    assert actor.ask(["durable", OLD]) == {"errno": None}
    with injected(actor, injection):
        assert actor.ask(["durable", NEW]) == answer
    assert path.read_text() == content
    if answer is not None:
        assert [found.name for found in tmp_path.iterdir()] == ["document"], "a failed write leaves no temporary file"
        assert actor.ask(["durable", NEW]) == {"errno": None}
    else:
        again = nursery.start("files", path)
        again.event()
        assert again.ask(["durable", NEW]) == {"errno": None}
    assert path.read_text() == NEW


def test_an_append_killed_at_any_call_spoils_no_other_line(tmp_path: Path, nursery: Nursery) -> None:
    """A history whose writer died or failed in a line still gives all acknowledged steps, before and after it."""
    bus = open_bus(tmp_path / "bus")
    steps = [Step(deploy="d", step=f"s{n}", time_ms=n) for n in range(3)]
    append_step(bus, steps[0])
    actor = nursery.start("files", bus.deploys)
    actor.event()
    with injected(actor, "fdatasync:signal=KILL:when=1"):
        assert actor.ask(["append", '{"deploy": "d", "st']) is None
    append_step(bus, steps[1])
    actor = nursery.start("files", bus.deploys)
    actor.event()
    with injected(actor, "write:error=ENOSPC:when=1"):
        assert actor.ask(["append", '{"deploy": "d"}']) == {"errno": 28}
    append_step(bus, steps[2])
    assert read_steps(bus) == steps


# --- the ledger


def test_a_holder_killed_in_the_middle_of_commits_loses_none_that_it_acknowledged(
    tmp_path: Path, nursery: Nursery
) -> None:
    """SIGKILL at random moments, twelve holders in a row: every acknowledged poll is there, the ledger whole, epochs in order."""
    path = tmp_path / "ledger.db"
    moments = random.Random(11)
    acknowledged: set[int] = set()
    for epoch in range(1, 13):
        actor = nursery.start("ledger_forever", path, 1_000_000)
        assert actor.event() == {"epoch": epoch}
        acknowledged |= {actor.event()["tick"] for _ in range(moments.randrange(1, 60))}
        acknowledged |= {event["tick"] for event in actor.kill()}
        with opened(path) as reader:
            completed = {row[0] for row in reader.execute("SELECT tick FROM polls_completed")}
        assert acknowledged <= completed
        assert len(completed - acknowledged) <= epoch, "at most the one in the air of each holder"
    with opened(path) as reader:
        assert reader.execute("SELECT epoch FROM epochs ORDER BY rowid") == [(epoch,) for epoch in range(1, 13)]


def test_readers_that_come_and_go_cost_the_holder_nothing(tmp_path: Path, nursery: Nursery) -> None:
    """While others open, read and close the ledger all the time, the WAL stays, and SIGKILL of the holder loses nothing."""
    path = tmp_path / "ledger.db"
    actor = nursery.start("ledger_forever", path, 300)
    assert actor.event() == {"epoch": 1}
    ticks: list[int] = []
    while len(ticks) < 300:
        with opened(path) as reader:
            seen = reader.last_tick() or 0
        ticks += [actor.event()["tick"] for _ in range(5)]
        assert seen <= ticks[-1] + 300
    assert actor.events_until_dead() == []
    for _ in range(3):
        opened(path).close()
    assert path.with_name("ledger.db-wal").stat().st_size > 0
    with opened(path) as reader:
        assert reader.execute("SELECT count(*), max(tick) FROM polls_completed") == [(300, 300)]


def test_a_holder_that_slept_through_a_take_writes_nothing_more(tmp_path: Path, nursery: Nursery) -> None:
    """A paused holder that wakes after another took cannot claim, complete, apply, or release: each is fenced."""
    path = tmp_path / "ledger.db"
    old = holder(nursery, path)
    assert old.ask(TAKE) == {"ok": 1}
    assert old.ask(claim(5000, 1)) == {"ok": None}
    old.signal(signal.SIGSTOP)
    late = [
        complete(5000, 1),
        claim(10_000, 1),
        ["apply_control", [1, 1], {"body": "{}", "refused": "", "wall_ms": 1}],
        RELEASE,
    ]
    for order in late:
        old.order(order)
    new = holder(nursery, path)
    assert new.ask(TAKE) == {"ok": 2}
    assert [new.ask(claim(5000, 2)), new.ask(complete(5000, 2))] == [{"ok": None}] * 2
    old.signal(signal.SIGCONT)
    assert [old.event()["error"] for _ in late] == ["FencedError"] * len(late)
    assert old.ask(["checkpoint", [], {}]) == {"ok": None}
    assert new.ask(claim(10_000, 2)) == {"ok": None}


@pytest.mark.parametrize("injection", ["fdatasync,fsync:error=EIO:when=1", "fdatasync,fsync:error=ENOSPC:when=1"])
def test_an_fsync_that_fails_ends_the_epoch_until_a_person_looked(
    tmp_path: Path, nursery: Nursery, injection: str
) -> None:
    """The write is refused, the holder writes no more, the mark keeps others from taking, and after it the ledger is whole."""
    path = tmp_path / "ledger.db"
    actor = holder(nursery, path)
    assert actor.ask(TAKE) == {"ok": 1}
    assert actor.ask(claim(5000, 1)) == {"ok": None}
    with injected(actor, injection):
        assert actor.ask(complete(5000, 1))["error"] == "FsyncFailedError"
    for order in (claim(10_000, 1), RELEASE, ["checkpoint", [], {}], ["newest_epoch", [], {}]):
        assert actor.ask(order)["error"] == "FsyncFailedError", "an fsync is never tried again"
    mark = Bus(tmp_path).fsync_failed
    assert mark.exists()
    actor.kill()
    other = nursery.start("ledger", path)
    other.event()
    assert other.ask(HOLD)["error"] == "FsyncFailedError"
    mark.unlink()
    assert [other.ask(HOLD), other.ask(TAKE)] == [{"ok": None}, {"ok": 2}]
    with opened(path) as reader:
        assert reader.execute("SELECT tick, epoch FROM polls_claimed") == [(5000, 1)]


def test_a_checkpoint_whose_fsync_fails_is_as_grave(tmp_path: Path, nursery: Nursery) -> None:
    """Of the two fsyncs of a checkpoint each one that fails leaves the mark, and no commit is lost."""
    for number in (1, 2):
        path = tmp_path / str(number) / "ledger.db"
        path.parent.mkdir()
        actor = holder(nursery, path)
        assert actor.ask(TAKE) == {"ok": 1}
        with injected(actor, f"fdatasync,fsync:error=EIO:when={number}"):
            assert actor.ask(["checkpoint", [], {}])["error"] == "FsyncFailedError"
        assert Bus(path.parent).fsync_failed.exists()
        actor.kill()
        with opened(path) as reader:
            assert reader.is_newest(1)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync,fsync"])
def test_a_holder_killed_at_any_write_or_fsync_of_a_commit_leaves_all_or_nothing(
    tmp_path: Path, nursery: Nursery, call: str
) -> None:
    """SIGKILL before the first, second, third ... of these calls: the ledger is whole, earlier commits stand, and goes on."""
    path = tmp_path / "ledger.db"
    acknowledged: list[tuple[int]] = []
    for number in range(1, 4):
        actor = holder(nursery, path)
        assert actor.ask(TAKE) == {"ok": number}
        assert actor.ask(claim(number, number)) == {"ok": None}
        with injected(actor, f"{call}:signal=KILL:when={number}"):
            if actor.ask(complete(number, number, "x" * 20_000)) is not None:
                acknowledged.append((number,))
                assert actor.ask(["checkpoint", [], {}]) is None
        with opened(path) as reader:
            assert reader.execute("SELECT tick FROM polls_claimed") == [(n,) for n in range(1, number + 1)]
            assert set(acknowledged) <= set(reader.execute("SELECT tick FROM polls_completed"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 48 MB with nothing on it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def test_on_a_full_disk_release_take_and_small_rows_still_commit(small_disk: Path, nursery: Nursery) -> None:
    """The reserve lets an epoch end, another begin and exits be written; large rows are refused whole; room brings all back."""
    path = small_disk / "ledger.db"
    old = holder(nursery, path)
    assert old.ask(TAKE) == {"ok": 1}
    assert old.ask(["restore_reserve", [], {}]) == {"ok": None}
    assert old.ask(["has_reserve", [], {}]) == {"ok": True}
    fill(small_disk)
    assert old.ask(RELEASE) == {"ok": None}
    new = holder(nursery, path)
    assert new.ask(TAKE) == {"ok": 2}
    for tick in range(1, 201):
        assert [new.ask(claim(tick, 2)), new.ask(complete(tick, 2, "x" * 2000))] == [{"ok": None}] * 2
        if tick % 10 == 0:
            assert new.ask(["checkpoint", [], {}]) == {"ok": None}
            opened(path).close()
    assert new.ask(claim(201, 2)) == {"ok": None}
    large = ["execute", ["INSERT INTO polls_missed VALUES (1, 1, 1, 2, hex(zeroblob(16000000)), '')"], {}]
    for _ in range(2):
        answer = new.ask(large)
        assert answer["error"] == "LedgerFullError"
        assert "free some" in answer["text"]
    assert new.ask(["restore_reserve", [], {}])["error"] == "LedgerFullError"
    assert new.ask(complete(201, 2)) == {"ok": None}, "a refused row costs nothing of the reserve"
    with opened(path) as reader:
        assert reader.integer("SELECT count(*) FROM polls_completed") == 201
        assert reader.integer("SELECT count(*) FROM polls_missed") == 0
    (small_disk / "filler").unlink()
    assert new.ask(["restore_reserve", [], {}]) == {"ok": None}
    assert new.ask(["has_reserve", [], {}]) == {"ok": True}
