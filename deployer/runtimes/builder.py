"""Makes a commit ready to run as a process: its tree, the environment of its lock file, and a try whether it can start.

A build never disturbs the trader: it has the lowest priority for CPU and disk, and a time limit that ends all that it started.
What a deployer that was killed left over is ended by the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import math
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bus import is_locked, read_named, sync_directory, sync_disk, write_atomically
from deployer.errors import BuildError, RepositoryError, StartError, TooLargeError
from deployer.push.repository import Repository
from deployer.runtimes.api import FOLDER, BuildInputs
from deployer.runtimes.build_limits import (
    LOOK_EVERY_S,
    MARK,
    Allowance,
    BuildLimits,
    Patience,
    build_environment,
    end,
    members,
    tail,
)
from deployer.runtimes.children import gently
from deployer.words import explain

# Of its own: the time in which others have the processor does not count. Importing the bot takes 2 s.
CHECK_LIMIT_S = 60.0
LOCK_FILE = "requirements.lock"
# A repository of one's own (`./ns new`) has no bot in it: it is run on this release's bot, with its environment.
OWN = "run.py"
HOME = Path(__file__).absolute().parents[2]
# In the package that runs a bot: it knows the command `compare` (docs/reference/contract.md).
COMPARES = "tools/decision_diff.py"
# What a machine or a service manager that goes down sends to everything.
_FROM_OUTSIDE = (-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT, -signal.SIGHUP)
_NO_ENV = "own"


class Builder:
    """Trees in `trees/SHA`, environments in `envs/HASH` under one folder; `ready/NAME` says that one of them passed its checks.

    These marks are in neither: what is committed or installed can write into a tree or an environment.

    Args:
        python: run everything with this interpreter and make no environments; None to make them.
        command, check: arguments for Python that run a bot, and that only try it.
        limit_s: for one build, without the time in which others had the processor.
        inputs: reads what builds are given (build_inputs); every command has the arguments as its environment.
        limits: what one build may use.
    """

    def __init__(
        self,
        repository: Repository,
        folder: Path,
        *,
        python: Path | None,
        command: str,
        check: str,
        limit_s: float,
        inputs: Callable[[], BuildInputs] = BuildInputs,
        limits: BuildLimits | None = None,
    ) -> None:
        self._repository = repository
        self._trees, self._envs, self._ready = folder / "trees", folder / "envs", folder / "ready"
        self._python = python
        self._command, self._check = shlex.split(command), shlex.split(check)
        self._limit_s, self._inputs, self._limits = limit_s, inputs, limits or BuildLimits()
        self._locks, self._home = folder / "builds", (folder / "home").absolute()
        _end_left_over(self._locks)

    def tree(self, sha: str) -> Path:
        """Where a commit's files are."""
        return self._trees / sha

    def command(self, sha: str) -> list[str]:
        """What runs a bot of a built commit."""
        if self._is_own(sha):
            return _own(str(self._interpreter(sha)), OWN)
        return [str(self._interpreter(sha)), *self._command]

    def built(self) -> frozenset[str]:
        """The commits whose tree was checked and whose environment is there."""
        if not self._trees.is_dir():
            return frozenset()
        return frozenset(tree.name for tree in self._trees.iterdir() if self._is_ready(tree.name))

    def comparable(self) -> frozenset[str]:
        """Those of them that declare that they know the command `compare`."""
        return frozenset(sha for sha in self.built() if (self._package(sha) / COMPARES).is_file())

    async def build(self, sha: str) -> tuple[str, ...]:
        """Make tree and environment and try the commit. Returns what is missing of the commit. Raises BuildError."""
        if sha in self.built():
            return ()
        remarks: tuple[str, ...] = ()
        proof = ""
        try:
            async with asyncio.timeout(self._limit_s) as timer:
                allowance = Allowance(timer, self._limit_s)
                remarks = await self._extract(sha)
                if self._python is None and not self._is_own(sha):
                    await self._make_environment(self.tree(sha), allowance)
                proof = await self._proof(sha)
                if (like := self._tried(proof)) is not None:
                    remarks += (f"its files are those of {like[:7]}, which was built and tried: it is not tried again",)
                await self._try(sha, allowance, again=like is None)
        except TimeoutError as error:
            raise BuildError(f"the build was not ready within {self._limit_s:g} s (DEPLOYER_BUILD_LIMIT)") from error
        except OSError as error:
            raise BuildError(f"the build could not write or run something: {error}") from error
        except BuildError as error:
            raise error.with_remarks(remarks) from None
        # The mark names the environment, so that looking for what is built reads no lock file.
        env = _NO_ENV if self._is_own(sha) else self._env(self.tree(sha)).name if self._python is None else ""
        self._mark(sha, f"{env}\n{proof}")
        return remarks

    async def _proof(self, sha: str) -> str:
        """Names all that a try depends on. Empty where that is more than can be named: then it is tried."""
        try:
            inputs = self._inputs()
            tree = await self._repository.tree(sha)
        except StartError as error:
            raise BuildError(str(error)) from error
        except RepositoryError:
            return ""
        if inputs.secrets or self._is_own(sha):  # that one runs on this release's bot
            return ""
        given = sorted(f"{name}={value}" for name, value in inputs.arguments.items())
        facts = (tree, str(self._interpreter(sha)), sys.version, *self._command, "", *self._check, "", *given)
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    def _tried(self, proof: str) -> str | None:
        """A commit that is built, and whose try was the same; None for none."""
        trees = self._trees.iterdir() if proof and self._trees.is_dir() else ()
        return next((t.name for t in trees if self._read_mark(t.name)[1] == proof and self._is_ready(t.name)), None)

    def _read_mark(self, name: str) -> tuple[str, str]:
        """The environment, and the proof of the try; empty where there is no mark, or where another release made it."""
        try:
            env, _, proof = read_named(self._ready / name).decode().partition("\n")
        except OSError:  # none, or one that is being removed just now
            return "", ""
        return env, proof

    def prune(self, keep: frozenset[str], newest: int) -> None:
        """Remove all trees but `keep` and the newest few, and the environments that no tree uses any more.

        A build may run meanwhile: what it makes of a commit of `keep` is left alone, whatever it is called just now.
        """
        spare = [tree for tree in self._by_age() if _sha_of(tree) not in keep]
        for tree in spare[: max(0, len(spare) - newest)]:
            self._remove(tree)
        if self._python is None and self._envs.is_dir():
            used = {self._env(tree).name for tree in self._by_age()}
            for env in self._envs.iterdir():
                if env.name not in used:
                    self._remove(env)

    def _by_age(self) -> list[Path]:
        """All trees, the oldest first; a build renames them meanwhile."""
        found = []
        for tree in self._trees.iterdir() if self._trees.is_dir() else ():
            with suppress(FileNotFoundError):
                found.append((tree.stat().st_mtime, tree))
        return [tree for _, tree in sorted(found)]

    def _mark(self, name: str, text: str) -> None:
        self._ready.mkdir(parents=True, exist_ok=True)
        write_atomically(self._ready / name, text.encode(), durable=True)

    def _unmark(self, name: str) -> None:
        """A mark whose tree or environment was removed by hand must not count for the one that is only being made."""
        if (self._ready / name).exists():
            (self._ready / name).unlink(missing_ok=True)
            sync_directory(self._ready)

    def _remove(self, path: Path) -> None:
        (self._ready / path.name).unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    async def _extract(self, sha: str) -> tuple[str, ...]:
        tree = self.tree(sha)
        self._unmark(sha)
        self._trees.mkdir(parents=True, exist_ok=True)
        fresh = self._trees / f".{sha}.new"
        shutil.rmtree(fresh, ignore_errors=True)  # left over by a deployer that died in the middle
        fresh.mkdir()
        try:
            remarks = await self._repository.archive(
                sha, fresh, most_bytes=self._limits.size, most_files=self._limits.files
            )
        except TooLargeError as error:
            raise BuildError(self._limits.too_large()) from error
        except RepositoryError as error:
            raise BuildError(f"the commit's files could not be had from git: {error}") from error
        # Before its name: after a power cut a tree of empty files would make a broken commit of a good one.
        await asyncio.to_thread(sync_disk, fresh)
        # Anew each time: what a build that ended in the middle left there may have been changed by what it ran.
        # Moved aside first, as a bot of it may run: its path always has the commit's files.
        former = self._trees / f".{sha}.old"
        shutil.rmtree(former, ignore_errors=True)
        if tree.exists():
            tree.rename(former)
        fresh.rename(tree)
        sync_directory(self._trees)
        shutil.rmtree(former, ignore_errors=True)
        return tuple(remarks.lines())

    async def _make_environment(self, tree: Path, allowance: Allowance) -> None:
        if not (tree / LOCK_FILE).is_file():
            raise BuildError(
                f"the commit has no {LOCK_FILE}; expected the bot's locked dependencies at the top of the repository"
            )
        env = self._env(tree)
        if self._is_whole(env):
            return
        # Environments cannot be moved, so it is made in place and counts only with its mark.
        self._unmark(env.name)
        self._envs.mkdir(parents=True, exist_ok=True)
        uv = [sys.executable, "-m", "uv", "--quiet", "--no-progress"]
        await self._run(
            [*uv, "venv", "--clear", "--python", sys.executable, str(env)],
            tree,
            "an environment could not be made",
            allowance,
        )
        await self._run(
            [
                *uv,
                "pip",
                "sync",
                "--require-hashes",
                "--allow-empty-requirements",
                "--python",
                _python_of(env),
                LOCK_FILE,
            ],
            tree,
            f"the packages of {LOCK_FILE} could not be installed",
            allowance,
            network=True,
        )
        await asyncio.to_thread(sync_disk, env)
        self._mark(env.name, "")

    async def _try(self, sha: str, allowance: Allowance, *, again: bool = True) -> None:
        """Compile what runs, so that a syntax error anywhere in it fails here, then import it, unless that went well before."""
        tree, python = self.tree(sha), str(self._interpreter(sha))
        if self._is_own(sha):
            loads = _own(python, OWN, "--version")
            await self._run(loads, tree, "the strategy cannot be loaded", allowance, CHECK_LIMIT_S)
            return
        packages = [
            name for name in (_module(self._command), "bus", "ledger", "recording") if name and (tree / name).is_dir()
        ]
        if packages:
            await self._run([python, "-m", "compileall", "-q", *packages], tree, "the code does not compile", allowance)
        if again:
            await self._run([python, *self._check], tree, "the bot cannot be imported", allowance, CHECK_LIMIT_S)

    async def _run(
        self,
        command: Sequence[str],
        directory: Path,
        failed: str,
        allowance: Allowance,
        limit_s: float | None = None,
        *,
        network: bool = False,
    ) -> None:
        """Run a command of a build to its end, with all that it starts. network: it installs packages. Raises BuildError."""
        try:
            inputs = self._inputs()
        except StartError as error:
            raise BuildError(str(error)) from error
        self._home.mkdir(parents=True, exist_ok=True)
        with _life_lock(self._locks) as (lock, pid_file):
            mark = pid_file.stem
            process = await asyncio.create_subprocess_exec(
                *gently(self._limits.command(command)),
                cwd=directory,
                env=self._environment(inputs, mark, network=network),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
            pid_file.write_text(str(process.pid))
            assert process.stdout is not None, "it was asked for"
            output = asyncio.create_task(tail(process.stdout), name="the output of a build")
            over = f"`{_short(command)}` did not end within {limit_s:g} s of its own" if limit_s else ""
            watching = self._watch(mark, process.pid, limit_s, allowance, over)
            watched = asyncio.create_task(watching, name="the limits of a build")
            ended = asyncio.create_task(process.wait(), name="the end of a build")
            try:
                await asyncio.wait({ended, watched}, return_when=asyncio.FIRST_COMPLETED)
                if watched.done():
                    raise BuildError(f"{failed}: {watched.result()}; it was ended")
            finally:
                watched.cancel()
                await asyncio.to_thread(end, mark, process.pid)  # also what a build that ended well left running
                await asyncio.wait({output, watched, ended})
        if process.returncode != 0:
            reason, lines = explain(inputs.redact(output.result().decode("utf-8", "replace")).splitlines())
            reason = reason or f"exit code {process.returncode}"
            raise BuildError(f"{failed}: {reason}", "\n".join(lines), interrupted=process.returncode in _FROM_OUTSIDE)

    async def _watch(self, mark: str, session: int, limit_s: float | None, allowance: Allowance, over: str) -> str:
        """Wait until a build has too much of something, or used up its time; what."""
        patience = Patience(limit_s or math.inf, time.monotonic())
        waited_s = 0.0
        while True:
            processes = await asyncio.to_thread(members, mark, session)
            if (why := self._limits.why_too_much(processes)) is not None:
                return why
            if patience.is_over(processes, time.monotonic()):
                return over
            allowance.add(patience.waited_s - waited_s)
            waited_s = patience.waited_s
            await asyncio.sleep(LOOK_EVERY_S)

    def _environment(self, inputs: BuildInputs, mark: str, *, network: bool) -> dict[str, str]:
        given = build_environment(os.environ, self._home, network=network)
        folder = next((str(path.parent) for path in inputs.secrets.values()), None)
        return {**given, **inputs.arguments, **({FOLDER: folder} if folder is not None else {}), MARK: mark}

    def _is_ready(self, sha: str) -> bool:
        try:
            env, _, _ = read_named(self._ready / sha).decode().partition("\n")
        except OSError:
            return False
        return self._python is not None or env == _NO_ENV or bool(env and self._is_whole(self._envs / env))

    def _is_whole(self, env: Path) -> bool:
        """Whether it was made to its end, and the interpreter that it was made of is still there."""
        return (self._ready / env.name).exists() and Path(_python_of(env)).exists()

    def _interpreter(self, sha: str) -> Path:
        if self._python is None and self._is_own(sha):
            return Path(sys.executable)
        # Not resolved: an environment's python is a link, and what it links to knows nothing of the environment.
        return self._python.absolute() if self._python is not None else Path(_python_of(self._env(self.tree(sha))))

    def _package(self, sha: str) -> Path:
        return HOME / "bot" if self._is_own(sha) else self.tree(sha) / (_module(self._command) or "bot")

    def _is_own(self, sha: str) -> bool:
        tree = self.tree(sha)
        return (tree / OWN).is_file() and not (tree / LOCK_FILE).exists()

    def _env(self, tree: Path) -> Path:
        try:
            locked = read_named(tree / LOCK_FILE)
        except OSError:
            locked = b""
        return (self._envs / hashlib.sha256(sys.version.encode() + locked).hexdigest()[:16]).absolute()


@contextmanager
def _life_lock(folder: Path) -> Iterator[tuple[int, Path]]:
    """A locked descriptor for a process group to hold for its whole life, and the file for its leader's pid beside the lock.

    So the next deployer can tell what a killed one left over, and never takes a reused pid for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, name = tempfile.mkstemp(suffix=".lock", dir=folder)
    path, pid_file = Path(name), Path(name).with_suffix(".pid")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file, pid_file
    finally:
        os.close(file)
        pid_file.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _end_left_over(folder: Path) -> None:
    """Kill the process groups of builds whose deployer died."""
    for path in folder.glob("*.lock") if folder.is_dir() else ():
        pid_file = path.with_suffix(".pid")
        pid = read_named(pid_file).decode("ascii", "replace") if pid_file.is_file() else ""
        # The session's number cannot be another's while a member of it holds the lock.
        end(path.stem, int(pid) if pid.isdecimal() and is_locked(path) else None)
        pid_file.unlink(missing_ok=True)
        path.unlink()


def _python_of(env: Path) -> str:
    return str(env / "bin" / "python")


def _sha_of(tree: Path) -> str:
    """The commit of a tree, also of one that is being made or moved aside."""
    return tree.name.strip(".").removesuffix(".new").removesuffix(".old")


def _own(python: str, *arguments: str) -> list[str]:
    return ["/usr/bin/env", f"PYTHONPATH={HOME}", python, *arguments]


def _module(command: Sequence[str]) -> str:
    return command[1].split(".")[0] if len(command) > 1 and command[0] == "-m" else ""


def _short(command: Sequence[str]) -> str:
    return " ".join(Path(part).name if part.startswith("/") else part for part in command)[:100]
