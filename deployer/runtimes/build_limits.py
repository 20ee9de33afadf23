"""What one build may use, and what it may see of the deployer's environment.

A build runs code that somebody pushed. As a process it is watched from outside: what it holds in memory, how many processes it
has, and what it writes to a pipe. Limits of the kernel's own (ulimit) come first, where the kernel keeps them; it counts
processes by user and not at all for root, so here they are counted by a mark in their environment, which children inherit.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import tarfile
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deployer.errors import BuildError

T = TypeVar("T")
MARK = "NEVER_SLEEPS_BUILD"
LOOK_EVERY_S = 0.25
TAIL_BYTES = 64 << 10
# However busy the machine is: a build ends after so many times its limit.
MOST_TIMES = 10
# Threads that want a processor, a processor, in the last minute: from there on a limit says nothing of a commit.
BUSY = 1.5
_PAGE = resource.getpagesize()
_PROC = Path("/proc")

# What any program needs to run and to write text.
PLAIN = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "TMPDIR")
# What installing packages needs of this machine's way to them, and nothing that a commit itself runs is given.
NETWORK = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "UV_CACHE_DIR",
        "UV_OFFLINE",
        "UV_NATIVE_TLS",
        "UV_HTTP_TIMEOUT",
        "UV_LINK_MODE",
    ),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
)


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """memory: bytes, of all its processes together. processes: at one time. size: bytes of the commit's files, and of one file
    that a build writes. files: of the commit.
    """

    memory: int = 2 << 30
    processes: int = 256
    size: int = 512 << 20
    files: int = 50_000

    def command(self, command: Sequence[str]) -> list[str]:
        """The command with the kernel's own limits for each of its processes."""
        limited = 'ulimit -d "$0" 2>/dev/null; ulimit -f "$1" 2>/dev/null; ulimit -c 0 2>/dev/null; shift; exec "$@"'
        return ["/bin/sh", "-c", limited, str(self.memory >> 10), str(self.size >> 9), *command]

    def why_too_much(self, of: Sequence[Member]) -> str | None:
        """What these processes have too much of."""
        if len(of) > self.processes:
            return f"it had {len(of)} processes, a build may have {self.processes}"
        memory = sum(member.memory for member in of)
        if memory > self.memory:
            return f"it held {memory >> 20} MB of memory, a build may have {self.memory >> 20} (DEPLOYER_BUILD_MEMORY)"
        return None

    async def archived(self, work: Awaitable[T], tar: Path) -> T:
        """Wait for git to write the commit's files. Raises BuildError as soon as they are too large."""
        writing = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({writing}, timeout=LOOK_EVERY_S))[0]:
                with suppress(FileNotFoundError):  # git has not begun yet
                    if tar.stat().st_size > self.size + self.files * tarfile.BLOCKSIZE:
                        raise BuildError(self.too_large())
            return writing.result()
        finally:
            writing.cancel()
            await asyncio.wait({writing})

    def too_large(self) -> str:
        """Why, and what to do."""
        return (
            f"the commit has more than {self.size >> 20} MB (DEPLOYER_BUILD_SIZE) or {self.files} files; leave data out of the "
            "repository"
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a build.

    memory: bytes that are its own. waited_s: seconds in which it could run and others had the processor.
    """

    pid: int
    memory: int
    waited_s: float = 0.0


class Patience:
    """Whether a command has used up its seconds. Those do not count in which others had the processor: a busy machine is no fault
    of a commit's. Of several processes the one that waited longest counts.
    """

    def __init__(self, limit_s: float, now_s: float) -> None:
        self._limit_s, self._began_s = limit_s, now_s
        self._waited: dict[int, float] = {}

    def is_over(self, processes: Sequence[Member], now_s: float) -> bool:
        """processes: those that live now. now_s: a monotonic clock."""
        self._waited.update({member.pid: member.waited_s for member in processes})
        return now_s - self._began_s - self.waited_s > self._limit_s

    @property
    def waited_s(self) -> float:
        """Seconds in which others had the processor, so far."""
        return max(self._waited.values(), default=0.0)


class Allowance:
    """The time of a whole build: the end of an `asyncio.timeout(limit_s)`, put off by what others had of the processor."""

    def __init__(self, timer: asyncio.Timeout, limit_s: float) -> None:
        self._timer = timer
        self._latest = asyncio.get_running_loop().time() + MOST_TIMES * limit_s

    def add(self, waited_s: float) -> None:
        """Others had the processor for so many seconds more. Does nothing once the time is over."""
        end = self._timer.when()
        if end is not None and not self._timer.expired():
            self._timer.reschedule(min(end + waited_s, self._latest))


def busy_words(load: float, processors: int) -> str:
    """Why the machine, and not a commit, may have used up a limit; empty where it did not. load: of the last minute."""
    if load <= BUSY * processors:
        return ""
    return f" while {load:.0f} threads wanted {processors} processors"


def members(mark: str, session: int | None) -> list[Member]:
    """The living processes of a build, by their mark or their session. Empty where there is no /proc."""
    wanted = f"{MARK}={mark}\0".encode()
    processes = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            # After the name, which may have spaces and brackets: state, parent, group, session.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in b"ZX" or (int(fields[3]) != session and wanted not in _environ(folder)):
                continue
            _, resident, shared = (folder / "statm").read_bytes().split()[:3]
        except (OSError, IndexError, ValueError):
            continue  # it ended, or is another user's
        processes.append(Member(int(folder.name), (int(resident) - int(shared)) * _PAGE, _waited_s(folder)))
    return processes


def _waited_s(folder: Path) -> float:
    """The second number of schedstat is the time on a run queue in ns (Documentation/scheduler/sched-stats.rst)."""
    try:
        return int((folder / "schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0  # a kernel without it


def _environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except PermissionError:
        return b""  # another user's


def end(mark: str, session: int | None) -> None:
    """SIGKILL to all of a build, what left its session as well. session: None where its number may be another's by now."""
    if session is not None:
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
    for member in members(mark, session):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(member.pid, signal.SIGKILL)


async def tail(stream: asyncio.StreamReader) -> bytes:
    """The last TAIL_BYTES of what is written until the other side closes."""
    lines: deque[bytes] = deque()
    size = 0
    while piece := await stream.read(TAIL_BYTES):
        lines.append(piece)
        size += len(piece)
        while size - len(lines[0]) >= TAIL_BYTES:
            size -= len(lines.popleft())
    return b"".join(lines)[-TAIL_BYTES:]


def build_environment(environment: Mapping[str, str], home: Path, *, network: bool) -> dict[str, str]:
    """What a build is given of the deployer's environment. home: an empty folder of builds. network: it installs packages."""
    names = (*PLAIN, *NETWORK) if network else PLAIN
    given = {name: environment[name] for name in names if name in environment}
    if network and "UV_CACHE_DIR" not in given:
        given["UV_CACHE_DIR"] = str(_cache(environment, home))
    return {**given, "HOME": str(home), "PYTHONUTF8": "1"}


def _cache(environment: Mapping[str, str], home: Path) -> Path:
    """uv's usual cache, which the set-up filled already; one of the builds' own where that cannot be written."""
    usual = Path(environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or home) / ".cache") / "uv"
    try:
        usual.mkdir(parents=True, exist_ok=True)
    except OSError:
        return home / "cache"
    return usual if os.access(usual, os.W_OK | os.X_OK) else home / "cache"
