"""Everything ends in the middle of a deploy, at each of its steps and in each way: the next start carries on."""

from __future__ import annotations

import pytest

from deployer.rollout.interruption import MOST
from tests.property.test_rollout import World

STEPS = ("queued", "building", "built", "started", "healthy", "held", "approved", "handover", "taken")
WAYS = {
    "make stop": {"left": False, "cut": False},
    "a power cut": {"left": True, "cut": False},
    "a power cut, and another one at the start": {"left": True, "cut": True},
    "the deployer alone": None,
}


def until_step(world: World, step: str) -> None:
    """Go on until the newest deploy came to a step, and not a moment longer."""
    for _ in range(400):
        for action in world.decide():
            world.perform(action)
            if world.history.deploys and world.history.deploys[-1].phase == step:
                return
        world.live(0)
        world.deployer_acts_beside()
        if world.history.open is not None and world.history.open.is_held and step != "held":
            world.ask("approve", 0, named=False, now=False)
    raise AssertionError(f"it never came to {step}: {world.describe()}")


# The first deploy has nothing to be compared with, and takes a lease that is free.
OF_THE_FIRST = ("queued", "building", "built", "started", "taken")
CASES = [(step, False) for step in STEPS] + [(step, True) for step in OF_THE_FIRST]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("step", "first"), CASES, ids=[f"{step}{' of the first' * first}" for step, first in CASES])
def test_interrupted_is_not_failed(step: str, first: bool, way: str) -> None:
    """The same deploy is confirmed afterwards, by the same commit, whatever it had come to."""
    world = World()
    world.first_commit(hold=step in ("held", "approved"))
    if not first:
        world.time_passes(20, 0)
        assert world.history.confirmed is not None
        world.commit("good", "differs" if world.policy.hold else "same")
    until_step(world, step)
    deploy = world.history.deploys[-1]
    ends = WAYS[way]
    if ends is None:
        world.forget_memory()
    else:
        world.everything_ends(**ends)
    world.teardown()
    after = world.history.deploys[-1]
    assert (after.id, after.verdict) == (deploy.id, "confirmed"), world.describe()


@pytest.mark.parametrize("left", [False, True])
def test_what_was_being_taken_back_fails_with_its_own_reason(left: bool) -> None:
    """It was found to be bad before everything ended: that is not tried again."""
    world = World()
    world.first_commit(hold=False)
    world.time_passes(20, 0)
    good = world.tip
    world.commit("sick-active", "absent")
    until_step(world, "taking-back")
    world.everything_ends(left=left, cut=False)
    world.teardown()
    after = world.history.deploys[-1]
    assert after.verdict == "failed"
    assert "unhealthy polls in a row" in after.why
    assert world.history.confirmed is not None
    assert world.history.confirmed.sha == good


def test_what_ends_the_machine_each_time_is_given_up() -> None:
    """A candidate in whose middle everything ends again and again fails, and the former commit trades."""
    world = World()
    world.first_commit(hold=False)
    world.time_passes(20, 0)
    good = world.tip
    world.commit("good", "absent")
    for _ in range(MOST + 1):
        until_step(world, "taken")
        world.everything_ends(left=True, cut=False)
    after = world.history.deploys[-1]
    assert after.verdict == "failed"
    assert f"in the middle of it {MOST + 1} times; `./ns deploy" in after.why
    world.tip = good
    world.teardown()
    assert world.history.confirmed is not None
    assert world.history.confirmed.sha == good
