"""Children that outlive their parent: real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.runtimes.children import Children, last_lines
from tests.e2e.rig import ROOT, until

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """An empty folder of children; all are killed in the end."""
    made = Children(tmp_path / "units")
    yield made
    for entry in made.entries():
        made.signal(entry.name, signal.SIGKILL)


def start(children: Children, folder: Path, name: str, arguments: list[str]) -> None:
    """Start a child and wait until its pid is known."""
    children.start(
        name, arguments, environment=os.environ, directory=folder, log=folder / f"{name}.log", facts={"for": name}
    )
    until("its pid", lambda: children.has_run(name))


def test_a_child_is_found_again_with_its_facts(children: Children, tmp_path: Path) -> None:
    """Another process's view of the folder shows the child as running, and what was remembered of it."""
    start(children, tmp_path, "one", SLEEP)
    (found,) = Children(tmp_path / "units").entries()
    assert (found.name, found.running, found.facts) == ("one", True, {"for": "one"})


def test_a_child_whose_folder_was_cleared_away_is_not_taken_for_dead(children: Children, tmp_path: Path) -> None:
    """Its parent knows it by its pid then, and starts no second one; before, each look started another."""
    start(children, tmp_path, "one", SLEEP)
    pid = int((tmp_path / "units" / "one.pid").read_text())
    shutil.rmtree(tmp_path / "units")
    try:
        assert children.is_running("one")
    finally:
        os.kill(pid, signal.SIGKILL)
    until("it ended", lambda: not children.is_running("one"))


def test_a_child_outlives_its_parent(tmp_path: Path) -> None:
    """A parent that is killed right after the start leaves a child that is listed and can be ended."""
    program = (
        "import os, signal, sys; from pathlib import Path; from deployer.runtimes.children import Children\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"Children(folder / 'units').start('orphan', {SLEEP!r}, environment=os.environ, directory=folder,"
        " log=folder / 'orphan.log', facts={})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    children = Children(tmp_path / "units")
    assert children.is_running("orphan")
    until("its pid", lambda: children.has_run("orphan"))
    assert children.signal("orphan", signal.SIGKILL)
    until("it ended", lambda: not children.is_running("orphan"))


def test_a_stopped_child_runs_and_can_be_killed(children: Children, tmp_path: Path) -> None:
    """A child under SIGSTOP counts as running; SIGKILL ends it."""
    start(children, tmp_path, "stopped", SLEEP)
    assert children.signal("stopped", signal.SIGSTOP)
    assert children.is_running("stopped")
    assert children.signal("stopped", signal.SIGKILL)
    until("it ended", lambda: not children.is_running("stopped"))
    assert until("its exit code", lambda: children.exit_code("stopped")) == -signal.SIGKILL


def test_a_reused_pid_is_never_signalled(children: Children, tmp_path: Path) -> None:
    """When the child ended and its pid now belongs to another process, nothing is sent."""
    start(children, tmp_path, "gone", [sys.executable, "-c", ""])
    until("it ended", lambda: not children.is_running("gone"))
    (tmp_path / "units" / "gone.pid").write_text(str(os.getpid()))
    assert not children.signal("gone", signal.SIGKILL)


def test_a_child_that_never_ran_is_told_from_one_that_died(children: Children, tmp_path: Path) -> None:
    """A parent that died before it could start the child leaves an entry that has not run."""
    (tmp_path / "units").mkdir()
    children.remember("unborn", {})
    assert not children.is_running("unborn")
    assert not children.has_run("unborn")


def test_last_lines_of_a_long_log(tmp_path: Path) -> None:
    """Only the end of a log is read, and only whole lines of it are wanted."""
    log = tmp_path / "long.log"
    log.write_text("".join(f"line {number}\n" for number in range(50_000)))
    assert last_lines(log, 2) == "line 49998\nline 49999"
    assert last_lines(tmp_path / "none.log", 2) == ""
