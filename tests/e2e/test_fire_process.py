"""Swaps under fire with the real bot, as processes: deaths, pauses and broken commits. `make fire` does more of each.

One rig serves all of them, one after another; each begins when the one before has settled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.fire import commits, deaths
from tests.e2e.fire.outcome import Outcome
from tests.e2e.fire.rig import POLLS, SETTLE_S, FireRig
from tests.e2e.rig import until

pytestmark = pytest.mark.timeout(300)

Moments = random.Random
# All that a bot asks the exchange, but for the credentials that a candidate on paper begins with.
VENUE_PATHS = (
    "/time", "/ok", "/book", "/markets", "/clob-markets", "/events", "/data", "/balance-allowance", "/order", "/v1/heartbeats",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FireRig]:
    """Paper, a deployer, and the real bot that trades with its spare."""
    made = FireRig(tmp_path_factory.mktemp("fire"), DEPLOYER_STUCK_AFTER="4")
    try:
        made.begin()
        yield made
    finally:
        made.stop()


@pytest.fixture
def moments(record_property: Callable[[str, object], None]) -> Moments:
    """Random moments; the seed is in the report."""
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    return random.Random(seed)


def held(outcome: Outcome) -> None:
    """The part was done, nothing was doubled, and the audit against the exchange's record holds."""
    assert not outcome.broken, outcome
    assert outcome.tried > 0


def test_a_killed_active_bot_costs_no_tick(rig: FireRig, moments: Moments) -> None:
    """SIGKILL of the active bot at random moments: its spare trades on, no tick is missed and no order doubled."""
    held(deaths.kill_active(rig, 2, moments))


def test_a_killed_lone_bot_is_back_by_itself(rig: FireRig, moments: Moments) -> None:
    """Without a spare the active bot is replaced after its death; the ticks that it missed, if any, have their rows."""
    held(deaths.kill_lone(rig, 2, moments))


@pytest.mark.parametrize("who", ["spare", "both"])
def test_a_stopped_bot_is_replaced_and_sends_nothing(rig: FireRig, moments: Moments, who: deaths.Who) -> None:
    """SIGSTOP of the spare costs no tick; of both, a new one trades; what was stopped sends nothing any more."""
    held(deaths.pause(rig, who, "stop", 1, moments))


def test_a_nap_is_no_death(rig: FireRig, moments: Moments) -> None:
    """Bots that are stopped for less than the limit and woken go on in their roles, and nothing is doubled."""
    held(deaths.nap(rig, "stop", 2, moments))


def test_a_taker_killed_between_release_and_take_costs_no_tick(rig: FireRig) -> None:
    """The lease was released to a green that dies: another one trades, and the history says that green died."""
    held(commits.kill_taker(rig, 2))


def test_a_blue_killed_in_its_yield_costs_no_tick(rig: FireRig, moments: Moments) -> None:
    """Blue dies in the middle of its yield, before or after its release: green trades and is confirmed."""
    held(commits.kill_yielding(rig, 2, moments))


def test_now_does_not_wait_for_a_venue_that_is_down(rig: FireRig) -> None:
    """While the venue answers nothing a commit waits in its warm-up; `deploy --now` lets it trade; it is confirmed later."""
    rig.restart(DEPLOYER_HEALTHY_TIMEOUT="100")
    before = rig.settle()
    for path in VENUE_PATHS:
        rig.paper.fault(kind="error", path=path, count=1_000_000)
    rig.paper.fault(kind="freeze_streams", path="/ws/market", seconds=600)
    try:
        sha = rig.commit()
        rig.until_step(sha, "started")

        def waits() -> bool:
            documents = [seen.document for seen in rig.living() if seen.document is not None]
            return any(one.sha == sha and one.waits_for_venue for one in documents)

        until("the candidate waits for the venue", waits, SETTLE_S)
        polls = rig.count(POLLS)
        until("the former one polls on", lambda: rig.count(POLLS) > polls + 3)
        assert until("a holder", rig.holder).id == before.id, "the lease was passed on"
        asked = rig.command("deploy", sha, "--now", "--no-wait")
        assert asked.returncode == 0, asked.stdout + asked.stderr
        rig.until_step(sha, "taken", SETTLE_S)
    finally:
        rig.paper.clear_faults()
    rig.until_confirmed(sha)
    rig.settle()
    assert rig.audit().returncode == 0, rig.audit().stdout


@pytest.mark.parametrize("mode", ["dies-active", "hangs-active", "eats-memory"])
def test_a_broken_commit_loses_to_the_good_one(rig: FireRig, mode: str) -> None:
    """The good commit keeps or regains the lease; the history says why in a sentence; beside it nobody is harmed."""
    held(commits.broken(rig, mode, timed=False))


def test_everything_killed_at_once_carries_on(rig: FireRig) -> None:
    """SIGKILL of the deployer, all bots and the exchange: started again, they trade on, and nothing is lost."""
    held(deaths.kill_everything(rig, 1, with_paper=True))
