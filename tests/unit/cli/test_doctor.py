"""`ns doctor` finds each fault that is planted in a checkout, and says a cure; on a sound one it finds nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bus import Status, SystemClock, open_bus
from bus import documents as bus_documents
from bus.documents import Stamp
from bus.lease import FileLock
from cli import doctor
from cli.doctor import LOOKS, examine, report
from tests.unit.cli.venue import Venue, serving

ROOT = Path(__file__).parents[3]
LACKS_A_RUN = {"deployer", "trader"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit, and nothing that runs."""
    root = tmp_path / "checkout"
    (root / "bin").mkdir(parents=True)
    for name in ("runtime", "with-config"):
        shutil.copy(ROOT / "bin" / name, root / "bin" / name)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True, timeout=60)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True, timeout=60)
    open_bus(root / "volumes" / "bus")
    (root / "volumes" / "bus" / "runtime").write_text("process\n")
    return root


def environment(**more: str) -> dict[str, str]:
    """Ports that nobody has, and processes, since the Engine is not what is looked at."""
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "RUNTIME": "process"}
    return {**plain, "PANEL_PORT": str(free_port()), "PAPER_PORT": str(free_port()), **more}


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


def bad(checkout: Path, **more: str) -> dict[str, str]:
    """What is found, by code."""
    found = examine(checkout, environment(**more))
    assert all(finding.cure for finding in found if not finding.good), "each says what to do"
    return {finding.code: finding.text for finding in found if not finding.good}


def test_a_sound_checkout_lacks_nothing_but_a_run(checkout: Path) -> None:
    """Before the first run only what runs is missing, and the report says so in words and as JSON."""
    assert set(bad(checkout)) == LACKS_A_RUN
    found = examine(checkout, environment())
    assert len(found) == len(LOOKS)
    assert json.loads(report(found, as_json=True))[0]["code"] == "settings"
    assert report(found, as_json=False).splitlines()[-1] == f"2 of {len(LOOKS)} looks found something"


def halt_it(root: Path) -> dict[str, str]:
    (root / "volumes" / "bus" / "halt").touch()
    return {}


def open_the_bus(root: Path) -> dict[str, str]:
    (root / "volumes" / "bus").chmod(0o777)
    return {}


def lose_the_branch(root: Path) -> dict[str, str]:
    (root / "volumes" / "bus" / "watched").write_text(f"repository {root}\nbranch gone\nfolder x\n")
    return {}


def fail_an_fsync(root: Path) -> dict[str, str]:
    (root / "volumes" / "bus" / "fsync-failed").touch()
    return {}


def open_a_key(root: Path) -> dict[str, str]:
    (root / "key").write_text("0x" + "a" * 64)
    (root / "key").chmod(0o644)
    return {"BOT_KEY_FILE": "key"}


def write_an_odd_file(root: Path) -> dict[str, str]:
    (root / "never-sleeps.toml").write_text("[bot]\npoll = 1\n")
    return {}


def ask_for_containers(root: Path) -> dict[str, str]:
    return {"RUNTIME": "docker"}  # the bus belongs to processes


PLANTED: list[tuple[str, str, Callable[[Path], dict[str, str]]]] = [
    ("halt", "halt", halt_it),
    ("permissions", "every user may write", open_the_bus),
    ("branch", "'gone' of", lose_the_branch),
    ("fsync", "failed to keep", fail_an_fsync),
    ("keys", "others may read", open_a_key),
    ("keys", "which is no file", lambda _root: {"BOT_KEY_FILE": "nowhere"}),
    ("keys", "PANEL_NOTIFY_FILE names", lambda _root: {"PANEL_NOTIFY_FILE": "nowhere"}),
    ("keys", "BOT_KEY_FILE is not set", lambda _root: {"BOT_VENUE": "live", "BOT_CLOB_URL": "http://127.0.0.1:1"}),
    ("config", "has no setting 'poll'", write_an_odd_file),
    ("settings", "BOT_POLL_INTERVAL", lambda _root: {"BOT_POLL_INTERVAL": "soon"}),
    ("engine", "belongs to the runtime process", ask_for_containers),
    ("disk", "MB are free", lambda _root: {"DEPLOYER_MIN_FREE": str(1 << 20)}),
    ("clock", "does not answer", lambda _root: {"BOT_VENUE": "live", "BOT_CLOB_URL": "http://127.0.0.1:1"}),
]


@pytest.mark.parametrize(("code", "says", "plant"), PLANTED, ids=[f"{row[0]}-{row[1]}" for row in PLANTED])
def test_a_planted_fault_is_found_with_its_cure(
    checkout: Path, code: str, says: str, plant: Callable[[Path], dict[str, str]]
) -> None:
    """Each fault is named by its own look."""
    assert code not in bad(checkout)
    more = plant(checkout)
    assert says in bad(checkout, **more)[code]


def test_a_port_that_another_has_is_found(checkout: Path) -> None:
    """Whoever listens on the panel's port is in the way, unless it is our own panel."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in bad(checkout, PANEL_PORT=port)["ports"]


@pytest.mark.parametrize(("offset_s", "found"), [(0.0, False), (-3.0, True), (3600.0, True)])
def test_a_clock_that_differs_from_the_venues_is_found(checkout: Path, offset_s: float, found: bool) -> None:
    """More than two seconds apart are found; less is no fault."""
    with serving(Venue(offset_s)) as url:
        assert ("clock" in bad(checkout, BOT_VENUE="live", BOT_CLOB_URL=url, BOT_KEY_FILE="")) is found


def test_a_trader_that_is_silent_or_deaf_is_found(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old status, a stream that is not connected and entries that are closed are each said in the bot's own words."""
    bus = open_bus(checkout / "volumes" / "bus")
    lock = FileLock(bus.deployer_lock)
    assert lock.try_lock()
    monkeypatch.setattr(doctor, "LIMIT_S", 1.0)
    try:
        status = Status(epoch=1, instance="a", sha="b", color="blue", since_ms=0, interval_ms=1000)
        now = SystemClock().wall_ms()
        bus_documents.write(bus.status, status, Stamp("a", 1, now, 1), durable=False)
        assert not LACKS_A_RUN & set(bad(checkout))
        closed = status.model_copy(update={"entries": "the venue is cancel-only"})
        bus_documents.write(bus.status, closed, Stamp("a", 2, now, 1), durable=False)
        assert "cancel-only" in bad(checkout)["feeds"]
        bus_documents.write(bus.status, status, Stamp("a", 3, now - 60_000, 1), durable=False)
        assert " s old" in bad(checkout)["trader"]  # 60, or as many more as a busy machine took
    finally:
        lock.unlock()
