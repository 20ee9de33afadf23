"""Deaths: of the deployer in the middle of a deploy, of the bot that trades, of everything at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.deployer_rig import INTERVAL_S, DeployerRig
from tests.e2e.rig import until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DeployerRig]:
    """A deployer with one confirmed commit and its spare."""
    made = DeployerRig(tmp_path)
    try:
        sha = made.commit()
        made.start()
        made.until_step(sha, "confirmed")
        made.assert_steady(sha)
        yield made
    finally:
        made.stop()


def test_a_deployer_killed_at_any_moment_of_a_deploy_is_carried_on(
    rig: DeployerRig, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL of the deployer ten times at random moments of deploys: each commit is confirmed, and no tick is missed."""
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    moments = random.Random(seed)
    for _ in range(10):
        sha = rig.commit()
        until("the deploy began", lambda sha=sha: rig.deploy_of(sha))  # type: ignore[misc]  # a default captures it
        time.sleep(moments.uniform(0, 2))  # the random moment itself; nothing is awaited here
        rig.kill()
        assert rig.holder() is not None
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


def test_a_killed_active_bot_is_followed_by_its_spare_and_a_new_spare(rig: DeployerRig) -> None:
    """Five times SIGKILL of the active bot: its spare trades within a second, and a new spare is started."""
    sha = rig.git("rev-parse", "HEAD")
    for _ in range(5):
        killed = rig.signal_holder(signal.SIGKILL)
        until("another trades", lambda killed=killed: (h := rig.holder()) and h.id != killed.id)  # type: ignore[misc]  # a default captures it
        rig.assert_steady(sha)
    assert rig.missed() <= 5 * 1 / INTERVAL_S
    rig.assert_ledger()


def test_a_stopped_active_bot_is_killed_and_replaced(rig: DeployerRig) -> None:
    """SIGSTOP of the active bot: another trades within the limit and the kill, and nothing of the stopped one remains."""
    sha = rig.git("rev-parse", "HEAD")
    stopped = rig.signal_holder(signal.SIGSTOP)
    began = time.monotonic()
    until("another trades", lambda: (h := rig.holder()) and h.id != stopped.id)
    assert time.monotonic() - began < 2 + 3
    rig.assert_steady(sha)
    rig.assert_ledger()


def test_a_stopped_spare_is_replaced_while_the_other_trades(rig: DeployerRig) -> None:
    """SIGSTOP of the spare: it is killed and replaced, and the trader does not notice."""
    holder = until("a holder", rig.holder)
    spare = next(seen for seen in rig.living() if seen.id != holder.id)
    assert spare.document is not None
    os.kill(spare.document.pid, signal.SIGSTOP)
    until("it is gone", lambda: spare.id not in {seen.id for seen in rig.living()})
    rig.assert_steady(rig.git("rev-parse", "HEAD"))
    assert rig.holder() is not None
    assert rig.missed() == 0


def test_everything_killed_at_once_carries_on(rig: DeployerRig) -> None:
    """SIGKILL of the deployer and all bots: a restarted deployer brings the confirmed commit back."""
    sha = rig.git("rev-parse", "HEAD")
    rig.kill()
    children = rig.children()
    for name in rig.units():
        children.signal(name, signal.SIGKILL)
    until("all dead", lambda: not rig.units())
    rig.start()
    rig.assert_steady(sha)
    assert len(rig.history().deploys) == 1
    rig.assert_ledger()


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
