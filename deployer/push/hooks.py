"""DEPLOYER_HOOKS: a folder of programs that run before and after the steps of a deploy, for notice and for one's own chores.

    before-building, before-started     the build, the start of green: each waits for its hook, at most HOOK_LIMIT_S
    after-STEP                          after-queued ... after-confirmed, after-failed: one at a time, in order
    after-any                           after every step

The deploy is in their environment. A hook that fails, hangs or is missing fails no deploy: it is said in the deployer's log.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

from bus import Log, Step
from deployer.deploys import Deploy
from deployer.push.verify import run_shell

HOOK_LIMIT_S = 30.0
MAX_WAITING = 100
MAX_TEXT = 1_000


class Hooks:
    """Runs hooks. folder: None for none."""

    def __init__(self, folder: Path | None, log: Log) -> None:
        self._folder, self._log = folder.absolute() if folder is not None else None, log
        self._queue: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue(MAX_WAITING)

    async def before(self, step: str, deploy: Deploy | None) -> None:
        """Run `before-STEP` and wait for its end."""
        if deploy is not None:
            await self._run(f"before-{step}", environment(deploy, step, ""))

    def after(self, step: Step, deploy: Deploy | None) -> None:
        """Queue `after-STEP` and `after-any`."""
        if self._folder is None or deploy is None:
            return
        variables = environment(deploy, step.word, step.text)
        for name in (f"after-{step.word}", "after-any"):
            try:
                self._queue.put_nowait((name, variables))
            except asyncio.QueueFull:
                self._log.warning("hook_left_out", hook=name, reason=f"{MAX_WAITING} wait already")

    async def run(self) -> None:
        """Run what is queued, one at a time, until cancelled."""
        while True:
            name, variables = await self._queue.get()
            await self._run(name, variables)

    async def _run(self, name: str, variables: dict[str, str]) -> None:
        if self._folder is None or not os.access(self._folder / name, os.X_OK):
            return
        try:
            code, output = await run_shell(shlex.quote(str(self._folder / name)), self._folder, variables, HOOK_LIMIT_S)
        except OSError as error:
            self._log.warning("hook_failed", hook=name, reason=str(error), deploy="goes on")
            return
        if code != 0:
            why = f"exit code {code}" if code is not None else f"it did not end within {HOOK_LIMIT_S:g} s"
            self._log.warning("hook_failed", hook=name, reason=why, output=output, deploy="goes on")


def environment(deploy: Deploy, step: str, text: str) -> dict[str, str]:
    """What a hook is told."""
    return {
        "DEPLOY_ID": deploy.id,
        "DEPLOY_SHA": deploy.sha,
        "DEPLOY_BY": deploy.by,
        "DEPLOY_WHAT": deploy.what,
        "DEPLOY_CAUSE": deploy.cause,
        "DEPLOY_STEP": step,
        "DEPLOY_TEXT": text[:MAX_TEXT],
        "DEPLOY_VERDICT": deploy.verdict or "",
    }
