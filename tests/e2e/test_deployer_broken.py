"""Broken commits: the good one keeps or regains the lease, and the history says why."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from deployer.deploys import Deploy
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployerRig]:
    """A deployer with one commit, for all tests."""
    made = DeployerRig(tmp_path_factory.mktemp("rig"), DEPLOYER_HEALTHY_TIMEOUT="4")
    try:
        made.commit()
        yield made
    finally:
        made.stop()


@pytest.fixture
def rig(running: DeployerRig) -> DeployerRig:
    """A deployer with a confirmed commit and its spare, settled."""
    running.calm_down()
    return running


def fails(rig: DeployerRig, mode: str, broken: str = "") -> Deploy:
    """Commit something broken and wait for its verdict; afterwards the good commit alone runs."""
    good = rig.git("rev-parse", "HEAD")
    bad = rig.commit(mode, broken)
    deploy = rig.until_verdict(bad)
    assert deploy.verdict == "failed", deploy.steps
    rig.assert_steady(good)
    rig.assert_ledger()
    return deploy


def test_a_syntax_error_fails_the_build(rig: DeployerRig) -> None:
    """A commit that does not compile is never started; the history names the error and the trader misses nothing."""
    deploy = fails(rig, "good", broken="def (:\n")
    assert "SyntaxError" in deploy.why
    assert any("number.py" in line for line in deploy.steps[-1].data["output"])
    assert not deploy.has("started")
    assert rig.missed() == 0


def test_a_commit_without_a_bot_fails_the_build(rig: DeployerRig) -> None:
    """A commit of something else entirely is refused in a sentence."""
    shutil.rmtree(rig.repository / "bot")
    (rig.repository / "bot").mkdir()
    deploy = fails(rig, "good")
    assert deploy.why.startswith("the build failed: the bot cannot be imported")
    assert rig.missed() == 0


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("dies", "died before its first healthy poll"),
        ("sick", "never healthy within 4 s: sick on purpose"),
        ("mute", "never healthy within 4 s: it wrote no instance document"),
    ],
)
def test_a_candidate_that_is_never_healthy_costs_nothing(rig: DeployerRig, mode: str, why: str) -> None:
    """A candidate that dies, stays unhealthy or hangs before its first healthy poll is removed; no tick is missed."""
    deploy = fails(rig, mode)
    assert why in deploy.why
    assert not deploy.has("handover")
    assert rig.missed() == 0


def test_a_candidate_that_never_ends_its_poll_is_taken_back(rig: DeployerRig) -> None:
    """A candidate that lives and answers but completes no poll is taken back, by force since it cannot yield."""
    deploy = fails(rig, "waits-active")
    assert "no poll was completed for 6 s" in deploy.why
    assert deploy.has("taken-back")


def test_a_candidate_that_is_unhealthy_while_active_is_taken_back(rig: DeployerRig) -> None:
    """Unhealthy active polls give the lease back to blue after as many as it would take to confirm; no tick is missed."""
    deploy = fails(rig, "sick-active")
    polls = re.match(r"(\d+) unhealthy polls in a row: sick on purpose", deploy.why)
    assert polls is not None, deploy.why
    assert int(polls[1]) >= 3, "more than 3 on a machine that is slow to look"
    assert deploy.has("taking-back")
    assert rig.missed() == 0


def test_a_failed_commit_is_tried_again_only_when_asked(rig: DeployerRig) -> None:
    """What failed is left alone by a restarted deployer and when the branch comes back to it, and tried on request."""
    good = rig.git("rev-parse", "HEAD")
    bad = rig.commit("dies")
    assert rig.until_verdict(bad).verdict == "failed"
    rig.kill()
    rig.start()
    rig.git("reset", "--quiet", "--hard", good)
    newer = rig.commit()
    rig.until_step(newer, "confirmed")
    rig.git("reset", "--quiet", "--hard", bad)
    until("it is cancelled", lambda: rig.until_verdict(bad).verdict == "cancelled")
    assert "it failed before" in rig.until_verdict(bad).why
    asked = rig.command("deploy", bad[:10])
    assert asked.returncode == 1
    assert "died before its first healthy poll" in asked.stdout
    rig.assert_steady(newer)
    assert rig.missed() == 0


def test_a_candidate_whose_orders_are_refused_is_taken_back(rig: DeployerRig) -> None:
    """Healthy polls and refused orders, where the former commit's were taken: it loses the lease, no tick is missed."""
    deploy = fails(rig, "refused-active")
    assert deploy.has("taken")
    assert "orders were refused, where the former commit had 0 of" in deploy.why
    assert rig.missed() == 0
