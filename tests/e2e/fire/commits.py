"""Commits: broken ones, several at once, the branch rewound, and deaths in the middle of a deploy."""

from __future__ import annotations

import os
import random
import signal
import time

from bus import InstanceView, Role, read_instance
from ledger import Ledger
from tests import patience
from tests.e2e.fire.breaks import BREAKS
from tests.e2e.fire.outcome import Outcome, Tried, measure
from tests.e2e.fire.rig import SETTLE_S, FireRig
from tests.e2e.rig import until

# A moment of a deploy is chosen as a step of it, and a time after that.
STEPS = ("queued", "building", "built", "started", "healthy", "handover", "taken")
AFTER_STEP_S = 1.0
SOON_S = 0.0005
STEP_LIMIT_S = 30.0
STEPS_IN_YIELD = 8


def broken(rig: FireRig, mode: str, *, timed: bool = True) -> Outcome:
    """A broken commit: the good one keeps or regains the lease, and the history says why in a sentence.

    timed: count the ticks that one which came to trade may miss; else any number, on a machine that may be slow.
    """
    wrong = BREAKS[mode]
    allowed = wrong.missed or 0 if timed or wrong.missed is None else None

    def work(tried: Tried) -> None:
        # What hangs is waited for: limits as long as a slow machine needs, and no longer.
        build_limit_s = "30" if mode == "import-hangs" else "120"
        rig.restart(DEPLOYER_HEALTHY_TIMEOUT="20", DEPLOYER_BUILD_LIMIT=build_limit_s)
        rig.settle()
        bad = rig.commit(mode)
        deploy = rig.until_verdict(bad)
        told = deploy.why.splitlines()[0]
        tried.notes.append(told)
        assert deploy.verdict == "failed", f"it {deploy.verdict}: {told}"
        assert any(words in deploy.why for words in wrong.why), f"expected one of {wrong.why} in: {deploy.why}"
        assert deploy.has("handover") == (wrong.missed is not None), [step.step for step in deploy.steps]
        rig.settle()
        tried.times += 1

    return measure(rig, f"broken: {mode}", work, allowed=allowed)


def kill_deployer(rig: FireRig, count: int, moments: random.Random) -> Outcome:
    """SIGKILL of the deployer at random moments of a deploy: the next one carries it on, and no tick is missed."""

    def work(tried: Tried) -> None:
        for _ in range(count):
            rig.settle()
            sha = rig.commit()
            rig.until_step(sha, moments.choice(STEPS), SETTLE_S)
            time.sleep(moments.uniform(0, AFTER_STEP_S))  # the random moment itself; nothing is awaited here
            deploy = rig.deploy_of(sha)
            rig.kill()
            tried.notes.append(deploy.phase if deploy is not None else "?")
            rig.start()
            rig.until_confirmed(sha)
            tried.times += 1
        rig.settle()
        tried.notes[:] = [f"killed while {', '.join(tried.notes)}"]

    return measure(rig, "kill -9 of the deployer in a deploy", work)


def at_once(rig: FireRig, count: int, moments: random.Random) -> Outcome:
    """Two commits within a second, and one more during the deploy of the second: the last one is confirmed."""

    def work(tried: Tried) -> None:
        for _ in range(count):
            rig.settle()
            rig.commit()
            second = rig.commit()
            rig.until_step(second, moments.choice(STEPS), SETTLE_S)
            time.sleep(moments.uniform(0, AFTER_STEP_S))  # the random moment itself; nothing is awaited here
            rig.until_confirmed(rig.commit())
            tried.times += 1
        rig.settle()
        wrong = [deploy.why for deploy in rig.history().deploys[-3 * count :] if deploy.verdict == "failed"]
        assert not wrong, f"a good commit failed: {wrong}"

    return measure(rig, "two commits within a second, one during the deploy", work)


def rewound(rig: FireRig, count: int) -> Outcome:
    """The branch is set back by a commit: that one is deployed like any other."""

    def work(tried: Tried) -> None:
        for _ in range(count):
            rig.settle()
            rig.until_confirmed(rig.commit())
            rig.until_confirmed(rig.commit())
            rig.settle()
            deploys = len(rig.history().deploys)
            first = rig.rewind()
            until("it is deployed again", lambda n=deploys: len(rig.history().deploys) > n, SETTLE_S)  # type: ignore[misc]  # a default captures it
            rig.until_confirmed(first)
            tried.times += 1
        rig.settle()

    return measure(rig, "the branch rewound (git reset --hard HEAD~1)", work)


def kill_taker(rig: FireRig, count: int) -> Outcome:
    """SIGKILL of the named taker between release and take: another one trades, and the deploy fails with the reason."""

    def work(tried: Tried) -> None:
        hits = 0
        for _ in range(count):
            rig.settle()
            before, epoch = rig.good, rig.epoch()
            sha = rig.commit()
            rig.good = before  # the new one shall fail
            taker = rig.until_named(sha)
            # Stopped first, so that the moment is met: it cannot take, and dies once the lease is released to it.
            rig.strike(taker, signal.SIGSTOP)
            until(
                "the release",
                lambda epoch=epoch: rig.count(f"SELECT count(*) FROM releases WHERE epoch = {epoch}"),  # type: ignore[misc]  # a default captures it
                SETTLE_S,
                SOON_S,
            )
            rig.strike(taker, signal.SIGKILL)
            rig.until_epoch(epoch)
            deploy = rig.until_verdict(sha)
            with until("a ledger", lambda: Ledger.reader(rig.bus.ledger)) as ledger:
                rows = ledger.execute("SELECT instance FROM epochs WHERE epoch = ?", (epoch + 1,))
            if rows[0][0] == taker.id:
                rig.good = sha if deploy.verdict == "confirmed" else before
            else:
                hits += 1
                assert deploy.verdict == "failed", f"it {deploy.verdict}"
                assert "died" in deploy.why, deploy.why
            tried.times += 1
        rig.settle()
        tried.notes.append(f"{hits} died between release and take")
        assert hits * 2 >= count, f"only {hits} of {count} died between release and take"

    return measure(rig, "kill -9 of the named taker between release and take", work)


def kill_yielding(rig: FireRig, count: int, moments: random.Random) -> Outcome:
    """SIGKILL of blue in the middle of its yield: green takes the lease all the same."""

    def work(tried: Tried) -> None:
        released = 0
        for _ in range(count):
            blue, epoch = rig.settle(), rig.epoch()
            rig.pid(blue)
            sha = rig.commit()
            rig.until_named(sha)
            _stop_in_yield(rig, blue, moments.randrange(STEPS_IN_YIELD))
            rig.strike(
                blue, signal.SIGKILL
            )  # first: stopped in the middle of a commit it would keep every reader waiting
            released += rig.count(f"SELECT count(*) FROM releases WHERE epoch = {epoch}")
            rig.until_epoch(epoch)
            rig.until_confirmed(sha)
            tried.times += 1
        rig.settle()
        tried.notes.append(f"{tried.times - released} before their release, {released} after it")

    return measure(rig, "kill -9 of blue in its yield", work)


def _stop_in_yield(rig: FireRig, blue: InstanceView, more: int) -> None:
    """Let blue run in steps of a millisecond, stopped in between, until it says that it yields; then so many steps more.

    A yield takes a few milliseconds: nobody who only looks can strike in the middle of it.
    """
    pid = rig.pid(blue)
    deadline = patience.now() + STEP_LIMIT_S
    while more >= 0:
        assert patience.now() < deadline, f"blue did not yield within {STEP_LIMIT_S:g} s"
        os.kill(pid, signal.SIGSTOP)
        document = read_instance(rig.bus, blue.id).document
        if document is not None and document.role is not Role.ACTIVE:
            more -= 1
        if more >= 0:
            os.kill(pid, signal.SIGCONT)
            time.sleep(SOON_S)


__all__ = ["at_once", "broken", "kill_deployer", "kill_taker", "kill_yielding", "rewound"]
