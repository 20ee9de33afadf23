"""The mirror: git's only place to work in, filled by fetching from a repository that somebody else may write to."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from deployer import git as git_module
from deployer.errors import RepositoryError
from deployer.git import LIMIT_S, UPLOAD_PACK, Place, configuration, environment, git, head_of, locate, text
from deployer.push.export import Objects

T = TypeVar("T")
EXPORT_LIMIT_S = 120.0
LOCK_LIMIT_S = 60.0
LOCK_EVERY_S = 0.02
# A file system may show a change late or not at all: fetched all the same from time to time.
FETCH_EVERY_S = 30.0
_ANYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/remotes/*:refs/remotes/*")
# What upload-pack says of a ref whose file holds no sha: it is asked for the zeros that it advertised.
BROKEN_REF = "not our ref 00000000"
# What the other side says of itself; anything else that fails a fetch may be this mirror's own damage.
_THEIRS = ("remote", "not our ref", "does not appear to be a git repository", "did not answer", "cannot be run")


NO_SUCH_REF = "couldn't find remote ref"
SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
KEPT = "refs/never-sleeps/kept/"
FETCH_LIMIT_S = 600.0  # of a whole repository, the first time
REMAKE_EVERY_S = 600.0
HEAD = "refs/never-sleeps/head"


class Mirror:
    """Fetches, and answers from what was fetched. One process at a time writes to it."""

    def __init__(self, path: Path, mirror: Path | None, *, shallow: bool) -> None:
        self.path = path.absolute()
        self._folder = mirror.absolute() if mirror is not None else None
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._shallow = shallow
        self._lock = asyncio.Lock()
        self._remade_s = -REMAKE_EVERY_S
        self._looked_at_locks = False
        self._format: str | None = None
        self._configured: tuple[tuple[int, int, int], dict[str, str]] | None = None
        self._fetched_s = 0.0
        self._trusted = ""

    @property
    def _mirror(self) -> Path:
        if self._folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="never-sleeps-git-")
            self._folder = Path(self._own.name) / "mirror.git"
        return self._folder

    async def _fetch(self, *refspecs: str, source: Path | None = None, prune: bool = False) -> None:
        """Bring refs and what they name into the mirror. Raises RepositoryError."""
        place = locate(self.path)
        fifo = await asyncio.to_thread(_fifo_in, *{place.common, place.directory})
        if fifo is not None:
            raise RepositoryError(f"{fifo}: expected a file that git can read, found a fifo; remove it")
        async with self._writing() as lock:
            try:
                await self._make(place)
                await self._fetch_now(place, source or place.common, refspecs, lock, prune=prune)
            except OSError as error:
                raise RepositoryError(f"{self._mirror} cannot be written ({error}); see to that disk") from error
            except RepositoryError as error:
                if BROKEN_REF in str(error):
                    names = ", ".join(refspec.lstrip("+").partition(":")[0] for refspec in refspecs)
                    raise RepositoryError(
                        f"{names} of {self.path}: expected a ref that names a commit, found a broken one; mend it (git fsck)"
                    ) from error
                theirs = any(word in str(error) for word in (NO_SUCH_REF, *_THEIRS))
                if theirs or time.monotonic() - self._remade_s < REMAKE_EVERY_S:
                    raise
                self._remade_s = time.monotonic()
                shutil.rmtree(self._mirror, ignore_errors=True)
                await self._make(place)
                await self._fetch_now(place, source or place.common, refspecs, lock, prune=prune)

    async def _fetch_now(self, place: Place, source: Path, refspecs: Iterable[str], lock: int, *, prune: bool) -> None:
        config = self._mirror / "fetch.config"
        # The deployer may run as another user than the one who owns the repository: this one is meant, and no other.
        folders = {
            str(folder) for path in (self.path, place.directory, place.common) for folder in (path, path.resolve())
        }
        wanted = "".join(f"[safe]\n\tdirectory = {_quoted(folder)}\n" for folder in sorted(folders))
        if wanted != self._trusted or not config.exists():
            config.write_text(wanted, "utf-8", "surrogateescape")
            self._trusted = wanted
        await git(
            f"--git-dir={self._mirror}",
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--update-shallow"),
            *(("--prune",) if prune else ()),
            *(("--depth=1",) if self._shallow else ()),
            *(f"--upload-pack={UPLOAD_PACK}", "--", str(source), *refspecs),
            limit_s=FETCH_LIMIT_S,
            environment=environment(protocol="file", config=config),
            pass_fds=(lock,),
        )

    async def _fetch_all(self) -> None:
        """Whatever a person's ref may name."""
        await self._fetch(*_ANYTHING, prune=True)
        place = locate(self.path)
        named = head_of(place)
        if named.startswith("refs/heads/"):
            await self._git("symbolic-ref", "HEAD", named)
        elif (head := await self._fetch_head(place)) is not None:
            await self._git("update-ref", "--no-deref", "HEAD", head)

    async def _fetch_head(self, place: Place) -> str | None:
        """The commit that is checked out; None when there is none yet."""
        try:
            await self._fetch(f"+HEAD:{HEAD}", source=place.directory)
        except RepositoryError as error:
            if NO_SUCH_REF in str(error):
                return None
            raise
        return await self._commit(HEAD)

    async def _need(self, sha: str) -> None:
        """Have a commit in the mirror. Raises RepositoryError."""
        if not SHA.fullmatch(sha):
            raise RepositoryError(f"expected a full sha, found {sha!r}")
        if await self._has(sha):
            return
        try:
            await self._fetch(f"+{sha}:{KEPT}{sha}")
        except RepositoryError as error:
            raise RepositoryError(f"{sha[:12]} names no commit of {self.path}: {error}") from error

    async def _has(self, sha: str) -> bool:
        if not self._mirror.is_dir():
            return False
        try:
            await self._git("cat-file", "-e", f"{sha}^{{commit}}")
        except RepositoryError:
            return False
        return True

    async def _commit(self, name: str) -> str:
        return sha_of(await self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"))

    async def _make(self, place: Place) -> None:
        """The mirror, with the hashes that the repository has."""
        wanted = (await self._configuration(place)).get("extensions.objectformat", "sha1")
        if self._mirror.is_dir():
            if self._format is None:
                configured = await configuration(Place(self._mirror, self._mirror, None))
                self._format = configured.get("extensions.objectformat", "sha1")
            if self._format == wanted:
                return
            shutil.rmtree(self._mirror)
        fresh = self._mirror.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        made = ("init", "--bare", "--quiet", "--template=", f"--object-format={wanted}", str(fresh))
        await git(*made, environment=environment())
        fresh.rename(self._mirror)
        self._format = wanted

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._fetched_s < FETCH_EVERY_S and self._mirror.is_dir()

    async def _configuration(self, place: Place) -> dict[str, str]:
        """Read again when the file changed."""
        try:
            stat = (place.common / "config").stat()
            key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            key = (0, 0, 0)
        if self._configured is None or self._configured[0] != key:
            self._configured = (key, await configuration(place))
        return self._configured[1]

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[int]:
        """Alone, among all processes; git holds the lock as well, in case that this process is killed. Raises RepositoryError."""
        async with self._lock:
            try:
                self._mirror.parent.mkdir(parents=True, exist_ok=True)
                lock = os.open(self._mirror.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise RepositoryError(f"{self._mirror.parent} cannot be written ({error.strerror})") from error
            try:
                try:
                    async with asyncio.timeout(LOCK_LIMIT_S):
                        while not _locked(lock):  # noqa: ASYNC110  # the kernel tells nobody of a lock that is free
                            await asyncio.sleep(LOCK_EVERY_S)
                except TimeoutError as error:
                    raise RepositoryError(f"another process works in {self._mirror} for {LOCK_LIMIT_S:g} s") from error
                if not self._looked_at_locks:
                    self._looked_at_locks = True
                    for left in self._mirror.rglob("*.lock") if self._mirror.is_dir() else ():
                        left.unlink(missing_ok=True)  # of a git that was killed
                yield lock
            finally:
                os.close(lock)

    async def _git(
        self,
        *arguments: str,
        limit_s: float = LIMIT_S,
        more: dict[str, str] | None = None,
        data: bytes | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> bytes:
        return await git_module.git(
            f"--git-dir={self._mirror}",
            *arguments,
            limit_s=limit_s,
            environment=environment(more=more),
            data=data,
            pass_fds=pass_fds,
        )

    async def _read(self, work: Callable[[Objects], T]) -> T:
        """Read objects in a thread, which ends when this is cancelled. Raises RepositoryError."""
        objects = Objects(self._mirror)

        def read() -> T:
            with objects:
                return work(objects)

        try:
            async with asyncio.timeout(EXPORT_LIMIT_S):
                return await asyncio.to_thread(read)
        except TimeoutError as error:
            raise RepositoryError(f"the commit's files were not read within {EXPORT_LIMIT_S:g} s") from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            raise RepositoryError("reading the commit's files was given up") from error
        finally:
            objects.kill()


def _quoted(value: str) -> str:
    r"""As a configuration file has it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sha_of(answer: bytes) -> str:
    """Raises RepositoryError: git ended well and said nothing, or something else."""
    sha = text(answer)
    if not SHA.fullmatch(sha):
        raise RepositoryError(f"git answered {sha[:80]!r}; expected a commit's sha: look at the program git")
    return sha


def _fifo_in(*folders: Path) -> Path | None:
    """A fifo in a repository, or a link to one: git opens it like any file, and waits for ever."""
    walked = (found for folder in folders for found in os.walk(folder))
    for path in (Path(top, name) for top, _, names in walked for name in names):
        with suppress(OSError):  # a file that others may not look at
            if path.is_fifo():
                return path
    return None
