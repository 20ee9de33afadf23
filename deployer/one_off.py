"""A process that runs once for the deployer and tells something: bounded in time, in what it says, and gentle to the trader."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from deployer.errors import RuntimeFailedError
from deployer.runtimes.api import OneOff

MAX_BYTES = 4 << 20
KILL_AFTER_S = 5.0
# Linux with autogroups: without it two sessions share a processor equally, whatever their nice values.
_LAST_OF_SESSIONS = '[ ! -w "/proc/$$/autogroup" ] || echo 19 >"/proc/$$/autogroup"; exec "$@"'


async def run_one_off(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str], limit_s: float
) -> OneOff:
    """Run it to its end, with all that it starts. Raises RuntimeFailedError: it cannot be run, or is too slow."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):  # no pipe: what lives on must not hold this up
        try:
            process = await asyncio.create_subprocess_exec(
                *_bounded(gently(command), limit_s),
                cwd=directory,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeFailedError(f"{command[0]} could not be run: {error}") from error
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
        except TimeoutError as error:
            raise RuntimeFailedError(f"it did not end within {limit_s:g} s") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return OneOff(code, _read(out), _read(errors))


def gently(command: Sequence[str]) -> list[str]:
    """The command at the lowest priority for processor and disk, where the machine has the programs for it.

    For a process in a session of its own, which it must be: that is what the kernel's autogroups weigh, and `nice` counts inside
    of one alone.
    """
    gentle = ["/bin/sh", "-c", _LAST_OF_SESSIONS, "sh"]
    gentle += ["nice", "-n", "19"] if shutil.which("nice") else []
    if shutil.which("ionice"):
        gentle += ["ionice", "-c", "3"]
    return [*gentle, *command]


def _bounded(command: Sequence[str], limit_s: float) -> list[str]:
    """With a limit to what it writes, and one in time that holds even when the deployer died meanwhile."""
    timeout = ["timeout", "-s", "KILL", str(limit_s + KILL_AFTER_S)] if shutil.which("timeout") else []
    return ["/bin/sh", "-c", 'ulimit -f "$0" 2>/dev/null; exec "$@"', str(MAX_BYTES >> 9), *timeout, *command]


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MAX_BYTES).decode("utf-8", "replace")
