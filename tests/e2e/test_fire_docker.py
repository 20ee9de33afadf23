"""The same as containers, and what only containers can suffer: `docker pause`, and a limit of memory that the kernel enforces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.docker_engine import need_engine
from tests.e2e.fire import commits, deaths
from tests.e2e.fire.docker_rig import DockerFireRig
from tests.e2e.test_fire_process import (
    Moments,
    held,
    moments,
    test_a_killed_active_bot_costs_no_tick,
    test_everything_killed_at_once_carries_on,
)

need_engine()
pytestmark = pytest.mark.timeout(300)

# Collected here, run with this module's rig.
SHARED: tuple[Callable[..., None], ...] = (
    test_a_killed_active_bot_costs_no_tick,
    test_everything_killed_at_once_carries_on,
)
__all__ = ["moments"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerFireRig]:
    """Paper, a deployer, and the real bot that trades with its spare, in containers."""
    made = DockerFireRig(tmp_path_factory.mktemp("fire"), DEPLOYER_STUCK_AFTER="4")
    try:
        made.begin()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("who", ["active", "both"])
def test_a_paused_container_is_replaced_and_sends_nothing(
    rig: DockerFireRig, moments: Moments, who: deaths.Who
) -> None:
    """`docker pause` of the active bot, and of its spare with it: killed and replaced; what was paused sends nothing any more."""
    held(deaths.pause(rig, who, "pause", 1, moments))


def test_an_image_that_eats_memory_loses_to_the_good_one(rig: DockerFireRig) -> None:
    """The kernel ends it at its container's limit, blue or its spare regains the lease, and the history says how it died.

    A machine that is so busy that it does not get to its limit in the 6 s of a poll that hangs says that.
    """
    outcome = commits.broken(rig, "eats-memory", timed=False)
    held(outcome)
    assert any(why in outcome.notes[0] for why in ("out of memory, exit code 137", "no poll was completed for 6 s"))
