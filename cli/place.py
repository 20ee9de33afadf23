"""Where a command is carried out: in this environment, or by the service whose subject it is, in its container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Runtime = Literal["docker", "process", "inside"]
EXIT_BAD_INPUT = 2
FIND_LIMIT_S = 30.0
ANSWER_LIMIT_S = 600.0
# The service that knows a module's subject, where bots are containers. What is not here runs on the host.
SERVICES = {"deployer": "deployer", "bot": "audit", "panel": "panel"}
# What needs no bus, but the paper engine or the venue's public streams alone: never in a container.
ON_THE_HOST = {("bot", "replay"), ("bot", "record"), ("bot", "credentials"), ("paper", "")}


class PlaceError(Exception):
    """What the bots of this checkout run as cannot be said; one line for people."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of one checkout. root: its folder. caller: the folder where the person is. environment: the file's settings beneath it."""

    runtime: Runtime
    root: Path
    caller: Path
    environment: Mapping[str, str]

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line that carries it out. Raises PlaceError: not in this container."""
        if self.runtime == "inside" and find_spec(module) is None:
            raise PlaceError(f"this container has no {module}; say it in the checkout, or in the container that has it")
        first = arguments[0] if arguments else ""
        if self.runtime != "docker" or (module, first) in ON_THE_HOST or (module, "") in ON_THE_HOST:
            return [sys.executable, "-m", module, *arguments]
        return [str(self.root / "bin" / "compose"), "inside", SERVICES[module], *arguments]

    def script(self, name: str, *arguments: str) -> list[str]:
        """One of the checkout's own scripts."""
        return [str(self.root / "bin" / name), *arguments]

    def become(self, command: Sequence[str], **more: str) -> int:
        """Go on as that command: its streams, signals and exit code are this one's."""
        sys.stdout.flush()
        os.chdir(self.root)
        os.execve(command[0], list(command), {**self.environment, "CALLED_FROM": str(self.caller), **more})

    def ask(self, command: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run it and return what it said. Raises subprocess.TimeoutExpired, OSError."""
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, "CALLED_FROM": str(self.caller)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )

    def answer_as_json(self, command: Sequence[str]) -> int:
        """Run it and print its lines and exit code as one object: for what has no JSON of its own. Raises PlaceError."""
        try:
            answer = self.ask(command, ANSWER_LIMIT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PlaceError(f"{command[0]} did not answer: {error}") from error
        sys.stderr.write(answer.stderr)
        print(json.dumps({"exit": answer.returncode, "lines": answer.stdout.splitlines()}, indent=1))
        return answer.returncode


def find_place(environment: Mapping[str, str], *, root: Path) -> Place:
    """Ask the bus what its bots run as (bin/runtime). Inside of a container there is no such script. Raises PlaceError."""
    caller = Path(environment.get("CALLED_FROM") or Path.cwd())
    finder = root / "bin" / "runtime"
    if not finder.exists():
        return Place("inside", root, caller, environment)
    try:
        asked = subprocess.run(
            [str(finder)], env=dict(environment), capture_output=True, text=True, timeout=FIND_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlaceError(
            f"bin/runtime could not say what the bots run as ({error}); does the Docker Engine hang?"
        ) from error
    said = asked.stdout.strip()
    if asked.returncode != 0 or said not in ("docker", "process"):
        raise PlaceError(
            asked.stderr.strip().removeprefix("never-sleeps: ") or f"bin/runtime ended with {asked.returncode}"
        )
    return Place("docker" if said == "docker" else "process", root, caller, environment)
