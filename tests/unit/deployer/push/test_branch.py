"""Watching a branch: what inotify tells is a hint, what git says is the truth."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from deployer.push.branch import BranchWatch
from deployer.push.repository import Repository
from tests import patience
from tests.unit.deployer.runtimes.test_builder import Source


class Said:
    """A log that is kept."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, _level: str) -> Any:
        return lambda event, **fields: self.lines.append((event, fields))


async def test_without_an_inotify_instance_a_commit_is_found_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch begins, says why it has no hints, and notices the commit all the same."""

    def none_left() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr("bus.watch.Observer", none_left)
    monkeypatch.setattr("deployer.push.branch.LOOK_EVERY_S", 0.05)
    source, moved = Source(tmp_path), asyncio.Event()
    source.commit({"a": "1"})
    said: Any = Said()
    watch = BranchWatch(Repository(source.path), "main", said, moved.set)
    await watch.start()
    running = asyncio.create_task(watch.run())
    sha = source.commit({"a": "2"})
    async with patience.timeout(30):
        await moved.wait()
    assert watch.tip == sha
    assert said.lines[0][0] == "git_not_watched"
    assert "inotify instance limit reached" in said.lines[0][1]["reason"]
    running.cancel()
    await asyncio.wait([running])
