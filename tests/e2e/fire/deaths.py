"""Deaths and pauses of the bots that trade and of those that stand by, and of everything at once."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bus import InstanceView
from tests.e2e.fire.outcome import Outcome, Tried, measure, sent_after
from tests.e2e.fire.rig import FireRig

# Shorter than DEPLOYER_STUCK_AFTER: nobody is killed for it.
NAP_S = 3.0
Who = Literal["active", "spare", "both"]
How = Literal["stop", "pause"]


def kill_active(rig: FireRig, count: int, moments: random.Random) -> Outcome:
    """SIGKILL of the active bot at random moments, with a spare: no tick is missed, no order is doubled."""

    def work(tried: Tried) -> None:
        rig.restart(DEPLOYER_SPARES="1")
        for _ in range(count):
            holder, epoch = rig.settle(), rig.epoch()
            rig.pid(holder)
            rig.random_moment(moments)
            rig.strike(holder, signal.SIGKILL)
            rig.until_epoch(epoch)
            tried.times += 1
        rig.settle()

    return measure(rig, "kill -9 of the active bot, with a spare", work)


def kill_lone(rig: FireRig, count: int, moments: random.Random) -> Outcome:
    """SIGKILL of the only bot: it is back by itself, nothing is lost, and the ticks that it missed are reported."""

    def work(tried: Tried) -> None:
        rig.restart(DEPLOYER_SPARES="0")
        took = []
        for _ in range(count):
            holder, epoch = rig.settle(spares=0), rig.epoch()
            rig.pid(holder)
            rig.random_moment(moments)
            struck_ms = rig.strike(holder, signal.SIGKILL)
            took.append(rig.until_epoch(epoch) - struck_ms)
            tried.times += 1
        tried.notes.append(f"back after {min(took) / 1000:.1f} to {max(took) / 1000:.1f} s")

    try:
        return measure(rig, "kill -9 of the only bot, without a spare", work, allowed=None)
    finally:
        rig.restart(DEPLOYER_SPARES="1")


def pause(
    rig: FireRig, who: Who, how: How, count: int, moments: random.Random, *, limit_ms: int | None = None
) -> Outcome:
    """The active bot, the spare or both stand still: another trades within the limit, and what wakes sends nothing."""

    def work(tried: Tried) -> None:
        took = []
        for _ in range(count):
            holder = rig.settle()
            stopped = {"active": [holder], "spare": [rig.spare()], "both": [holder, rig.spare()]}[who]
            for seen in stopped:
                rig.pid(seen)
            epoch = rig.epoch()
            rig.random_moment(moments)
            wall_ms = rig.clock.wall_ms()
            at_ms = min(_stop(rig, seen, how) for seen in stopped)
            if who == "spare":
                rig.until_gone(stopped[0])
                rig.settle()
                assert rig.epoch() == epoch, "the active bot was not left alone"
            else:
                took.append(rig.until_epoch(epoch) - at_ms)
            for seen in stopped:
                _wake(rig, seen, how)
            rig.settle()
            late = [order for seen in stopped for order in sent_after(rig, seen.id, wall_ms)]
            assert not late, f"a stopped bot sent {late} after it was stopped"
            tried.times += 1
        if took:
            tried.notes.append(f"another traded after {min(took) / 1000:.1f} to {max(took) / 1000:.1f} s")
            late_ms = max(took) if limit_ms is not None and max(took) > limit_ms else None
            assert late_ms is None, f"another traded only after {late_ms} ms, expected {limit_ms} at most"

    called = {"stop": "SIGSTOP", "pause": "docker pause"}[how]
    named = {"active": "the active bot", "spare": "the spare", "both": "both"}[who]
    return measure(rig, f"{called} of {named}", work, allowed=0 if who == "spare" else None)


def nap(rig: FireRig, how: How, count: int, moments: random.Random) -> Outcome:
    """The active bot, and the spare with it, stand still for less than the limit and wake: they go on, and nothing is doubled."""

    def work(tried: Tried) -> None:
        for number in range(count):
            stopped = [rig.settle(), rig.spare()][: 1 + number % 2]
            for seen in stopped:
                rig.pid(seen)
            epoch = rig.epoch()
            rig.random_moment(moments)
            for seen in stopped:
                _stop(rig, seen, how)
            time.sleep(NAP_S)  # the nap itself; nothing is awaited here
            for seen in stopped:
                _wake(rig, seen, how)
            rig.until_polls(3)
            rig.settle()
            assert rig.epoch() == epoch, "the same bot was to trade on"
            tried.times += 1

    called = {"stop": "SIGSTOP", "pause": "docker pause"}[how]
    return measure(rig, f"{called} for {NAP_S:g} s, then woken", work, allowed=None)


def freeze_disk(rig: FireRig, disk: Path, seconds: Sequence[float]) -> Outcome:
    """The bus's disk hangs, fsync included, for so many seconds each time: the same bots go on, and nobody is killed for it.

    disk: where it is mounted, and nothing but the bus on it.
    """

    def work(tried: Tried) -> None:
        for hangs_s in seconds:
            holder, spare = rig.settle(), rig.spare()
            epoch = rig.epoch()
            subprocess.run(["fsfreeze", "--freeze", str(disk)], check=True, timeout=30)
            try:
                time.sleep(hangs_s)  # the disk stands; nothing is awaited here
            finally:
                subprocess.run(["fsfreeze", "--unfreeze", str(disk)], check=True, timeout=30)
            rig.until_polls(2)
            rig.settle()
            assert rig.epoch() == epoch, "the same bot was to trade on"
            assert {seen.id for seen in rig.living()} == {holder.id, spare.id}, "nobody was to be replaced"
            tried.times += 1

    return measure(rig, "the disk hangs, fsync included", work, allowed=None)


def kill_everything(rig: FireRig, count: int, *, with_paper: bool) -> Outcome:
    """SIGKILL of the deployer and all bots at once, and of the exchange as well: started again, they carry on."""

    def work(tried: Tried) -> None:
        for _ in range(count):
            rig.settle()
            epoch, deploys = rig.epoch(), len(rig.history().deploys)
            if with_paper:
                rig.paper.kill()
            rig.kill_everything()
            if with_paper:
                rig.paper.start()
            rig.start()
            rig.until_epoch(epoch)
            rig.settle()
            assert len(rig.history().deploys) == deploys, "what was confirmed is not deployed again"
            tried.times += 1

    part = "kill -9 of bots, deployer and exchange at once" if with_paper else "kill -9 of bots and deployer at once"
    return measure(rig, part, work, allowed=None)


def _stop(rig: FireRig, seen: InstanceView, how: How) -> int:
    return rig.freeze(seen) if how == "pause" else rig.strike(seen, signal.SIGSTOP)


def _wake(rig: FireRig, seen: InstanceView, how: How) -> None:
    if how == "pause":
        rig.thaw(seen)
    else:
        rig.wake(seen)


__all__ = ["How", "Who", "freeze_disk", "kill_active", "kill_everything", "kill_lone", "nap", "pause"]
