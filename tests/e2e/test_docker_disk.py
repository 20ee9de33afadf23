"""The Engine's own disk is full: a second Engine of the test's own, on a disk of 64 MB."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus import SystemClock, open_bus
from deployer import BuildError
from deployer.push.repository import Repository
from deployer.runtimes.build_limits import BuildLimits
from deployer.runtimes.docker.body import Mount, Place
from deployer.runtimes.docker.engine import Engine
from deployer.runtimes.docker.images import Images
from deployer.runtimes.docker.room import BuildRoom
from deployer.runtimes.docker.runtime import DockerRuntime, Given
from tests.e2e.deployer_rig import GIT
from tests.e2e.docker_engine import need_engine
from tests.e2e.rig import until

need_engine()
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="a second Engine needs root and dockerd"
)

DISK = 64 << 20
PLACE = Place(Mount("bind", "/no/bus"), "none", "1:1")


@contextmanager
def small_engine() -> Iterator[str]:
    """The URL of an Engine whose images lie on a small disk. In a folder with a short name: its sockets lie deep in it."""
    folder = Path(tempfile.mkdtemp(prefix="small-"))
    disk, data, socket, log = folder / "disk", folder / "data", folder / "docker.sock", folder / "dockerd.log"
    data.mkdir()
    with disk.open("wb") as file:
        file.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True, timeout=30)
    subprocess.run(["mount", "-o", "loop", disk, data], check=True, timeout=30)
    # In a network namespace of its own: without a bridge an Engine removes the one that it finds, another Engine's.
    command = (
        "unshare",
        "--net",
        "dockerd",
        "--data-root",
        data,
        "--exec-root",
        folder / "exec",
        "--pidfile",
        folder / "pid",
    )
    options = (f"--host=unix://{socket}", "--bridge=none", "--iptables=false", "--ip-masq=false")
    with log.open("wb") as output:
        engine = subprocess.Popen([*command, *options], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        until("the second Engine answers", lambda: _answers(socket), 60)
        yield f"unix://{socket}"
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(30)
        subprocess.run(["umount", data], check=True, timeout=30)
        shutil.rmtree(folder)


def _answers(socket: Path) -> bool:
    command = ["docker", "--host", f"unix://{socket}", "version"]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.mark.parametrize("with_buildx", [True, False], ids=["buildx", "classic"])
async def test_a_full_disk_inside_the_engine_fails_the_build_with_its_reason(tmp_path: Path, with_buildx: bool) -> None:
    """No room for an image: the build fails and says so, older images stay, and a smaller commit is built after it."""
    bus, source = open_bus(tmp_path / "bus"), tmp_path / "repository"
    source.mkdir()

    def git(*arguments: str) -> str:
        done = subprocess.run([*GIT, *arguments], cwd=source, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def commit(size: int) -> str:
        (source / "Dockerfile").write_text("FROM scratch AS bot\nCOPY file /\n")
        (source / "file").write_bytes(b"x" * size)
        git("add", "-A")
        git("commit", "--quiet", "-m", f"{size}")
        return git("rev-parse", "HEAD")

    git("init", "--quiet", "--initial-branch=main")
    with small_engine() as url:
        engine = Engine(url)
        room = BuildRoom(engine, str(bus.directory), "", BuildLimits(), pytest.fail)
        images = Images(engine, Repository(source), tmp_path / "builds", str(bus.directory), room, limit_s=120)
        if not with_buildx:
            images._has_buildx = False
        runtime = DockerRuntime(
            images, PLACE, bus, tmp_path / "run", SystemClock(), pytest.fail, keep=1, given=Given({})
        )
        small, big, after = commit(100), commit(2 * DISK), commit(200)
        await runtime.build(small)
        with pytest.raises(BuildError, match="no space left on device"):
            await runtime.build(big)
        await runtime.build(after)
        assert await runtime.built() == {small, after}
