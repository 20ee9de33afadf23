"""The hook that shows a push its deploy, run as git runs it."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from pathlib import Path

import pytest

from bus import Logging, SystemClock
from deployer.commands.init import HOOK
from deployer.push.log import PushLog
from tests import patience
from tests.e2e.rig import until

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


def test_a_push_is_never_silent_for_more_than_five_seconds(folder: Path) -> None:
    """Whatever a step takes: it is said what goes on, and for how long. A line of a build is no step."""
    logging = Logging(os.open(os.devnull, os.O_WRONLY))
    log = PushLog(folder, SystemClock(), logging.log, "main")
    log.beat()
    push_it = subprocess.Popen(
        ["sh", str(HOOK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=folder,
        env={"PATH": os.environ["PATH"], "GIT_DIR": str(folder)},
    )  # fmt: skip
    assert push_it.stdin is not None
    assert push_it.stdout is not None
    push_it.stdin.write(f"{'0' * 40} {SHA} refs/heads/main\n")
    push_it.stdin.close()
    pushes = folder / "never-sleeps" / "pushes"
    name = until("the push", lambda: next((p.name for p in pushes.iterdir() if p.name[0] != "."), ""))
    written = pushes / f"{name}.log"
    written.write_text("-    0.06 s  building\n-            | 1.00 s  done\n")
    seen: list[tuple[float, str]] = []
    while sum("still" in line for _, line in seen) < 2:
        seen.append((patience.now(), push_it.stdout.readline().rstrip()))
        log.beat()
    with written.open("a") as more:
        more.write("= CONFIRMED\n")
    assert push_it.wait(30) == 0
    lines = [line for _, line in seen]
    assert lines[0].endswith("0.06 s  building")
    assert [line for line in lines if "still" in line][-1].startswith("           still building after ")
    assert max(after - before for (before, _), (after, _) in itertools.pairwise(seen)) <= 5
    push_it.stdout.close()
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
