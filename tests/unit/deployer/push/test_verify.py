"""DEPLOYER_VERIFY and DEPLOYER_HOOKS: what stops a commit, and what never does."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from bus import Logging, Step
from deployer.deploys import fold
from deployer.errors import BuildError
from deployer.push import hooks as hooks_module
from deployer.push.hooks import Hooks
from deployer.push.repository import Repository
from deployer.push.verify import Verify
from tests.e2e.deployer_rig import GIT
from tests.e2e.rig import until

LIMIT_S = 30.0


def git(folder: Path, *arguments: str) -> str:
    """Run git."""
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "file").write_text("good")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


def verify(repository: Path, rule: str, sha: str = "", limit_s: float = LIMIT_S) -> None:
    """Check a commit, the newest one by default."""
    sha = sha or git(repository, "rev-parse", "HEAD")
    asyncio.run(Verify(Repository(repository), rule, limit_s=limit_s).check(sha))


def test_a_check_command_runs_in_the_commits_files_and_refuses_by_its_exit_code(repository: Path) -> None:
    """Its last line is the reason; one that hangs is ended at the limit, with what it left running."""
    verify(repository, 'test "$(cat file)" = good && test -n "$DEPLOY_SHA"')
    with pytest.raises(BuildError, match="did not pass the check of DEPLOYER_VERIFY: two tests failed") as caught:
        verify(repository, "echo one; echo two tests failed; exit 3")
    assert caught.value.output == "one\ntwo tests failed"
    with pytest.raises(BuildError, match=r"did not end within 0\.5 s"):
        verify(repository, "sleep 600 & sleep 600", limit_s=0.5)


def test_hooks_are_told_of_each_step_in_order_and_fail_no_deploy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """after-STEP and after-any run with the deploy in their environment; one that fails and one that hangs hold up nothing
    for longer than the limit."""
    monkeypatch.setattr(hooks_module, "HOOK_LIMIT_S", 2.0)
    for name, body in (
        ("after-any", 'echo "$DEPLOY_STEP $DEPLOY_BY $DEPLOY_WHAT" >>told'),
        ("after-built", "exit 1"),
        ("before-started", "sleep 600"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    data = {"cause": "branch", "subject": "braver"}
    steps = [Step(deploy="1", step="queued", time_ms=1, sha="a" * 40, by="ann", data=data)]
    steps += [Step(deploy="1", step=name, time_ms=1, sha="a" * 40) for name in ("built", "confirmed")]
    logging = Logging(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))

    async def run() -> None:
        hooks = Hooks(tmp_path, logging.log)
        running = asyncio.create_task(hooks.run())
        for count, step in enumerate(steps, 1):
            hooks.after(step, fold(steps[:count]).deploys[0])
        await hooks.before("started", fold(steps).deploys[0])
        told = tmp_path / "told"
        await asyncio.to_thread(until, "three hooks ran", lambda: told.exists() and told.read_text().count("\n") == 3)
        running.cancel()

    asyncio.run(run())
    logging.close()
    assert (tmp_path / "told").read_text().splitlines() == [f"{s} ann braver" for s in ("queued", "built", "confirmed")]
    log = (tmp_path / "log").read_text()
    assert "exit code 1" in log
    assert "it did not end within 2 s" in log
