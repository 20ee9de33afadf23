"""The only place that runs git.

A repository that somebody else may write to is never a place to run git in: its configuration names programs (filters,
core.fsmonitor, hooks, signing programs). Git runs in a mirror of the deployer's own, which it fills by fetching; upload-pack,
which serves a fetch, is made for repositories that nobody trusts (SECURITY in git-upload-pack(1)) and takes the one
program that it knows, uploadpack.packObjectsHook, from no repository (git-config(1)).

No configuration of the machine or of a user is read, replace objects and grafts are off, and no name is taken for an option.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bus import open_named
from deployer.errors import RepositoryError

LIMIT_S = 20.0
CONFIG_LIMIT_S = 5.0  # of reading one file, which the start of a deployer waits for
# Above what a pointer file or a HEAD ever has.
_MOST_BYTES = 4096
# Also against the configuration of a repository that is a person's own (`./ns new`, the demo).
_NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false")
# A blob of half a gigabyte of zeros is small in a push: what is larger than this is never whole in git's memory.
_STREAMED = ("-c", "core.bigFileThreshold=16m")
_ALWAYS = (*_NO_PROGRAMS, *_STREAMED, "-c", "gc.auto=0", "-c", "protocol.version=2", "-c", "core.quotePath=false")
# Upload-pack of the other side: fetch takes GIT_CONFIG_COUNT and the like from its environment, so they are said here.
UPLOAD_PACK = " ".join(
    (
        "GIT_ALLOW_PROTOCOL=none GIT_NO_REPLACE_OBJECTS=1 GIT_GRAFT_FILE=/dev/null git",
        *_NO_PROGRAMS,
        *_STREAMED,
        "-c uploadpack.allowAnySHA1InWant=true upload-pack",
    )
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is on disk, as found without running git.

    directory: its git directory. common: where its refs are, another folder for a linked work tree. work_tree: None when bare.
    """

    directory: Path
    common: Path
    work_tree: Path | None


def locate(path: Path) -> Place:
    """The repository at a path: a checkout's top, or a bare one. Raises RepositoryError."""
    path = path.absolute()
    if not path.is_dir():
        raise RepositoryError(f"there is no folder {path}; DEPLOYER_REPOSITORY must name a git checkout")
    dot = path / ".git"
    try:
        if dot.is_file():  # a linked work tree, or a submodule
            named = _first_line(dot).removeprefix("gitdir:").strip()
            directory, work_tree = (path / named).resolve(), path
        elif dot.is_dir():
            directory, work_tree = dot, path
        else:
            directory, work_tree = path, None
        common = directory
        if (directory / "commondir").is_file():
            common = (directory / _first_line(directory / "commondir")).resolve()
        if not ((directory / "HEAD").is_file() and (common / "objects").is_dir()):
            raise RepositoryError(
                f"{path} is not a git repository; run `git init` there, or set DEPLOYER_REPOSITORY to the top of one"
            )
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read ({error.strerror}); let this user read it") from error
    return Place(directory, common, work_tree)


def head_of(place: Place) -> str:
    """What HEAD says: "refs/heads/BRANCH" on a branch, a sha when detached. Raises RepositoryError."""
    try:
        return _first_line(place.directory / "HEAD").removeprefix("ref:").strip()
    except OSError as error:
        raise RepositoryError(f"{place.directory / 'HEAD'} cannot be read ({error.strerror})") from error


def environment(
    *, protocol: str = "none", config: Path | None = None, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Git's whole environment. protocol: the one that it may fetch by. config: a file of the deployer's own."""
    variables = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {
        **variables,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config) if config is not None else os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": protocol,
        **(more or {}),
    }


async def git(
    *arguments: str,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str],
    data: bytes | None = None,
    pass_fds: Sequence[int] = (),
) -> bytes:
    """Run git outside of every repository; `--git-dir` names the one that is meant. Returns what it printed.

    data: for its standard input. Raises RepositoryError with its last line.
    """
    command = ("git", *_ALWAYS, *arguments)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd="/",
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except OSError as error:
        raise RepositoryError(f"git cannot be run ({error.strerror}); install it") from error
    try:
        async with asyncio.timeout(limit_s):
            out, output = await process.communicate(data)
    except TimeoutError as error:
        raise RepositoryError(f"git did not answer within {limit_s:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with its own children
            await process.wait()
    if process.returncode != 0:
        raise RepositoryError(_why(output, process.returncode))
    return out


def git_now(*arguments: str, limit_s: float = LIMIT_S, folder: Path = Path("/")) -> str:
    """The same, waited for. folder: one of the person's own who asked for the command. Raises RepositoryError."""
    try:
        done = subprocess.run(
            ["git", *_ALWAYS, *arguments],
            cwd=folder,
            env=environment(protocol="file"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RepositoryError(f"git did not answer within {limit_s:g} s") from error
    except OSError as error:
        raise RepositoryError(f"git cannot be run ({error.strerror}); install it") from error
    if done.returncode != 0:
        raise RepositoryError(_why(done.stderr, done.returncode))
    return text(done.stdout)


def cat_file(git_directory: Path) -> subprocess.Popen[bytes]:
    """A process that answers shas on its standard input with objects. Raises RepositoryError."""
    try:
        return subprocess.Popen(
            ["git", *_ALWAYS, f"--git-dir={git_directory}", "cat-file", "--batch"],
            cwd="/",
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise RepositoryError(f"git cannot be run ({error.strerror}); install it") from error


async def configuration(place: Place) -> dict[str, str]:
    """A repository's own configuration file by keys in lower case; reading a file runs nothing. Raises RepositoryError."""
    arguments = _list(place)
    if not arguments:
        return {}
    return _listed(text(await git(*arguments, environment=environment(), limit_s=CONFIG_LIMIT_S)))


async def user_value(key: str) -> str:
    """What this user's or the machine's own configuration says, as git has it for a push by this user; empty when unset."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for scope in ("--global", "--system"):
        with suppress(RepositoryError):  # unset, or there is no such file
            return text(await git("config", scope, "--includes", "--get", key, environment=own, limit_s=CONFIG_LIMIT_S))
    return ""


def configuration_now(place: Place) -> dict[str, str]:
    """The same, waited for. Raises RepositoryError."""
    arguments = _list(place)
    return _listed(git_now(*arguments)) if arguments else {}


def configure(place: Place, key: str, value: str) -> None:
    """Write a value into a repository's own configuration file. Raises RepositoryError."""
    git_now("config", f"--file={place.common / 'config'}", key, value)


def text(output: bytes) -> str:
    """What git printed, whatever bytes were in it."""
    return output.decode("utf-8", "replace").strip()


def _list(place: Place) -> tuple[str, ...]:
    file = place.common / "config"
    return ("config", f"--file={file}", "--includes", "--null", "--list") if file.is_file() else ()


def _listed(output: str) -> dict[str, str]:
    """The last value of each key; one without a value means true."""
    pairs = (entry.partition("\n") for entry in output.split("\0") if entry)
    return {key.strip().lower(): value if line else "true" for key, line, value in pairs}


def _why(errors: bytes, code: int | None) -> str:
    """The reason that git gave: the first fatal line, as advice may follow it."""
    lines = text(errors).splitlines()
    fatal = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return (fatal or lines or [f"git failed with exit code {code}"])[0].removeprefix("fatal: ").removeprefix("error: ")


def _first_line(file: Path) -> str:
    with open_named(file) as opened:
        return opened.read(_MOST_BYTES).decode("utf-8", "replace").partition("\n")[0].strip()
