"""`deployer run --worktree`: what is saved is deployed. For development, with processes.

The work tree is looked at a few times a second and made a commit that no branch names; the rest is a deploy like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from bus import Log
from deployer.errors import RepositoryError
from deployer.push.branch import BranchWatch
from deployer.push.repository import Repository

LOOK_EVERY_S = 0.2


class WorktreeWatch(BranchWatch):
    """Follows the files of a checkout as a BranchWatch follows a branch. index: a file of its own for git."""

    def __init__(
        self, repository: Repository, branch: str, log: Log, on_change: Callable[[], None], *, index: Path
    ) -> None:
        super().__init__(repository, branch, log, on_change)
        self._index = index

    async def start(self) -> None:
        """The first look. Raises RepositoryError."""
        self._index.parent.mkdir(parents=True, exist_ok=True)
        self.tip, self.subject = await self._repository.worktree_commit(self._index), "the work tree"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                tip = await self._repository.worktree_commit(self._index)
            except RepositoryError as error:  # a file that went away while git looked at it
                if self.problem != str(error):
                    self._log.warning("worktree_not_readable", reason=str(error), bots="go on")
                self.problem = str(error)
            else:
                if tip != self.tip or self.problem is not None:
                    self.tip, self.problem = tip, None
                    self._log.info("worktree_changed", sha=tip)
                    self._on_change()
            self.reads += 1
            await asyncio.sleep(LOOK_EVERY_S)
