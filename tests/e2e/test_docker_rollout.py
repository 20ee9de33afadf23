"""The tests of the rollout, on containers: the same promises as with processes, and what only containers can suffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.docker_engine import docker, need_engine
from tests.e2e.docker_rig import DockerRig
from tests.e2e.rig import until
from tests.e2e.test_deployer_broken import (
    fails,
    test_a_candidate_that_is_never_healthy_costs_nothing,
    test_a_candidate_that_is_unhealthy_while_active_is_taken_back,
    test_a_syntax_error_fails_the_build,
)
from tests.e2e.test_deployer_deaths import (
    test_a_deployer_killed_at_any_moment_of_a_deploy_is_carried_on,
)
from tests.e2e.test_deployer_swaps import (
    test_commits_in_a_row_miss_no_tick,
    test_rollback_goes_back_and_the_branch_is_left_alone_until_it_moves,
)

need_engine()

# Collected here, run with this module's rig.
SHARED: tuple[Callable[..., None], ...] = (
    test_a_candidate_that_is_never_healthy_costs_nothing,
    test_a_candidate_that_is_unhealthy_while_active_is_taken_back,
    test_a_deployer_killed_at_any_moment_of_a_deploy_is_carried_on,
    test_a_syntax_error_fails_the_build,
    test_rollback_goes_back_and_the_branch_is_left_alone_until_it_moves,
    test_commits_in_a_row_miss_no_tick,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRig]:
    """A deployer with one commit, in containers, for all tests."""
    made = DockerRig(tmp_path_factory.mktemp("rig"), DEPLOYER_HEALTHY_TIMEOUT="4")
    try:
        made.commit()
        yield made
    finally:
        made.stop()


@pytest.fixture
def rig(running: DockerRig) -> DockerRig:
    """A deployer with a confirmed commit and its spare, settled."""
    running.calm_down()
    return running


def test_a_container_and_an_image_removed_by_hand_come_back(rig: DockerRig) -> None:
    """The active bot's container and its commit's image are removed: the spare trades, and the image is built again."""
    sha = rig.git("rev-parse", "HEAD")
    holder = until("a holder", rig.holder)
    docker("rmi", "--force", f"never-sleeps-bot:{sha}")
    assert holder.document is not None
    docker("rm", "--force", holder.document.unit)
    until("another trades", lambda: (h := rig.holder()) and h.id != holder.id)
    rig.assert_steady(sha)
    assert rig.missed() <= 1
    rig.assert_ledger()


def test_sigterm_to_the_deployer_leaves_the_bots_alone_and_down_ends_them(rig: DockerRig) -> None:
    """Without a deployer the bots trade on; the next one adopts them; `down` beside it ends all of them, and says so."""
    before = rig.units()
    assert rig.terminate() == 0
    polls = rig.count("SELECT count(*) FROM polls_completed")
    until("polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") > polls + 3)
    assert rig.units() == before
    rig.start()
    rig.assert_steady(rig.git("rev-parse", "HEAD"))
    assert rig.units() == before
    assert rig.missed() == 0
    rig.terminate()
    done = rig.command("down", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"ended {unit}" in done.stdout for unit in before)
    assert not rig.units()
    assert not rig.living()


def test_a_commit_whose_image_is_refused_fails_and_costs_nothing(rig: DockerRig) -> None:
    """An image that brings a volume of its own is never started; the deploy fails with the reason."""
    file = rig.repository / "Dockerfile"
    file.write_text(file.read_text() + "VOLUME /extra\n")
    deploy = fails(rig, "good")
    assert "a mount of" in deploy.why
    assert "at /extra" in deploy.why
    assert rig.missed() == 0


def test_two_deployers_and_a_deployer_without_the_socket_say_so(rig: DockerRig) -> None:
    """The second deployer of a bus, and one that may not use the Engine, end with exit code 2 and one line."""
    second = rig.command("run")
    assert second.returncode == 2
    assert "a deployer runs on the bus /bus already" in second.stderr
    rig.terminate()
    outsider = [option for option in rig.options() if not option.startswith("--group-add")]
    done = rig.beside(outsider, "run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "may not use the Docker Engine at /var/run/docker.sock" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
