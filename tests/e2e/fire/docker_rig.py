"""The same as containers: paper and the deployer in images of their own, bots made by the deployer."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

from bus import InstanceView, read_instance
from tests.e2e.docker_engine import USER, docker, own
from tests.e2e.docker_rig import DOCKERFILE, DockerRig
from tests.e2e.fire.rig import FireRig
from tests.e2e.rig import ROOT, Paper, log_lines, until
from tests.plain import plain_environment

PAPER = "never-sleeps-test-paper"


@functools.cache
def make_paper_image() -> None:
    """The exchange; a second when nothing changed."""
    docker("build", "--quiet", "--target=paper", f"--tag={PAPER}", str(ROOT), limit_s=600)


class PaperContainer(Paper):
    """A paper exchange in a container; `url` is where this machine reaches it."""

    def __init__(self, folder: Path, network: str, name: str) -> None:
        self.folder, self._network, self.name = folder, network, name
        self.url = ""
        (folder / "paper").mkdir()
        own(folder / "paper")
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before."""
        docker("rm", "--force", self.name, check=False)
        port = self.url.rpartition(":")[2] if self.url else "0"
        docker(
            *("run", "--detach", f"--name={self.name}", f"--network={self._network}", "--network-alias=paper"),
            *(f"--user={USER[0]}:{USER[1]}", f"--volume={self.folder / 'paper'}:/data"),
            *(f"--publish=127.0.0.1:{port}:8700", "--env=PAPER_HOST=0.0.0.0", "--env=PAPER_PORT=8700"),
            *(f"--env={name}={value}" for name, value in plain_environment().items()),
            *("--env=PAPER_DATA=/data", "--env=PAPER_SEED=7", PAPER),
        )
        log = self.folder / "paper.log"

        def listening() -> bool:
            log.write_text(docker("logs", self.name))
            return any(line.get("event") == "listening" for line in log_lines(log))

        until("paper listening", listening, every_s=0.1)
        self.url = f"http://{docker('port', self.name, '8700/tcp').splitlines()[0]}"

    def kill(self) -> None:
        """SIGKILL."""
        docker("kill", self.name, check=False)

    def stop(self) -> None:
        """Remove it."""
        docker("rm", "--force", self.name, check=False)


class DockerFireRig(FireRig, DockerRig):
    """Everything in one folder and on one network."""

    def __init__(self, folder: Path, **settings: str) -> None:
        make_paper_image()
        self._pids: dict[str, int] = {}
        super().__init__(folder, BOT_PAPER_URL="http://paper:8700", **settings)

    def _make_repository(self) -> None:
        super()._make_repository()
        (self.repository / "Dockerfile").write_text(DOCKERFILE)

    def make_paper(self) -> Paper:
        """The exchange, on the bots' network."""
        return PaperContainer(self.folder, self.place.network, f"{self.container}-paper")

    def begin(self) -> None:
        """As processes do; a process of the bot is a child of the container's init."""
        own(self.bus.directory)
        super().begin()

    def pid(self, seen: InstanceView) -> int:
        """The bot's process, as this machine counts it."""
        assert seen.document is not None, "an instance that lives has a document"
        if seen.id not in self._pids:
            init = docker("inspect", "--format={{.State.Pid}}", seen.document.unit)
            children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
            self._pids[seen.id] = int(children[0]) if children else int(init)
        return self._pids[seen.id]

    def freeze(self, seen: InstanceView) -> int:
        """`docker pause`."""
        assert seen.document is not None, "an instance that lives has a document"
        docker("pause", seen.document.unit)
        self.ends.append(self.clock.boot_ms())
        return self.ends[-1]

    def thaw(self, seen: InstanceView) -> None:
        """`docker unpause`, if it still lives."""
        assert seen.document is not None, "an instance that lives has a document"
        docker("unpause", seen.document.unit, check=False)

    def wake(self, seen: InstanceView) -> None:
        """SIGCONT, if it still lives."""
        if read_instance(self.bus, seen.id).alive:
            os.kill(self.pid(seen), signal.SIGCONT)

    def kill_everything(self) -> None:
        """SIGKILL of the deployer and all bots."""
        self.ends.append(self.clock.boot_ms())
        docker("kill", self.container, *self.units())
        until("all bots ended", lambda: not self.units(), every_s=0.1)

    def stop(self) -> None:
        """Remove everything; paper first, for it is on the network."""
        self.paper.stop()
        DockerRig.stop(self)


__all__ = ["DockerFireRig"]
