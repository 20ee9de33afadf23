"""DEPLOYER_VERIFY: what a commit must pass before anything of it is built.

`signed`: somebody of the list DEPLOYER_SIGNERS signed it (push.signatures). What is verified are the commit's own bytes, of
which its sha is made; what is built is held against the same sha (push.export). Anything else is a command for sh that runs
in the commit's files, with DEPLOY_SHA; exit code 0 passes. It runs with the deployer's rights: a command that runs code of the
commit gives these to whoever may push.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from deployer.errors import BuildError, RepositoryError, StartError, TooLargeError
from deployer.push.checkout import takes_pushes, why_no_checkout
from deployer.push.repository import Repository
from deployer.push.signatures import Signers, check_signature, read_signers
from deployer.runtimes.build_limits import NETWORK, PLAIN, BuildLimits
from deployer.words import explain

SIGNED = "signed"
OUTPUT_LINES = 20
# What an operator wants hooks to see is named so.
FOR_HOOKS = "HOOK_"


def nobody() -> Signers:
    """Where no list is named. Raises StartError."""
    return read_signers(None, ())


class Verify:
    """The check of one deployer.

    limit_s: for one commit. limits: of its files, where a command looks at them. signers: reads the list, anew for each commit.
    """

    def __init__(
        self,
        repository: Repository,
        rule: str,
        *,
        limit_s: float,
        limits: BuildLimits | None = None,
        signers: Callable[[], Signers] = nobody,
    ) -> None:
        self._limits = limits or BuildLimits()
        self._repository, self._rule, self._limit_s, self._signers = repository, rule.strip(), limit_s, signers
        self._passed: set[str] = set()
        self.problem: str | None = None  # why no commit at all could pass, as of the last time that one was checked

    async def begin(self) -> None:
        """See whether any commit could pass."""
        if self._rule == SIGNED:
            with suppress(StartError, RepositoryError):
                await self._read_signers()

    async def _read_signers(self) -> Signers:
        """Raises StartError: pushes would replace files first, or there is no good list; RepositoryError."""
        try:
            if await takes_pushes(self._repository.path):
                raise StartError(why_no_checkout(self._repository.path))
            signers = self._signers()
        except StartError as error:
            self.problem = str(error)
            raise
        self.problem = None
        return signers

    def trusted(self, built: frozenset[str], run: frozenset[str]) -> frozenset[str]:
        """Which built commits may be started: with `signed` those that passed in this deploy, or that ran already.

        What was built before `signed` was set, or before a key was taken off the list, is no shortcut.
        """
        return built if self._rule != SIGNED else built & (self._passed | run)

    def forget(self, sha: str) -> None:
        """It is deployed anew: verified anew."""
        self._passed.discard(sha)

    async def check(self, sha: str) -> None:
        """Raises BuildError when the commit does not pass, or cannot be checked."""
        if not self._rule:
            return
        try:
            if self._rule == SIGNED:
                signers = await self._read_signers()
                await check_signature(await self._repository.commit_bytes(sha), signers)
                self._passed.add(sha)
            else:
                await self._run(sha)
        except StartError as error:
            raise BuildError(str(error)) from error
        except TooLargeError as error:
            raise BuildError(self._limits.too_large()) from error
        except RepositoryError as error:
            raise BuildError(
                f"{sha[:7]} is not signed by anyone that is trusted here (DEPLOYER_VERIFY): {error}"
            ) from error
        except OSError as error:
            raise BuildError(f"DEPLOYER_VERIFY could not be run: {error}") from error

    async def _run(self, sha: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="never-sleeps-verify-"))
        try:
            tree = folder / "tree"
            tree.mkdir()
            most = self._limits
            await self._repository.archive(sha, tree, most_bytes=most.size, most_files=most.files)
            code, output = await run_shell(self._rule, tree, {"DEPLOY_SHA": sha}, self._limit_s)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if code is None:
            raise BuildError(f"the check of DEPLOYER_VERIFY did not end within {self._limit_s:g} s", output)
        if code != 0:
            why, shown = explain(output.splitlines())
            raise BuildError(
                f"it did not pass the check of DEPLOYER_VERIFY: {why or f'exit code {code}'}", "\n".join(shown)
            )


def shell_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What DEPLOYER_VERIFY and hooks are given of the deployer's environment: no setting, and so no path to a secret."""
    names = (*PLAIN, *NETWORK, "HOME", "USER", "LOGNAME", "SHELL")
    return {name: value for name, value in environment.items() if name in names or name.startswith(FOR_HOOKS)}


async def run_shell(command: str, folder: Path, environment: dict[str, str], limit_s: float) -> tuple[int | None, str]:
    """Run a command line in a session of its own, with little of this environment; its exit code (None: killed at the limit)
    and last lines.

    Raises OSError.
    """
    with tempfile.TemporaryFile() as out:  # a child that lives on must not hold up who waits for its output
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", command),
            cwd=folder,
            env={**shell_environment(os.environ), **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None = None
        try:
            async with asyncio.timeout(limit_s):
                code = await process.wait()
        except TimeoutError:
            pass  # the caller says so: no code
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        size = out.seek(0, os.SEEK_END)
        out.seek(max(0, size - (64 << 10)))
        text = out.read().decode("utf-8", "replace").strip()
    return code, "\n".join(text.splitlines()[-OUTPUT_LINES:])
