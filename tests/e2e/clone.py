"""A fresh clone of this checkout that runs as containers by `make run`, with a project name and a port of its own."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from bus import InstanceView, Role, Step, read_instances, read_steps
from bus.layout import Bus
from deployer.deploys import fold
from tests.e2e.deployer_rig import GIT
from tests.e2e.docker_engine import docker, own, remove_all
from tests.e2e.rig import ROOT, until

SETTLE_S = 240.0  # the first build on a busy machine


class Clone:
    """A clone of this checkout, uncommitted changes included, with a project name and a port of its own."""

    def __init__(self, folder: Path, runtime: str = "docker") -> None:
        """runtime: what its bots run as; as processes it takes the environment of this checkout."""
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
                if not name.startswith(("BOT_", "BUS_", "PAPER_", "MAKE", "MFLAGS", "ARGS"))
            },
            "COMPOSE_PROJECT_NAME": self.project,
            "PANEL_PORT": str(self.port),
            "FAST": "1",
            "BOT_BASIS_AFTER": "2",
            "RUNTIME": runtime,
        }
        # A wallet of its own, as a user gives it: a key file of who writes to the bus, in a folder that is mounted.
        self.key, keys = secrets.token_hex(32), folder / "keys"
        keys.mkdir()
        (keys / "wallet.key").touch(0o600)
        (keys / "wallet.key").write_text(f"{self.key}\n")
        own(keys)
        self.environment["BOT_KEY_FILE"] = str(keys / "wallet.key")
        if runtime == "process":
            del self.environment["PANEL_PORT"], self.environment["BOT_KEY_FILE"]
            self.environment["DEPLOYER_PYTHON"] = sys.executable
        self.folder.mkdir()
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        subprocess.run(
            f"tar -cf - --null -T - --ignore-failed-read | tar -xf - -C {shlex.quote(str(self.folder))}",
            shell=True, cwd=ROOT, input=listed.stdout, check=True, timeout=60,
        )  # fmt: skip
        if runtime == "process":
            (self.folder / ".venv").symlink_to(ROOT / ".venv")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> str:
        """Run git in the clone."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self, message: str = "a change") -> str:
        """Change the strategy; returns the sha."""
        with (self.folder / "bot" / "strategy" / "snipe.py").open("a") as file:
            file.write(f"# {secrets.token_hex(4)}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def make(self, *arguments: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a target."""
        return subprocess.run(
            ["make", *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def compose(self, *arguments: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `bin/compose`, without a terminal."""
        return subprocess.run(
            ["bin/compose", *arguments], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def run(self) -> subprocess.Popen[bytes]:
        """Begin `make run`, as in a terminal of its own."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                ["make", "run"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                # As in a terminal, also where the tests themselves run in the background: a shell cannot trap what it ignores.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        return self._process

    def until_confirmed(self, sha: str) -> None:
        """Wait until a commit is confirmed; fails when `make run` ends."""
        process = self._process
        assert process is not None, "nothing runs yet"

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

    @property
    def networks(self) -> tuple[str, str]:
        """Of bots and paper, and of those that operators reach."""
        return f"{self.project}_default", f"{self.project}_operators"

    def containers(self) -> list[dict[str, Any]]:
        """What the Engine shows of all containers of this clone, services and bots."""
        filters = [part for name in self.networks for part in ("--filter", f"network={name}")]
        names = docker("ps", "--all", "--quiet", *filters).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *names)) if names else []
        return found

    def address(self, service: str) -> str:
        """Where this machine reaches a service of compose.yaml."""
        template = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", template, f"{self.project}-{service}-1")

    def trader(self) -> InstanceView | None:
        """The active instance."""
        found = [seen for seen in read_instances(self.bus) if seen.alive and seen.document]
        return next((seen for seen in found if seen.document and seen.document.role is Role.ACTIVE), None)

    def clean(self) -> None:
        """End what is left of `make run`, and remove everything of this clone from the Engine."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        remove_all(f"label=com.docker.compose.project={self.project}")  # the deployer before the bots
        remove_all(f"label=never-sleeps.bus={self.bus.directory}")
        docker("network", "rm", *self.networks, check=False)
        images = docker("images", "--quiet", "--filter", f"label=never-sleeps.bus={self.bus.directory}").split()
        images += [f"{self.project}-{service}" for service in ("paper", "panel", "deployer", "audit")]
        docker("rmi", "--force", *images, check=False)
