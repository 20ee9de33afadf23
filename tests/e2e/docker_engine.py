"""A real Docker Engine for tests: the command line, what must be there, and things of a test's own that are removed after it."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployer.runtimes.docker.body import Mount, Place

SOCKET = Path("/var/run/docker.sock")
BASE = "python:3.13-slim"
# All that write to a bus run as one user, and never as root.
USER = (os.geteuid() or 10001, os.getegid() or 10001)


def docker(*arguments: str, limit_s: float = 120, check: bool = True) -> str:
    """Run the command line client and return what it printed."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def engine_answers() -> bool:
    """Whether there is an Engine that this user may use."""
    return SOCKET.is_socket() and not subprocess.run(["docker", "version"], capture_output=True, check=False).returncode


def need_engine() -> None:
    """Skip the module where no Engine answers."""
    if not engine_answers():
        pytest.skip("no Docker Engine answers", allow_module_level=True)
    if not docker("images", "--quiet", BASE):
        pytest.skip(f"the image {BASE} is not there (.ci/docker-engine makes it)", allow_module_level=True)


def own(folder: Path) -> None:
    """Give a folder to the user that writes to the bus."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *USER, follow_symlinks=False)


@contextmanager
def place_for(bus: Path) -> Iterator[Place]:
    """A network of the test's own; in the end what is left on it, and all of that bus, is removed."""
    network = f"never-sleeps-test-{secrets.token_hex(4)}"
    docker("network", "create", network)
    try:
        yield Place(Mount("bind", str(bus)), network, f"{USER[0]}:{USER[1]}")
    finally:
        remove_all(f"label=never-sleeps.bus={bus}")
        remove_all(f"network={network}")
        docker("network", "rm", network)
        for image in docker("images", "--quiet", "--filter", f"label=never-sleeps.bus={bus}").split():
            docker("rmi", "--force", image, check=False)


def remove_all(which: str) -> None:
    """Remove containers by a filter, running or not."""
    found = docker("ps", "--all", "--quiet", "--filter", which).split()
    if found:
        docker("rm", "--force", "--volumes", *found, check=False)
