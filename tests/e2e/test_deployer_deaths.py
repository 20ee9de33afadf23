"""Deaths of the deployer in the middle of a deploy, and of a bot without a spare; those of real bots are in test_fire_*."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployerRig]:
    """A deployer with one commit, for all tests."""
    made = DeployerRig(tmp_path_factory.mktemp("rig"))
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


def test_a_deployer_killed_at_any_moment_of_a_deploy_is_carried_on(
    rig: DeployerRig, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL of the deployer five times at random moments of deploys: each commit is confirmed, and no tick is missed."""
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    moments = random.Random(seed)
    for _ in range(5):
        sha = rig.commit()
        until("the deploy began", lambda sha=sha: rig.deploy_of(sha))  # type: ignore[misc]  # a default captures it
        time.sleep(moments.uniform(0, 2))  # the random moment itself; nothing is awaited here
        rig.kill()
        until("somebody trades", rig.holder)  # it may have died between a release and the take
        rig.start()
        rig.until_step(sha, "confirmed")
    rig.assert_steady(sha)
    assert rig.missed() == 0
    rig.assert_ledger()


def test_the_bots_outlive_the_deployer(rig: DeployerRig) -> None:
    """Without a deployer the bots go on trading; SIGTERM to it ends it alone."""
    assert rig.process is not None
    before = rig.units()
    rig.process.terminate()
    assert rig.process.wait(10) == 0
    polls = rig.count("SELECT count(*) FROM polls_completed")
    until("polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") > polls + 3)
    assert rig.units() == before
    rig.start()
    rig.assert_steady(rig.git("rev-parse", "HEAD"))
    assert rig.units() == before


def test_without_a_spare_a_killed_bot_comes_back_by_itself(tmp_path: Path) -> None:
    """DEPLOYER_SPARES=0: the active bot is replaced after its death, and the missed ticks have their rows."""
    rig = DeployerRig(tmp_path, DEPLOYER_SPARES="0")
    try:
        sha = rig.commit()
        rig.start()
        rig.until_step(sha, "confirmed")
        rig.assert_steady(sha, spares=0)
        killed = rig.signal_holder(signal.SIGKILL)
        until("another trades", lambda: (h := rig.holder()) and h.id != killed.id)
        newer = rig.commit()
        rig.until_step(newer, "retired")
        rig.assert_steady(newer, spares=0)
        rig.assert_ledger()
    finally:
        rig.stop()
