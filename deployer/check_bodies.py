"""What `deployer check` starts: a worker as a process of a command, or as a container of an image."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bus import Bus
from deployer.commands.check import Body, worker_environment
from deployer.errors import StartError
from deployer.runtimes.docker.body import BUS_TARGET

LIMIT_S = 60.0
Start = Callable[[Bus, Path, str, str], Body]


class ProcessBody:
    """A worker as a process in a session of its own."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """To the worker alone, as the deployer does it."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def remove(self) -> None:
        """End it."""
        self.signal(signal.SIGKILL)
        self._process.wait(LIMIT_S)


class ContainerBody:
    """A worker as a container, under the user that this process runs as (10001 where that is root)."""

    def __init__(self, image: str, network: str, bus: Bus, environment: dict[str, str], log: Path) -> None:
        self._name, self._log = f"never-sleeps-check-{secrets.token_hex(4)}", log
        user = (os.geteuid() or 10001, os.getegid() or 10001)
        passed = {name: value for name, value in os.environ.items() if name.startswith("BOT_")}
        _docker(
            "run", "--detach", f"--name={self._name}", "--init", f"--network={network}", f"--user={user[0]}:{user[1]}",
            "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            f"--volume={bus.directory}:{BUS_TARGET}",
            *(f"--env={name}={value}" for name, value in {**passed, **environment}.items()),
            image,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """As the deployer does it: a stop, or a kill."""
        if number is signal.SIGKILL:
            _docker("kill", self._name, check=False)
        else:
            subprocess.Popen(
                ["docker", "stop", "--time=60", self._name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def exit_code(self) -> int | None:
        """None while it runs."""
        state = _docker("inspect", "--format={{.State.Running}} {{.State.ExitCode}}", self._name, check=False).split()
        if len(state) != 2 or state[0] == "true":
            return None
        self._log.write_text(_docker("logs", "--tail=20", self._name, check=False))
        return int(state[1])

    def remove(self) -> None:
        """End and forget it."""
        _docker("rm", "--force", "--volumes", self._name, check=False)


def starter(words: list[str], network: str) -> tuple[Start, str]:
    """What starts a worker, and what it was taken for. One word that is no program names an image.

    Raises StartError.
    """
    if len(words) == 1:
        words = shlex.split(words[0])
    if not words:
        raise StartError("expected an image, or the command of a worker such as `python -m settle`")
    if len(words) == 1 and shutil.which(words[0]) is None:
        image = words[0]
        _docker("image", "inspect", "--format={{.Id}}", image)
        return (
            lambda bus, log, color, sha: ContainerBody(
                image, network, bus, worker_environment(BUS_TARGET, color, sha), log
            ),
            f"the image {image}",
        )
    return (
        lambda bus, log, color, sha: ProcessBody(words, worker_environment(str(bus.directory), color, sha), log),
        f"the command {shlex.join(words)}",
    )


def prepare_for_container(folder: Path) -> None:
    """Where this process is root, the containers' user owns the bus."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 10001, 10001)


def _docker(*arguments: str, check: bool = True) -> str:
    """Raises StartError with the client's last line."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"docker cannot be run ({error}); name a command instead, or start the Engine") from error
    if check and done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise StartError(f"docker {arguments[0]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout + ("" if check else done.stderr)
