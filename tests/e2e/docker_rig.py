"""The deployer's rig with containers: the deployer in its own image with the Engine's socket, bots made by it.

Bots are the tiny workers of the process tests, in an image on top of the project's own environment.
"""

from __future__ import annotations

import functools
import secrets
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bus import InstanceView
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.docker_engine import SOCKET, USER, docker, own, place_for
from tests.e2e.rig import ROOT, log_lines, until

APPLICATION, DEPLOYER = "never-sleeps-test-application", "never-sleeps-test-deployer"
DOCKERFILE = f"""FROM {APPLICATION} AS bot
COPY bus bus
COPY ledger ledger
COPY bot bot
RUN python -m compileall -q recording bus ledger bot && python -m bot --version
USER 10001:10001
ENTRYPOINT ["python", "-m", "bot"]
"""


@functools.cache
def make_images() -> None:
    """The project's environment and deployer; a second when nothing changed."""
    for target, image in (("application", APPLICATION), ("deployer", DEPLOYER)):
        docker("build", "--quiet", f"--target={target}", f"--tag={image}", str(ROOT), limit_s=600)


class DockerRig(DeployerRig):
    """Everything in one folder and on one network."""

    # A container's start takes half a second of both cores, and other tests run beside: a poll must have room for that.
    interval_s = 0.5

    def __init__(self, folder: Path, **settings: str) -> None:
        make_images()
        self._stack = ExitStack()
        self.container = f"never-sleeps-test-{secrets.token_hex(4)}"
        super().__init__(folder, **settings)
        (folder / "run").mkdir()
        for mine in (self.bus.directory, folder / "run"):
            own(mine)
        self.place = self._stack.enter_context(place_for(self.bus.directory))

    def _make_repository(self) -> None:
        super()._make_repository()
        (self.repository / "Dockerfile").write_text(DOCKERFILE)

    # --- the deployer

    def start(self, *arguments: str) -> None:
        """Start the deployer's container and wait until it watches."""
        assert not arguments, "nothing is passed to a container"
        docker("rm", "--force", self.container, check=False)
        docker("run", "--detach", f"--name={self.container}", *self.options(), DEPLOYER)

        def watching() -> bool:
            self.log.write_text(docker("logs", self.container))
            assert docker("inspect", "--format={{.State.Running}}", self.container) == "true", self.log.read_text()
            return any(line.get("event") == "watching" for line in log_lines(self.log))

        until("the deployer watches", watching, every_s=0.1)

    def options(self) -> list[str]:
        """What a deployer's container is run with, as in compose.yaml."""
        environment = {
            **{name: value for name, value in self.environment.items() if name.startswith(("BOT_", "DEPLOYER_"))},
            "BUS_DIR": "/bus",
            "DEPLOYER_DIR": "/data",
            "DEPLOYER_REPOSITORY": "/repository",
            "DEPLOYER_RUNTIME": "docker",
        }
        return [
            *(f"--env={name}={value}" for name, value in environment.items()),
            *("--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
            f"--user={USER[0]}:{USER[1]}",
            f"--group-add={SOCKET.stat().st_gid}",
            f"--network={self.place.network}",
            f"--volume={self.bus.directory}:/bus",
            f"--volume={self.folder / 'run'}:/data",
            f"--volume={self.repository}:/repository:ro",
            *self._pushes(),
            f"--volume={SOCKET}:{SOCKET}",
        ]

    def _pushes(self) -> list[str]:
        """The one folder of the repository that a deployer may write to, as bin/compose makes it."""
        told = self.repository / ".git" / "never-sleeps"
        if not told.is_dir():
            return []
        own(told)
        return [f"--volume={told}:/repository/.git/never-sleeps"]

    def kill(self) -> None:
        """SIGKILL of the deployer."""
        docker("kill", self.container)

    def terminate(self) -> int:
        """SIGTERM to the deployer; its exit code."""
        docker("stop", self.container)
        return int(docker("wait", self.container))

    def command(self, *arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the deployer in its container, or beside it when it does not run."""
        if not docker("ps", "--quiet", "--filter", f"name={self.container}"):
            return self.beside(self.options(), *arguments, limit_s=limit_s)
        return _run("exec", self.container, "python", "-m", "deployer", *arguments, limit_s=limit_s)

    def beside(self, options: list[str], *arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the deployer in a container of its own."""
        return _run("run", "--rm", *options, DEPLOYER, *arguments, limit_s=limit_s)

    # --- what there is to see

    def units(self) -> list[str]:
        """Names of the units that run."""
        label = f"label=never-sleeps.bus={self.bus.directory}"
        return docker("ps", "--filter", label, "--format", "{{.Names}}").split()

    def signal_holder(self, number: signal.Signals) -> InstanceView:
        """SIGKILL the container that trades, or freeze it."""
        holder = until("a holder", self.holder)
        self.signal(holder, number)
        return holder

    def signal(self, seen: InstanceView, number: signal.Signals) -> None:
        """SIGKILL an instance's container, or freeze it."""
        assert seen.document is not None
        docker("kill" if number is signal.SIGKILL else "pause", seen.document.unit)

    def stop(self) -> None:
        """Remove everything."""
        docker("rm", "--force", self.container, check=False)
        self._stack.close()


def _run(*arguments: str, limit_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=limit_s, check=False)
