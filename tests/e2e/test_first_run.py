"""A first run and the demo where people reported that it failed: odd environments all at once, and a machine with IPv6 alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.clone import Clone
from tests.e2e.rig import until

pytestmark = pytest.mark.timeout(600)

# In a user namespace of its own: no inotify instance is left for anybody in it.
NO_INOTIFY = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh",
)  # fmt: skip
# In a network namespace of its own: the loopback interface has ::1 and no IPv4 address.
IPV6_ALONE = (
    "unshare",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && ip address del 127.0.0.1/8 dev lo && exec "$@"',
    "sh",
)
NOBODY = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), NOBODY)
ODD = {
    "HOME": "/proc/nowhere",
    "XDG_CACHE_HOME": "/proc/nowhere/cache",
    "XDG_CONFIG_HOME": "/proc/nowhere/config",
    **PROXIES,
}
FOLDER = "a path – with spaces and 'quotes'"


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale of ISO-8859-1, made from the machine's own sources; none where there are no such sources."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is not None:
        made = folder / "de_DE.ISO-8859-1"
        command = ["localedef", "--no-archive", "-i", "de_DE", "-f", "ISO-8859-1", str(made)]
        subprocess.run(command, capture_output=True, timeout=60, check=False)
        if made.exists():
            return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1"}
    return {"LC_ALL": "POSIX"}


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A checkout of its own, with every default of a first run."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    made = Clone(folder, "process")
    for name in ("FAST", "BOT_BASIS_AFTER"):
        del made.environment[name]
    made.environment |= {"PAPER_PORT": "0", "PANEL_PORT": "0"}
    yield made
    made.make("stop")


@pytest.fixture(params=["odd", "ipv6"])
def place(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """What a command begins with, and its environment."""
    begin, environment = (
        (NO_INOTIFY, ODD | request.getfixturevalue("latin1")) if request.param == "odd" else (IPV6_ALONE, {})
    )
    tried = subprocess.run([*begin, "true"], capture_output=True, text=True, timeout=60, check=False)
    if tried.returncode != 0:
        pytest.skip(f"namespaces cannot be made here: {tried.stderr.strip()}")
    return begin, environment


def called(
    clone: Clone, place: tuple[tuple[str, ...], Mapping[str, str]], *words: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the README there, as under nohup: SIGHUP is ignored."""
    begin, environment = place
    return subprocess.run(
        [*begin, *words], cwd=clone.folder, env={**clone.environment, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=400, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip


def test_the_demo_holds(clone: Clone, place: tuple[tuple[str, ...], Mapping[str, str]]) -> None:
    """`make demo` ends with 0, and all of it held; what it prints is UTF-8."""
    done = called(clone, place, "make", "demo")
    said = done.stdout.decode() + done.stderr.decode(errors="replace")  # make itself speaks the locale
    assert done.returncode == 0, said
    assert done.stdout.decode().rstrip().endswith("demo: everything held")


def test_a_first_run_trades_and_takes_a_push(clone: Clone, place: tuple[tuple[str, ...], Mapping[str, str]]) -> None:
    """`make run` brings a trader, a commit with an emoji takes over, status says so, and `make stop` ends all of it."""
    clone.environment |= {"FAST": "1", "DETACH": "1", "BOT_BASIS_AFTER": "2"}
    done = called(clone, place, "make", "run")
    said = done.stdout.decode() + done.stderr.decode(errors="replace")  # make itself speaks the locale
    assert done.returncode == 0, said
    until("somebody trades", clone.trader, 240.0, 0.2)
    sha = clone.commit("faster \N{ROCKET} café")
    until("the commit is confirmed", lambda: clone.step(sha, "confirmed"), 240.0, 0.2)
    told = called(clone, place, "make", "status")
    assert (told.returncode, sha[:7].encode() in told.stdout) == (0, True), told.stdout + told.stderr
    ended = called(clone, place, "make", "stop")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert clone.trader() is None
