"""`make run` on a machine with an Engine, with the project's own images: the main job, in containers, from a fresh clone."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import DocumentError, Role, Seen, Step, read_instances, read_status, read_steps
from bus.layout import Bus
from deployer.deploys import fold
from tests.e2e.deployer_rig import GIT
from tests.e2e.docker_engine import docker, need_engine, remove_all
from tests.e2e.rig import ROOT, until

need_engine()
pytestmark = pytest.mark.timeout(600)

SETTLE_S = 240.0  # the first build on a busy machine


class Clone:
    """A clone of this checkout, uncommitted changes included, with a project name and a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bus = folder / "clone", Bus(folder / "clone" / "volumes" / "bus")
        self.project = f"never-sleeps-test-{secrets.token_hex(4)}"
        self.log = folder / "run.log"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("BOT_", "BUS_", "PAPER_", "MAKE", "MFLAGS"))
            },
            "COMPOSE_PROJECT_NAME": self.project,
            "PANEL_PORT": str(self.port),
            "FAST": "1",
            "DEPLOYER_BUILD_HOLD": "0",
        }
        self.folder.mkdir()
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        subprocess.run(
            f"tar -cf - --null -T - --ignore-failed-read | tar -xf - -C {self.folder}",
            shell=True, cwd=ROOT, input=listed.stdout, check=True, timeout=60,
        )  # fmt: skip
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> str:
        """Run git in the clone."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Change the strategy; returns the sha."""
        with (self.folder / "bot" / "strategy.py").open("a") as file:
            file.write(f"# {secrets.token_hex(4)}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    def make(self, *arguments: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a target."""
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def run(self) -> subprocess.Popen[bytes]:
        """Begin `make run`, as in a terminal of its own."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                ["make", "run"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self._process

    def until_confirmed(self, sha: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a commit is confirmed."""

        def look() -> bool:
            assert process.poll() is None, self.log.read_text()
            deploy = next((d for d in reversed(fold(read_steps(self.bus)).deploys) if d.sha == sha), None)
            assert deploy is None or deploy.verdict in (None, "confirmed"), deploy
            return deploy is not None and deploy.verdict == "confirmed"

        until(f"{sha[:7]} confirmed", look, SETTLE_S, 0.2)

    def step(self, sha: str, name: str) -> Step | None:
        """A step of a commit's newest deploy."""
        deploy = next((d for d in reversed(fold(read_steps(self.bus)).deploys) if d.sha == sha), None)
        return deploy.first(name) if deploy is not None else None

    def containers(self) -> list[dict[str, Any]]:
        """What the Engine shows of all containers of this clone, services and bots."""
        names = docker("ps", "--all", "--quiet", "--filter", f"network={self.project}_default").split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *names)) if names else []
        return found

    def trader(self) -> Seen | None:
        """The active instance."""
        found = [seen for seen in read_instances(self.bus) if seen.alive and seen.document]
        return next((seen for seen in found if seen.document and seen.document.role is Role.ACTIVE), None)

    def clean(self) -> None:
        """End what is left of `make run`, and remove everything of this clone from the Engine."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        remove_all(f"label=never-sleeps.bus={self.bus.directory}")
        remove_all(f"label=com.docker.compose.project={self.project}")
        docker("network", "rm", f"{self.project}_default", check=False)
        images = docker("images", "--quiet", "--filter", f"label=never-sleeps.bus={self.bus.directory}").split()
        images += [f"{self.project}-{service}" for service in ("paper", "panel", "deployer", "audit")]
        docker("rmi", "--force", *images, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A fresh clone; nothing runs."""
    made = Clone(tmp_path)
    try:
        yield made
    finally:
        made.clean()


def test_make_run_trades_in_containers_and_swaps_them_and_ends_everything(clone: Clone) -> None:
    """From a clone to trades; two commits swap the container and miss nothing; `make stop`, a second run, Ctrl-C."""
    process = clone.run()
    clone.until_confirmed(clone.git("rev-parse", "HEAD"), process)
    until("status", lambda: _status(clone) is not None)
    assert json.loads((clone.bus.directory / "status.json").read_text())["kind"] == "status"

    shown = clone.containers()
    names = {container["Name"].lstrip("/") for container in shown}
    assert {f"{clone.project}-{service}-1" for service in ("paper", "panel", "deployer")} < names
    sockets = {
        container["Name"].lstrip("/")
        for container in shown
        if any("docker.sock" in str(mount) for mount in container["Mounts"]) or container["HostConfig"]["GroupAdd"]
    }
    assert sockets == {f"{clone.project}-deployer-1"}
    for container in shown:
        host = container["HostConfig"]
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        published = [port["HostIp"] for ports in (host["PortBindings"] or {}).values() for port in ports]
        assert set(published) <= {"127.0.0.1"}

    with urllib.request.urlopen(f"http://127.0.0.1:{clone.port}/", timeout=10) as page:
        assert page.status == 200
    assert (clone.folder / ".run" / "panel" / "token").stat().st_mode & 0o777 == 0o600

    for _ in range(2):
        sha = clone.commit()
        clone.until_confirmed(sha, process)
    # A comment decides nothing: the former commit's polls are replayed in a container of their own, beside the warm-up.
    compared = until("the comparison", lambda: clone.step(sha, "compared"))
    assert re.fullmatch(r"[1-9]\d* polls? replayed, 0 decisions differ", compared.text), compared
    trader = until("a trader", clone.trader)
    assert trader.document is not None
    lines = [json.loads(line) for line in docker("logs", "--tail=5", trader.document.unit).splitlines()]
    assert all("event" in line for line in lines)
    until("fills", lambda: (status := _status(clone)) and status["totals"]["fills"])
    said = clone.make("status")
    assert "trades" in said.stdout, said.stdout + said.stderr
    audit = clone.make("audit", "ARGS=--venue http://paper:8700 --max-missed 0")
    assert audit.returncode == 0, audit.stdout + audit.stderr

    stopped = clone.make("stop")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert f"ended {trader.document.unit}" in stopped.stdout
    assert clone.containers() == []
    assert process.wait(30) == 0
    assert clone.make("stop").stdout.strip() == "nothing runs"

    epochs = _epoch(clone)
    process = clone.run()
    until("it trades on", lambda: _epoch(clone) > epochs, SETTLE_S, 0.2)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert "bots first" in clone.log.read_text()
    assert clone.containers() == []
    other = subprocess.run(
        ["bin/runtime"], cwd=clone.folder, env={**clone.environment, "RUNTIME": "process"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert other.returncode == 2
    assert "belongs to the runtime docker" in other.stderr


def _status(clone: Clone) -> dict[str, Any] | None:
    try:
        return read_status(clone.bus).body.model_dump()
    except DocumentError:
        return None


def _epoch(clone: Clone) -> int:
    status = _status(clone)
    return int(status["epoch"]) if status else 0
