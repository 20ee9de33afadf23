"""The repository that is watched, as the deployer knows it: by a mirror of its own, commits only and never the work tree.

The mirror is a cache. It holds what branches and tags name, and the commits that `tidy` is told to keep.
A damaged one is made anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from deployer.errors import RepositoryError
from deployer.git import Place, head_of, locate, text
from deployer.push.export import MOST_BYTES, MOST_ENTRIES, FolderSink, Remarks, export, read_commit, write_tar
from deployer.push.mirror import FETCH_LIMIT_S, KEPT, NO_SUCH_REF, SHA, Mirror, sha_of

MIRROR = "mirror.git"  # in DEPLOYER_DIR
MOST_LOOSE, MOST_PACKS = 500, 20
HEAD_EVERY_S = 2.0
_SOMEBODY = {"NAME": "work tree", "EMAIL": "worktree@localhost", "DATE": "2000-01-01T00:00:00Z"}
# git-check-ref-format(1): what no branch's name may have.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[./]|[./]$|^$")
_WATCHED, _WORK_TREE = "refs/never-sleeps/watched", "refs/never-sleeps/worktree"
# What says how a work tree's files are to be compared; values without a program.
_CHECKOUT = ("core.fileMode", "core.symlinks", "core.ignoreCase", "core.autocrlf", "core.eol", "core.precomposeUnicode")


class Repository(Mirror):
    """A git repository, bare or with a work tree. Git runs in the mirror alone.

    mirror: the folder for it; one that ends with this object when None. shallow: do without the history.
    """

    def __init__(self, path: Path, mirror: Path | None = None, *, shallow: bool = False) -> None:
        super().__init__(path, mirror, shallow=shallow)
        self._watched: tuple[str, str] | None = None  # the branch's ref, and its tip
        self._head: tuple[float, str] | None = None  # when it was fetched
        self._unchanged: tuple[tuple[int, int, int], ...] = ()
        self._saved: tuple[tuple[str, str], str] | None = None  # the work tree's head and tree, and the commit of it
        self._indexed = ""

    async def git_directory(self) -> Path:
        """Where its refs are. Raises RepositoryError when there is no repository."""
        return locate(self.path).directory

    async def checked_out_branch(self) -> str:
        """Raises RepositoryError on a detached HEAD."""
        named = head_of(locate(self.path))
        if not named.startswith("refs/heads/") or named.endswith("/.invalid"):  # of reftables: HEAD is elsewhere
            raise RepositoryError(f"no branch is checked out in {self.path}; name one with DEPLOYER_BRANCH")
        return named.removeprefix("refs/heads/")

    async def tip(self, branch: str) -> str:
        """The full sha of a branch's newest commit. Raises RepositoryError."""
        if _NO_BRANCH.search(branch):
            raise RepositoryError(f"expected the name of a branch, found {branch!r}; set DEPLOYER_BRANCH")
        ref = f"refs/heads/{branch}"
        # Before the fetch: what changes meanwhile is fetched by the next look.
        signature = _signature(locate(self.path), ref)
        if (
            self._watched
            and self._watched[0] == ref
            and signature
            and signature == self._unchanged
            and self._is_fresh()
        ):
            return self._watched[1]
        try:
            await self._fetch(f"+{ref}:{_WATCHED}")
            tip = await self._commit(_WATCHED)
            self._watched, self._unchanged, self._fetched_s = (ref, tip), signature, time.monotonic()
            return tip
        except RepositoryError as error:
            if NO_SUCH_REF not in str(error):
                raise
            raise RepositoryError(
                f"the branch {branch!r} of {self.path} has no commit; commit to it, or set DEPLOYER_BRANCH"
            ) from error

    async def resolve(self, ref: str) -> str:
        """The full sha that a person's ref names; a branch before a tag of the same name. Raises RepositoryError."""
        if not ref or ref.startswith("-"):
            raise RepositoryError(f"expected a branch, tag or sha, found {ref!r}")
        if SHA.fullmatch(ref):
            await self._need(ref)
            return await self._commit(ref)
        await self._fetch_all()
        names = [ref] if _NO_BRANCH.search(ref) else [f"refs/heads/{ref}", ref]
        for name in names:
            with suppress(RepositoryError):
                return await self._commit(name)
        raise RepositoryError(f"{ref!r} names no commit of {self.path}; see `git log --oneline --all`")

    async def subject(self, sha: str) -> str:
        """The first line of a commit's message, at most 100 characters; empty when git cannot tell."""
        try:
            return text(await self._git("log", "-1", "--format=%s", "--end-of-options", sha))[:100]
        except RepositoryError:
            return ""

    async def subjects(self, earlier: str, sha: str, most: int) -> list[str]:
        """Short sha and first line of the commits that `sha` has beyond an earlier one, newest first. Raises RepositoryError."""
        for name in (earlier, sha):
            await self._need(name)
        log = await self._git("log", f"-{most}", "--format=%h %s", "--end-of-options", f"{earlier}..{sha}")
        return text(log).splitlines()

    async def changed_files(self, earlier: str, sha: str) -> list[str]:
        """The paths of the files that differ between two commits. Raises RepositoryError."""
        for name in (earlier, sha):
            await self._need(name)
        output = await self._git(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--end-of-options", earlier, sha
        )
        return text(output).strip("\0").split("\0") if output.strip(b"\0") else []

    async def tree(self, sha: str) -> str:
        """The id of a commit's files: the same files have the same. Raises RepositoryError."""
        await self._need(sha)
        return text(await self._git("rev-parse", "--verify", f"{sha}^{{tree}}"))

    async def has_files(self, sha: str, paths: tuple[str, ...]) -> bool:
        """Whether a commit has all of these files. Raises RepositoryError."""
        await self._need(sha)
        output = await self._git("ls-tree", "-z", "--name-only", "--end-of-options", sha, "--", *paths)
        return set(paths) <= set(text(output).split("\0"))

    async def contains(self, sha: str, earlier: str) -> bool:
        """Whether a commit has an earlier one among its ancestors; False when git cannot tell."""
        try:
            await self._git("merge-base", "--is-ancestor", "--end-of-options", earlier, sha)
        except RepositoryError:
            return False
        return True

    async def commit_bytes(self, sha: str) -> bytes:
        """A commit's own bytes, which have its hash. Raises RepositoryError."""
        await self._need(sha)
        return await self._read(lambda objects: read_commit(objects, sha))

    async def archive(
        self, sha: str, into: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_ENTRIES
    ) -> Remarks:
        """Write a commit's files into an empty folder, byte for byte what its sha stands for.

        Raises TooLargeError, other RepositoryErrors, OSError.
        """
        await self._need(sha)
        return await self._read(
            lambda objects: export(objects, sha, FolderSink(into), most_bytes=most_bytes, most_files=most_files)
        )

    async def tar(self, sha: str, to: Path, *, most_bytes: int = MOST_BYTES, most_files: int = MOST_ENTRIES) -> Remarks:
        """Write a commit's files as a tar; complete when no error is raised.

        Raises TooLargeError, other RepositoryErrors, OSError.
        """
        await self._need(sha)
        return await self._read(
            lambda objects: write_tar(objects, sha, to, most_bytes=most_bytes, most_files=most_files)
        )

    async def tidy(self, keep: Iterable[str]) -> None:
        """Keep these commits whatever becomes of the branches, and remove what nothing names. Raises RepositoryError."""
        wanted = {sha for sha in keep if SHA.fullmatch(sha)}
        for sha in wanted:
            with suppress(RepositoryError):  # gone everywhere: what was built of it is still there
                await self._need(sha)
        async with self._writing() as lock:
            refs = text(await self._git("for-each-ref", "--format=%(refname)", KEPT)).splitlines()
            shas = {name.removeprefix(KEPT) for name in refs}
            lines = [f"delete {KEPT}{sha}\n" for sha in sorted(shas - wanted)]
            lines += [f"create {KEPT}{sha} {sha}\n" for sha in sorted(wanted - shas) if await self._has(sha)]
            if lines:
                await self._git("update-ref", "--stdin", data="".join(lines).encode(), pass_fds=(lock,))
            await self._git("pack-refs", "--all", pass_fds=(lock,))  # thousands of tags are one file then
            counted = dict(line.split(": ", 1) for line in text(await self._git("count-objects", "-v")).splitlines())
            if int(counted.get("count", 0)) > MOST_LOOSE or int(counted.get("packs", 0)) > MOST_PACKS:
                await self._git("repack", "-a", "-d", "-q", limit_s=FETCH_LIMIT_S, pass_fds=(lock,))
            await self._git("prune", "--expire=now", limit_s=FETCH_LIMIT_S, pass_fds=(lock,))

    # --- the work tree: its files are read, and nothing of its configuration

    async def differs(self) -> bool:
        """Whether tracked files of the work tree differ from the newest commit; a bare repository never does."""
        try:
            return bool(await self.changed_in_work_tree())
        except RepositoryError:
            return False

    async def changed_in_work_tree(self) -> list[str]:
        """The tracked files that differ from HEAD; never those of bare repositories. Raises RepositoryError."""
        place = locate(self.path)
        facts = await self._configuration(place)
        if place.work_tree is None or facts.get("core.bare") == "true":
            return []
        head = (
            self._watched[1] if self._watched and self._watched[0] == head_of(place) else await self._fetch_head(place)
        )
        if head is None:
            return []
        index = self._mirror / "work-tree.index"
        at, more = (*_checkout_options(facts), f"--work-tree={place.work_tree}"), {"GIT_INDEX_FILE": str(index)}
        async with self._writing() as lock:
            if self._indexed != head or not index.exists():
                read = ("read-tree", "-m", head) if index.exists() else ("read-tree", head)
                await self._git(*at, *read, more=more, pass_fds=(lock,))
                self._indexed = head
            try:
                await self._git(*at, "update-index", "--refresh", "--ignore-submodules", more=more, pass_fds=(lock,))
            except RepositoryError:
                pass  # some need an update: which ones?
            else:
                return []
            output = await self._git(
                *at, "diff-files", "-z", "--ignore-submodules=all", more=more, limit_s=FETCH_LIMIT_S
            )
        fields = output.decode("utf-8", "replace").split("\0")
        # ":MODE MODE SHA SHA STATUS", then the path. A large file beside its pointer is what a checkout with LFS has.
        return [
            path
            for facts, path in zip(fields[0::2], fields[1::2], strict=False)
            if not await self._is_pointer(facts.split()[2])
        ]

    async def worktree_commit(self, index: Path) -> str:
        """A commit of the work tree as it is, ignored files left out; the newest commit where it equals that one.

        No branch names it and the checkout itself is not touched. The same files on the same commit give the same sha.
        index: a file for git's list of what it looked at, kept between two calls. Raises RepositoryError.
        """
        place = locate(self.path)
        if place.work_tree is None:
            raise RepositoryError(f"{self.path} has no work tree; --worktree needs a checkout")
        if self._head is None:
            index.with_name(f"{index.name}.lock").unlink(missing_ok=True)  # of a git that was killed
        if self._head is None or time.monotonic() - self._head[0] > HEAD_EVERY_S:
            fetched = await self._fetch_head(place)
            if fetched is None:
                raise RepositoryError(f"{self.path} has no commit yet; commit once")
            self._head = (time.monotonic(), fetched)
        head = self._head[1]
        at, more = (
            (*_checkout_options(await self._configuration(place)), f"--work-tree={place.work_tree}"),
            {"GIT_INDEX_FILE": str(index)},
        )
        exclude = place.common / "info" / "exclude"
        others = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        async with self._writing() as lock:
            output = await self._git(
                *at, *others, *((f"--exclude-from={exclude}",) if exclude.is_file() else ()), more=more
            )
            # Repositories within, submodules as well, are listed with a slash.
            paths = b"".join(path + b"\0" for path in output.split(b"\0") if path and not path.endswith(b"/"))
            update = ("update-index", "-z", "--add", "--remove", "--stdin")
            await self._git(*at, *update, more=more, data=paths, limit_s=FETCH_LIMIT_S, pass_fds=(lock,))
            try:
                tree = text(await self._git("write-tree", more=more, pass_fds=(lock,)))
            except (
                RepositoryError
            ):  # the mirror was made anew, without the blobs that the list names: the next look adds them
                index.unlink(missing_ok=True)
                self._saved = None
                raise
            if self._saved and self._saved[0] == (head, tree):
                return self._saved[1]
            made = head
            if tree != text(await self._git("rev-parse", "--verify", f"{head}^{{tree}}")):
                who = {
                    f"GIT_{role}_{what}": said for role in ("AUTHOR", "COMMITTER") for what, said in _SOMEBODY.items()
                }
                commit = ("commit-tree", tree, "-p", head, "-m", "the work tree")
                made = text(await self._git(*commit, more=who, pass_fds=(lock,)))
            made = sha_of(made.encode())
            await self._git("update-ref", "--no-deref", _WORK_TREE, made, pass_fds=(lock,))
        self._saved = ((head, tree), made)
        return made

    async def _is_pointer(self, sha: str) -> bool:
        try:
            head = await self._git("cat-file", "blob", sha)
        except RepositoryError:
            return False
        return len(head) < 1024 and head.startswith(b"version https://git-lfs.")

    # --- the mirror


def _signature(place: Place, ref: str) -> tuple[tuple[int, int, int], ...]:
    """Changes with a branch: git replaces the file that has it. Empty where none has."""
    signatures = []
    for file in (place.common / ref, place.common / "packed-refs", place.common / "reftable" / "tables.list"):
        with suppress(OSError):
            facts = file.stat()
            signatures.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(signatures)


def mirror_in(folder: Path) -> Path | None:
    """Where a deployer with that folder has its mirror; None where none ever ran, so that reading leaves nothing behind."""
    return folder / MIRROR if folder.is_dir() else None


def _checkout_options(facts: Mapping[str, str]) -> tuple[str, ...]:
    """How the checkout's own git compares its files, so that nothing seems to differ which does not."""
    return tuple(part for key in _CHECKOUT if key.lower() in facts for part in ("-c", f"{key}={facts[key.lower()]}"))
