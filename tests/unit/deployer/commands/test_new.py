"""`./ns new`: a repository of one's own that can be built as it is."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from deployer.commands.init import FILES, new
from deployer.errors import BuildError, StartError
from deployer.push.repository import Repository
from deployer.runtimes.builder import Builder
from tests.e2e.deployer_rig import GIT


def builder(repository: Path, folder: Path) -> Builder:
    """As a deployer of processes has it by default."""
    return Builder(Repository(repository), folder, python=None, command="-m bot", check="-m bot --version", limit_s=120)


def head(repository: Path) -> str:
    """The newest commit."""
    done = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_new_repository_builds_as_it_is_and_a_broken_strategy_does_not(tmp_path: Path) -> None:
    """It has one commit of five files, a Dockerfile of five lines, and is ready to run; a strategy that cannot be loaded fails
    the build with its own words."""
    path = tmp_path / "mine"
    new(path, lambda _line: None)
    assert sorted(item.name for item in path.iterdir() if item.name != ".git") == sorted(FILES)
    assert len((path / "Dockerfile").read_text().splitlines()) == 5
    made, sha = builder(path, tmp_path / "run"), head(path)
    asyncio.run(made.build(sha))
    assert sha in made.built()
    assert made.command(sha)[-1] == "run.py"
    assert made.comparable() == {sha}
    strategy = path / "strategy.py"
    strategy.write_text(strategy.read_text().replace("class Mine", "class Yours"))
    subprocess.run([*GIT, "commit", "--quiet", "-am", "broken"], cwd=path, check=True)
    with pytest.raises(BuildError, match=r"the strategy cannot be loaded: .*expected a class Mine"):
        asyncio.run(made.build(head(path)))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "strategy.py").write_text("mine")
    with pytest.raises(StartError, match="not empty"):
        new(tmp_path, print)
    assert (tmp_path / "strategy.py").read_text() == "mine"
