"""What a build as a process may use and see, tried with builds that take more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deployer.disk import Disks
from deployer.errors import BuildError
from deployer.push.repository import Repository
from deployer.runtimes import build_limits, builder
from deployer.runtimes.build_limits import BuildLimits, Member, Patience, build_environment, busy_words, members
from deployer.runtimes.builder import Builder
from tests.e2e.rig import until
from tests.unit.deployer.runtimes.test_builder import Source

SMALL = BuildLimits(memory=256 << 20, processes=20, size=4 << 20, files=100)
on_linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are watched by /proc")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty repository."""
    return Source(tmp_path)


async def build(
    source: Source, folder: Path, code: str, limits: BuildLimits = SMALL, more: str = "", limit_s: float = 60
) -> None:
    """Build a commit whose import runs this code. Raises BuildError."""
    files = {"bot/__init__.py": "", "bot/__main__.py": code}
    sha = source.commit({**files, "data": more} if more else files)
    made = Builder(
        Repository(source.path), folder / "run", python=Path(sys.executable), command="-m bot", check="-m bot --version",
        limit_s=limit_s, limits=limits,
    )  # fmt: skip
    await made.build(sha)


async def test_a_build_sees_none_of_the_deployers_environment(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither settings nor keys, agents, tokens or the home of who runs the deployer; what any program needs is there."""
    for name in (
        "BOT_KEY_FILE",
        "DEPLOYER_BUILD_SECRETS",
        "AWS_SECRET_ACCESS_KEY",
        "SSH_AUTH_SOCK",
        "PANEL_TOKEN_FILE",
    ):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://user:planted@index.test")
    monkeypatch.setenv("PYTHONSTARTUP", "planted")
    monkeypatch.setenv("LANG", "C.UTF-8")
    await build(
        source, tmp_path, f"import os, json; json.dump(dict(os.environ), open({str(tmp_path / 'seen')!r}, 'w'))"
    )
    seen = (tmp_path / "seen").read_text()
    assert "planted" not in seen
    assert str(Path.home()) not in seen.replace(os.environ["PATH"], "")
    assert '"LANG": "C.UTF-8"' in seen
    assert '"PATH"' in seen


def test_what_installs_packages_is_told_the_way_to_them(tmp_path: Path) -> None:
    """Proxies, certificates, indexes and uv's cache; the cache is the builds' own where the usual one cannot be made."""
    told = {"HTTPS_PROXY": "http://p.test", "UV_DEFAULT_INDEX": "https://i.test", "HOME": str(tmp_path), "BOT_X": "1"}
    made = build_environment(told, tmp_path / "home", network=True)
    assert made["HTTPS_PROXY"] == "http://p.test"
    assert made["UV_DEFAULT_INDEX"] == "https://i.test"
    assert made["UV_CACHE_DIR"] == str(tmp_path / ".cache" / "uv")
    assert made["HOME"] == str(tmp_path / "home")
    assert "BOT_X" not in made
    nowhere = build_environment({"HOME": "/proc/nowhere"}, tmp_path / "home", network=True)
    assert nowhere["UV_CACHE_DIR"] == str(tmp_path / "home" / "cache")
    assert "UV_CACHE_DIR" not in build_environment(told, tmp_path / "home", network=False)


@on_linux
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = bytearray(600 << 20)", "MemoryError"),
        (
            "import subprocess, sys, time\nc = 'x = bytearray(100 << 20); import time; time.sleep(60)'\n"
            "p = [subprocess.Popen([sys.executable, '-c', c]) for _ in range(4)]\ntime.sleep(60)",
            "MB of memory, a build may have 256 (DEPLOYER_BUILD_MEMORY); it was ended",
        ),
        (
            "import subprocess, time\np = [subprocess.Popen(['sleep', '60']) for _ in range(40)]\ntime.sleep(60)",
            "processes, a build may have 20; it was ended",
        ),
        ("open('big', 'wb').write(bytes(8 << 20))", "exit code -25|File too large"),
    ],
)
async def test_a_build_that_takes_too_much_is_ended(source: Source, tmp_path: Path, code: str, said: str) -> None:
    """Memory of one process and of all together, processes, and the size of a file: each is said, and nothing of it is left."""
    with pytest.raises(BuildError) as failed:
        await build(source, tmp_path, code)
    assert any(words in str(failed.value) for words in said.split("|")), failed.value
    until("all of it ended", lambda: not _running(tmp_path))


@on_linux
async def test_what_a_build_leaves_running_ends_with_it(source: Source, tmp_path: Path) -> None:
    """Also what went to a session of its own; the build itself is good."""
    pid = tmp_path / "pid"
    code = (
        "import subprocess\n"
        "p = subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        f"open({str(pid)!r}, 'w').write(str(p.pid))"
    )
    await build(source, tmp_path, code)
    # It was sent SIGKILL; whoever adopted it may take a moment to see to its end.
    until("it ended", lambda: not _environ(Path(f"/proc/{pid.read_text()}")))


async def test_what_a_build_prints_is_not_kept_in_memory(source: Source, tmp_path: Path) -> None:
    """20 MB of output: the last lines are its words."""
    code = "import sys\nfor _ in range(20):\n    print('x' * (1 << 20), flush=True)\nsys.exit('the end')"
    with pytest.raises(BuildError, match="the end") as failed:
        await build(source, tmp_path, code)
    assert len(failed.value.output) < 100_000


@pytest.mark.parametrize("limits", [replace(SMALL, size=1 << 20), replace(SMALL, files=2)])
async def test_a_commit_that_is_too_large_is_not_built(source: Source, tmp_path: Path, limits: BuildLimits) -> None:
    """By bytes or by files; nothing of it stays on the disk."""
    with pytest.raises(BuildError, match="the commit has more than"):
        await build(source, tmp_path, "", limits, more="x" * (2 << 20))
    assert not [path for path in (tmp_path / "run" / "trees").iterdir() if path.suffix == ".tar"]


async def test_the_disk_is_looked_at_during_a_build(tmp_path: Path) -> None:
    """One that fills it is ended in the middle, and the reason is the disk."""
    disks = Disks({"builds": tmp_path}, 0, lambda *_: None)
    ended = asyncio.Event()

    async def fill() -> None:
        disks._wanted = 1 << 60  # as if the disk had filled meanwhile
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(BuildError, match=r"it filled a disk: expected at least .* free"):
        await disks.guard(fill())
    assert ended.is_set()


def _running(folder: Path) -> list[int]:
    """What runs for builds below this folder."""
    home = f"HOME={folder / 'run' / 'home'}\0".encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if home in _environ(path)]


def _environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


@on_linux
def test_members_are_found_by_mark_and_by_session() -> None:
    """This process is of its own session, and has no mark."""
    assert os.getpid() in [member.pid for member in members("nothing-has-this", os.getsid(0))]
    assert members("nothing-has-this", None) == []


def test_the_time_in_which_others_have_the_processor_is_not_a_commits() -> None:
    """Ten seconds of its own are over after ten, or after a hundred of which it waited ninety; who ended still counts."""
    alone, starved = Member(1, 0, waited_s=0.5), Member(2, 0, waited_s=90.0)
    patience = Patience(10, now_s=1000)
    assert not patience.is_over([alone], 1010.4)
    assert patience.is_over([alone], 1010.6)
    assert not patience.is_over([alone, starved], 1099)
    assert not patience.is_over([alone], 1099)
    assert patience.is_over([alone], 1100.1)


@on_linux
@pytest.mark.parametrize("starved", [False, True])
async def test_a_hanging_import_is_ended_by_its_own_time_alone(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starved: bool
) -> None:
    """One that sleeps is ended after its limit. One that others keep from the processor has longer, and not for ever."""
    monkeypatch.setattr(builder, "CHECK_LIMIT_S", 1.0)
    monkeypatch.setattr(build_limits, "MOST_TIMES", 1.5)
    began = time.monotonic()

    def seen(mark: str, session: int | None) -> list[Member]:
        return [
            replace(member, waited_s=time.monotonic() - began if starved else 0.0) for member in members(mark, session)
        ]

    monkeypatch.setattr(builder, "members", seen)
    expected = "not ready within 10 s" if starved else "did not end within 1 s of its own"
    with pytest.raises(BuildError, match=expected):
        await build(source, tmp_path, "import time; time.sleep(600)", limit_s=10)
    assert not starved or time.monotonic() - began > 14


def test_a_busy_machine_is_named_and_a_quiet_one_is_not() -> None:
    """More than one and a half threads a processor: only then is a limit of the Engine's builds no fault of a commit's."""
    assert busy_words(3.0, 2) == ""
    assert busy_words(12.2, 2) == " while 12 threads wanted 2 processors"


@on_linux
def test_a_process_that_waited_for_the_processor_says_so() -> None:
    """Two that burn on one processor have waited about as long as they ran, as the kernel counts it."""
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}})\nwhile True: pass"
    burning = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(2)]
    try:
        until(
            "both waited",
            lambda: all(any(m.waited_s > 0.2 for m in members("none", p.pid)) for p in burning),
            every_s=0.1,
        )
    finally:
        for process in burning:
            process.kill()
            process.wait(10)
