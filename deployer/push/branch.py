"""Watching a branch: watchdog on the git directory as a hint, a fetch every two seconds as the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler

from bus import Log, read_named
from bus.watch import Hints
from deployer.errors import RepositoryError
from deployer.push.repository import Repository

LOOK_EVERY_S = 2.0
SETTLE_S = 0.05
SLOW_S = 10.0


class BranchWatch:
    """Follows the newest commit of a branch.

    Attributes: tip, subject: the newest commit and its message's first line. problem: why git cannot tell, or None.
    left: the tip before it, when that is not in the branch any more. reads: how often the branch was read.
    """

    def __init__(self, repository: Repository, branch: str, log: Log, on_change: Callable[[], None]) -> None:
        self._repository, self.branch, self._log, self._on_change = repository, branch, log, on_change
        self.tip: str | None = None
        self.subject, self.left, self.reads = "", "", 0
        self.problem: str | None = None
        self._differed = False
        self._hint = asyncio.Event()

    async def start(self) -> None:
        """The first look. Raises RepositoryError: at the start a person is there to read it."""
        self.tip = await self._repository.tip(self.branch)
        self.subject = await self._repository.subject(self.tip)

    def hint(self) -> None:
        """It may have moved: read it now."""
        self._hint.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        handler = _Hint(asyncio.get_running_loop(), self._hint)
        folders: list[Path] = []
        problem: str | None = None
        try:
            folders = _ref_folders(await self._repository.git_directory())
        except (OSError, RepositoryError) as error:
            problem = str(error)
        with Hints(handler, folders, recursive=[folder for folder in folders if folder.name == "refs"]) as hints:
            if problem := problem or hints.problem:
                self._log.warning("git_not_watched", reason=problem, instead=f"looking every {LOOK_EVERY_S:g} s")
            while True:
                await self._look()
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._hint.wait()
                        await asyncio.sleep(SETTLE_S)  # a commit touches several files
                except TimeoutError:
                    pass
                self._hint.clear()

    async def _look(self) -> None:
        reading = asyncio.create_task(self._repository.tip(self.branch))
        try:
            await asyncio.wait([reading], timeout=SLOW_S)
            if not reading.done():
                self._note_problem(f"git has not answered for {SLOW_S:g} s; it is waited for")
            tip = await reading
            subject, left = self.subject, self.left
            if tip != self.tip:
                subject = await self._repository.subject(tip)
                is_ahead = self.tip is None or await self._repository.contains(tip, self.tip)
                left = "" if is_ahead else str(self.tip)
        except (RepositoryError, OSError) as error:
            self._note_problem(str(error))
            return
        finally:
            reading.cancel()
        if tip != self.tip or self.problem is not None:
            self.tip, self.subject, self.left, self.problem = tip, subject, left, None
            self._log.info("branch_moved", branch=self.branch, sha=tip, subject=subject, left=left or None)
            self._on_change()
        self.reads += 1
        differs = await self._repository.differs()
        if differs and not self._differed:
            self._log.warning("work_tree_differs", what="only commits are deployed; uncommitted changes are not")
        self._differed = differs

    def _note_problem(self, problem: str) -> None:
        if self.problem != problem:
            self._log.error("branch_not_readable", reason=problem, bots="go on")
        self.tip, self.problem = None, problem


class _Hint(FileSystemEventHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, hint: asyncio.Event) -> None:
        self._loop, self._hint = loop, hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("moved", "created", "modified", "deleted"):
            self._loop.call_soon_threadsafe(self._hint.set)


def _ref_folders(git_directory: Path) -> list[Path]:
    """Where a commit shows: loose refs, packed refs, reftables; of a linked work tree in the common directory."""
    common = git_directory / "commondir"
    top = (
        (git_directory / read_named(common).decode("utf-8", "surrogateescape").strip()).resolve()
        if common.is_file()
        else git_directory
    )
    return [folder for folder in (top, top / "refs", top / "reftable") if folder.is_dir()]


# `deployer run --worktree`: what is saved is deployed. For development, with processes.
#
# The work tree is looked at a few times a second and made a commit that no branch names; the rest is a deploy like any other.


SAVED_LOOK_EVERY_S = 0.2


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
            except (RepositoryError, OSError) as error:  # a file that went away while git looked at it
                if self.problem != str(error):
                    self._log.warning("worktree_not_readable", reason=str(error), bots="go on")
                self.problem = str(error)
            else:
                if tip != self.tip or self.problem is not None:
                    self.tip, self.problem = tip, None
                    self._log.info("worktree_changed", sha=tip)
                    self._on_change()
            self.reads += 1
            await asyncio.sleep(SAVED_LOOK_EVERY_S)
