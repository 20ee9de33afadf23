"""Every command of README and docs, run as it is written in a system that trades; none is left out."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clone import Clone
from tests.e2e.commands import Runner
from tests.e2e.documented import ByTest, Live, Parsed, shown, way_of
from tests.forked import ROOT

pytestmark = pytest.mark.timeout(900)


def test_each_command_of_the_docs_has_a_way_in_which_it_is_run() -> None:
    """A command that is new in README or docs is run by a test, or its page names what it is."""
    commands = shown()
    assert len(commands) > 120, "the pages are read"
    assert not [f"{command.place}: {command.text}" for command in commands if way_of(command.text) is None]
    for command in commands:
        way = way_of(command.text)
        if isinstance(way, ByTest):
            assert way.has in (ROOT / way.test).read_text(encoding="utf-8"), f"{way.test} runs no {command.text}"


@pytest.mark.parametrize("command", sorted({shown.text for shown in shown() if isinstance(way_of(shown.text), Parsed)}))
def test_a_command_that_lasts_knows_all_of_its_options(command: str) -> None:
    """What takes minutes is asked for its help; each option that the docs give it is there."""
    made = command
    if command.startswith("make "):
        target, part = command.split()[1], re.findall(r"(--[\w-]+)", command)
        recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition(f"\n{target}: ")[2].partition("\n\n")[0]
        module = re.findall(r"-m ((?:bench|proof)\.\w+)", recipe)[0]
        made = f"python -m {module} {' '.join(part)}"
    # A module with commands of its own is asked for the help of that command.
    words = re.sub(
        r"^(?:\S*/)?python -m (recording \w+|\S+).*|^ns (\w+).*", lambda found: found[1] or f"cli {found[2]}", made
    ).split()
    asked = subprocess.run(
        [sys.executable, "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert asked.returncode == 0, asked.stderr
    missing = [option for option in re.findall(r"--[a-z][\w-]*", made) if option not in asked.stdout]
    assert not missing, asked.stdout


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Clone]:
    """A clone whose never-sleeps.toml gives it ports of its own."""
    made = Clone(tmp_path, runtime="process")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (made.folder / "never-sleeps.toml").write_text(f"[paper]\nport = {ports[0]}\n[panel]\nport = {ports[1]}\n")
    try:
        yield made
    finally:
        made.make("stop", "YES=1")


def test_every_command_does_as_the_docs_say_as_processes(processes: Clone) -> None:
    """From `make run FAST=1 DETACH=1` to `ns stop`: the exit code that is promised, no traceback, JSON where it was asked for."""
    started = processes.make("run", "FAST=1", "DETACH=1", limit_s=240)
    assert started.returncode == 0, started.stdout + started.stderr
    runner = Runner(processes, "process")
    problems = runner.run_all()
    assert not problems, "\n".join(problems)


def test_no_live_command_is_left_out_of_both_runtimes() -> None:
    """A command that no runtime runs would be promised by nobody."""
    ways = [way_of(command.text) for command in shown()]
    assert not [way for way in ways if isinstance(way, Live) and not set(way.runtimes) & {"process", "docker"}]
