"""The hook that shows a push its deploy, run as git runs it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from bus import Logging, SystemClock
from deployer.commands.init import HOOK
from deployer.push.log import PushLog

SHA = "1" * 40
MANY = 5_000


def push(folder: Path, refs: list[str]) -> list[str]:
    """What the pusher of these refs is told."""
    lines = "".join(f"{'0' * 40} {SHA} {ref}\n" for ref in refs)
    done = subprocess.run(
        ["sh", str(HOOK)], input=lines, capture_output=True, text=True, timeout=30, cwd=folder, check=True,
        env={"PATH": os.environ["PATH"], "GIT_DIR": str(folder)},
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A git directory that `init` prepared."""
    (tmp_path / "never-sleeps" / "pushes").mkdir(parents=True)
    return tmp_path


def test_many_refs_of_one_push_cost_no_time_each(folder: Path) -> None:
    """Thousands of tags and branches that are not watched: three are named, the others counted, and nobody is asked."""
    logging = Logging(os.open(os.devnull, os.O_WRONLY))
    log = PushLog(folder, SystemClock(), logging.log, "main")
    log.beat()
    began = time.monotonic()
    said = push(folder, ["refs/heads/try", *(f"refs/tags/v{number}" for number in range(MANY))])
    assert said[0] == "try is not deployed: the deployer watches main"
    assert said[-1] == f"and {MANY - 2} more refs are not deployed"
    assert len(said) == 4
    assert log.read(1) == ()
    # One second a ref would be an hour; this is a second.
    assert time.monotonic() - began < 20
    log.stop()
    logging.close()


def test_where_no_deployer_runs_a_push_of_many_refs_is_told_once(folder: Path) -> None:
    """Not once for each."""
    said = push(folder, [f"refs/heads/b{number}" for number in range(MANY)])
    assert said == [
        f"no deployer runs here; {SHA[:7]} is in the repository, and is deployed as soon as one runs",
        f"so are {MANY - 1} more refs",
    ]


def test_what_a_pusher_puts_in_the_folder_is_never_followed_and_never_waited_for(folder: Path, tmp_path: Path) -> None:
    """A link in place of a log makes the deployer write nowhere else, and a pipe in place of a push does not stop it."""
    logging = Logging(os.open(os.devnull, os.O_WRONLY))
    log = PushLog(folder, SystemClock(), logging.log, "main")
    pushes = folder / "never-sleeps" / "pushes"
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (pushes / "1700000000-1-1.log").symlink_to(victim)
    (pushes / "1700000000-1-1").write_text("rubbish")
    os.mkfifo(pushes / "1700000000-1-2")
    assert log.read(1) == ()
    assert victim.read_text() == "kept"
    logging.close()
