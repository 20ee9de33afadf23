"""The git side: one repository, read only, commits only and never the work tree."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path

from deployer.errors import RepositoryError

LIMIT_S = 20.0
ARCHIVE_LIMIT_S = 120.0
_SOMEBODY = {"NAME": "work tree", "EMAIL": "worktree@localhost", "DATE": "2000-01-01T00:00:00Z"}
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Repository:
    """A git repository, bare or with a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    async def git_directory(self) -> Path:
        """Where its refs are. Raises RepositoryError when there is no repository."""
        if not self.path.is_dir():
            raise RepositoryError(f"there is no folder {self.path}; DEPLOYER_REPOSITORY must name a git checkout")
        try:
            found = await self._git("rev-parse", "--absolute-git-dir")
        except RepositoryError as error:
            raise RepositoryError(
                f"{self.path} is not a git repository ({error}); run `git init` there, or set DEPLOYER_REPOSITORY"
            ) from error
        return Path(found)

    async def checked_out_branch(self) -> str:
        """Raises RepositoryError on a detached HEAD."""
        try:
            return await self._git("symbolic-ref", "--quiet", "--short", "HEAD")
        except RepositoryError as error:
            raise RepositoryError(f"no branch is checked out in {self.path}; name one with DEPLOYER_BRANCH") from error

    async def tip(self, branch: str) -> str:
        """The full sha of a branch's newest commit. Raises RepositoryError."""
        try:
            return await self._git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        except RepositoryError as error:
            raise RepositoryError(
                f"the branch {branch!r} of {self.path} has no commit; commit to it, or set DEPLOYER_BRANCH"
            ) from error

    async def resolve(self, ref: str) -> str:
        """The full sha that a person's ref names. Raises RepositoryError."""
        if not ref or ref.startswith("-"):
            raise RepositoryError(f"expected a branch, tag or sha, found {ref!r}")
        try:
            return await self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except RepositoryError as error:
            raise RepositoryError(f"{ref!r} names no commit of {self.path}; see `git log --oneline --all`") from error

    async def subject(self, sha: str) -> str:
        """The first line of a commit's message, at most 100 characters; empty when git cannot tell."""
        try:
            return (await self._git("log", "-1", "--format=%s", sha))[:100]
        except RepositoryError:
            return ""

    async def subjects(self, earlier: str, sha: str, most: int) -> list[str]:
        """Short sha and first line of the commits that `sha` has beyond an earlier one, newest first. Raises RepositoryError."""
        found = await self._git("log", f"-{most}", "--format=%h %s", f"{earlier}..{sha}")
        return found.splitlines()

    async def changed_files(self, earlier: str, sha: str) -> list[str]:
        """The paths of the files that differ between two commits. Raises RepositoryError."""
        return (await self._git("diff", "--name-only", earlier, sha)).splitlines()

    async def contains(self, sha: str, earlier: str) -> bool:
        """Whether a commit has an earlier one among its ancestors; False when git cannot tell."""
        try:
            await self._git("merge-base", "--is-ancestor", earlier, sha)
        except RepositoryError:
            return False
        return True

    async def verify_signature(self, sha: str) -> None:
        """Raises RepositoryError when git does not trust a commit's signature, or when it has none."""
        await self._git("verify-commit", sha)

    async def worktree_commit(self, index: Path) -> str:
        """A commit of the work tree as it is, ignored files left out; the newest commit where it equals that one.

        No branch names it and the checkout's own index is not touched. The same files on the same commit give the same sha.
        index: a file for git's list of what it looked at, kept between two calls. Raises RepositoryError.
        """
        more = {"GIT_INDEX_FILE": str(index)}
        await self._git("add", "--all", ":/", more=more)
        tree = await self._git("write-tree", more=more)
        head = await self._git("rev-parse", "--verify", "HEAD^{commit}")
        if tree == await self._git("rev-parse", f"{head}^{{tree}}"):
            return head
        who = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in _SOMEBODY.items()}
        return await self._git("commit-tree", tree, "-p", head, "-m", "the work tree", more=who)

    async def differs(self) -> bool:
        """Whether tracked files of the work tree differ from the newest commit; a bare repository never does."""
        try:
            return bool(await self._git("status", "--porcelain", "--untracked-files=no"))
        except RepositoryError:
            return False

    async def archive(self, sha: str, into: Path) -> None:
        """Extract a commit's files into a folder that exists. Raises RepositoryError: a truncated archive never passes."""
        tar = into.with_name(f"{into.name}.tar")
        try:
            await self.tar(sha, tar)
            await self.extract(tar, into)
        finally:
            tar.unlink(missing_ok=True)

    async def extract(self, tar: Path, into: Path) -> None:
        """Extract a complete archive of git's into a folder that exists. Raises RepositoryError."""
        await run("tar", "-xf", str(tar), "-C", str(into), limit_s=ARCHIVE_LIMIT_S)

    async def tar(self, sha: str, to: Path) -> None:
        """Write a commit's files as a tar; complete when no error is raised. Raises RepositoryError."""
        if not _SHA.fullmatch(sha):
            raise RepositoryError(f"expected a full sha, found {sha!r}")
        # With the modes that a checkout has, so that the layers of an image from the work tree are found again.
        await self._git(
            "-c", "tar.umask=0022", "archive", "--format=tar", f"--output={to}", sha, limit_s=ARCHIVE_LIMIT_S
        )

    async def _git(self, *arguments: str, limit_s: float = LIMIT_S, more: Mapping[str, str] | None = None) -> str:
        environment = {**git_environment(), **(more or {})}
        return await run("git", "-C", str(self.path), *arguments, limit_s=limit_s, environment=environment)


def git_environment() -> dict[str, str]:
    """Git's environment: it asks nobody, takes no lock of its own accord, and trusts a repository of another owner."""
    # The deployer may run as another user than the one who owns the repository.
    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**own, **trusted, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


async def run(*command: str, limit_s: float, environment: dict[str, str] | None = None) -> str:
    """Run a program and return what it printed. Raises RepositoryError with its last line."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise RepositoryError(f"{command[0]} cannot be run ({error.strerror}); install it") from error
    try:
        async with asyncio.timeout(limit_s):
            out, said = await process.communicate()
    except TimeoutError as error:
        raise RepositoryError(f"{command[0]} did not answer within {limit_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise RepositoryError(lines[-1] if lines else f"{command[0]} failed with exit code {process.returncode}")
    return out.decode("utf-8", "replace").strip()
