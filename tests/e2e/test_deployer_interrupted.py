"""Everything is ended in the middle of a deploy, for real: each step that a deploy can stand at, and each way of ending."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus import is_locked
from deployer.deploys import Deploy
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until

pytestmark = pytest.mark.timeout(900)
LIMIT_S = 180.0  # a build has the lowest priority, and this machine may be busy


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DeployerRig]:
    """A repository with one good commit, nothing started."""
    made = DeployerRig(tmp_path)
    yield made
    (made.bus.directory / "go").touch()
    made.stop()


def make_stop(rig: DeployerRig) -> None:
    """As `./ns stop`, and Ctrl-C at `make run`."""
    done = rig.command("down", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr


def told_to_end(rig: DeployerRig) -> None:
    """SIGTERM to everything at once, bots first, as a machine or a service manager that goes down."""
    _signal_all(rig, signal.SIGTERM)


def killed(rig: DeployerRig) -> None:
    """SIGKILL to everything, as far as a process can tell a power cut."""
    _signal_all(rig, signal.SIGKILL)


def _signal_all(rig: DeployerRig, number: signal.Signals) -> None:
    assert rig.process is not None
    children = rig.children()
    for name in rig.units():
        children.signal(name, number)
    os.kill(rig.process.pid, number)
    rig.process.wait(10)
    for name in rig.units():  # one that the deployer had started in between
        children.signal(name, number)
    until("all bots ended", lambda: not rig.units())
    until("the deployer ended", lambda: not is_locked(rig.bus.deployer_lock))


# What keeps a deploy at a step: settings of the deployer, and the commit's mode. The steps that pass at once are in
# tests/property/test_interruption.py.
KEEPS = {
    "building": ({"DEPLOYER_VERIFY": "while [ ! -e {go} ]; do sleep 0.1; done"}, "good"),
    "started": ({}, "waits"),
    "taken": ({"DEPLOYER_CONFIRM_POLLS": "1000"}, "good"),
}


@pytest.mark.parametrize("end", [make_stop, told_to_end, killed])
@pytest.mark.parametrize("step", KEEPS)
def test_a_deploy_in_whose_middle_everything_was_ended_is_carried_on(
    rig: DeployerRig, step: str, end: Callable[[DeployerRig], None]
) -> None:
    """Interrupted is not failed: after the next start the same deploy is confirmed, and it alone."""
    settings, mode = KEEPS[step]
    first = rig.commit()
    rig.start()
    rig.until_step(first, "confirmed", LIMIT_S)
    rig.assert_steady(first, limit_s=LIMIT_S)
    plain, go = dict(rig.environment), rig.bus.directory / "go"
    rig.environment.update({name: value.format(go=go) for name, value in settings.items()})
    assert rig.process is not None
    rig.process.send_signal(signal.SIGTERM)
    rig.process.wait(10)
    rig.start()
    sha = rig.commit(mode)

    def stands() -> Deploy | None:
        deploy = rig.deploy_of(sha)
        return deploy if deploy is not None and deploy.phase == step else None

    deploy = until(f"the deploy is {step}", stands, LIMIT_S)
    end(rig)
    go.touch()
    rig.environment = plain
    rig.start()
    rig.until_step(sha, "confirmed", LIMIT_S)
    rig.assert_steady(sha, limit_s=LIMIT_S)
    assert [found.id for found in rig.history().deploys if found.sha == sha] == [deploy.id]
    rig.assert_ledger()


def test_a_build_that_something_else_ended_is_made_again(rig: DeployerRig) -> None:
    """SIGTERM to what runs for a build, as from a machine that goes down: the commit is not failed."""
    rig.environment["DEPLOYER_CHECK"] = "-c 'import time; time.sleep(2)'"
    sha = rig.commit()
    rig.start()
    builds = rig.folder / "run" / "builds"

    def build() -> int | None:
        found = next(builds.glob("*.pid"), None)
        return int(text) if found is not None and (text := found.read_text()) else None

    os.kill(until("the build runs", build, LIMIT_S), signal.SIGTERM)
    rig.until_step(sha, "confirmed", LIMIT_S)
    assert "build_interrupted" in rig.log.read_text()


def test_a_candidate_that_was_killed_alone_fails_its_deploy(rig: DeployerRig) -> None:
    """The deployer lives on and so do the others: it was not everything that ended."""
    first = rig.commit()
    rig.start()
    rig.until_step(first, "confirmed", LIMIT_S)
    rig.assert_steady(first, limit_s=LIMIT_S)
    sha = rig.commit("waits")
    rig.until_step(sha, "started", LIMIT_S)
    unit = next(name for name in rig.units() if sha[:7] in name)
    rig.children().signal(unit, signal.SIGKILL)
    why = rig.until_verdict(sha, LIMIT_S).why
    assert why.endswith("died before its first healthy poll (killed by SIGKILL)"), why
