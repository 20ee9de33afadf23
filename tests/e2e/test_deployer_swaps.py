"""Real commits, a real deployer, real processes: who is swapped in, and who is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[DeployerRig]:
    """A repository with one good commit, nothing started."""
    made = DeployerRig(tmp_path)
    try:
        made.commit()
        yield made
    finally:
        made.stop()


def test_commits_in_a_row_miss_no_tick(rig: DeployerRig) -> None:
    """Each of five commits is confirmed, none costs a tick, and of the old ones nothing is left."""
    sha = ""
    for _ in range(5):
        sha = rig.commit()
        deploy = rig.until_step(sha, "confirmed")
        assert [step.step for step in deploy.steps][:7] == [
            "queued",
            "building",
            "built",
            "started",
            "healthy",
            "handover",
            "taken",
        ]
    rig.until_step(sha, "retired")
    rig.assert_steady(sha)
    assert rig.missed() == 0
    rig.assert_ledger()


def test_the_newest_of_two_commits_wins(rig: DeployerRig) -> None:
    """Of two commits within a second, and one more during the deploy, the last is confirmed and no tick is missed."""
    rig.commit()
    rig.commit()
    during = rig.commit()
    until("the deploy began", lambda: rig.deploy_of(during))
    last = rig.commit()
    rig.until_step(last, "confirmed")
    rig.assert_steady(last)
    assert rig.missed() == 0
    assert {deploy.verdict for deploy in rig.history().deploys} <= {"confirmed", "cancelled"}


def test_rollback_goes_back_and_the_branch_is_left_alone_until_it_moves(rig: DeployerRig) -> None:
    """Rollback brings the former commit back without a missed tick; the newest commit is not deployed again by itself."""
    first = rig.git("rev-parse", "HEAD")
    second = rig.commit()
    rig.until_step(second, "retired")
    done = rig.command("rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "confirmed" in done.stdout
    rig.assert_steady(first)
    third = rig.commit()
    rig.until_step(third, "confirmed")
    shas = [deploy.sha for deploy in rig.history().deploys[-3:]]
    assert shas == [second, first, third]
    assert rig.missed() == 0


def test_status_and_history_say_what_runs(fresh: DeployerRig) -> None:
    """Both commands tell people and programs who trades, what was deployed and what is wrong, also without a deployer."""
    fresh.start()
    sha = fresh.git("rev-parse", "HEAD")
    fresh.until_step(sha, "confirmed")
    fresh.assert_steady(sha)
    status = json.loads(fresh.command("status", "--json").stdout)
    assert (status["deployer"], status["problem"], status["confirmed"]) == ("running", None, sha)
    assert status["trading"]["sha"] == sha
    assert [instance["healthy"] for instance in status["instances"]] == [True, True]
    (deploy,) = json.loads(fresh.command("history", "--json").stdout)
    assert (deploy["sha"], deploy["verdict"]) == (sha, "confirmed")
    fresh.git("branch", "-m", "main", "elsewhere")
    until("status says that the branch is gone", lambda: "the branch 'main'" in fresh.command("status").stdout)
    assert fresh.holder() is not None
    fresh.kill()
    text = fresh.command("status").stdout
    assert "not running" in text
    assert f"{sha[:7]} in epoch 1" in text
    assert fresh.command("deploy", "elsewhere").returncode == 2


def test_a_rewound_branch_is_deployed_like_any_commit(rig: DeployerRig) -> None:
    """When the branch is set back to an older commit, that one is deployed."""
    first = rig.git("rev-parse", "HEAD")
    second = rig.commit()
    rig.until_step(second, "confirmed")
    rig.git("reset", "--quiet", "--hard", first)
    until("first again", lambda: rig.history().deploys[-1].sha == first and rig.history().deploys[-1].has("confirmed"))
    rig.assert_steady(first)
    assert rig.missed() == 0


def test_a_saved_file_is_swapped_in_and_nothing_is_committed(tmp_path: Path) -> None:
    """Under `run --worktree` saving a file is a deploy, also after a restart of the deployer; one that cannot run says why; the
    branch, the checkout's index and ignored files are left alone; no tick is missed."""
    rig = DeployerRig(tmp_path, DEPLOYER_SPARES="0")
    try:
        (rig.repository / ".gitignore").write_text("*.log\n")
        head = rig.commit()
        rig.start("--worktree")
        rig.until_step(head, "confirmed")
        (rig.repository / "bot" / "fresh.py").write_text("SAVED = 1\n")
        (rig.repository / "noise.log").write_text("ignored")
        until("what was saved trades", lambda: rig.history().deploys[-1].sha != head and rig.history().confirmed)
        saved = rig.history().deploys[-1].sha
        rig.until_step(saved, "retired")
        assert (tmp_path / "run" / "trees" / saved / "bot" / "fresh.py").exists()
        assert not (tmp_path / "run" / "trees" / saved / "noise.log").exists()
        assert rig.git("rev-parse", "HEAD") == head
        assert rig.git("status", "--porcelain") == "?? bot/fresh.py"
        (rig.repository / "bot" / "__init__.py").write_text("raise RuntimeError('saved too early')\n")
        broken = until("it failed", lambda: rig.history().deploys[-1].first("failed"))
        assert "died before its first healthy poll" in broken.text
        assert any("saved too early" in line for line in broken.data["last_words"]), broken
        (rig.repository / "bot" / "__init__.py").write_text("")
        rig.assert_steady(saved, spares=0)
        rig.kill()
        rig.start("--worktree")
        rig.assert_steady(saved, spares=0)
        assert len(rig.history().deploys) == 3
        assert rig.missed() == 0
    finally:
        rig.stop()
