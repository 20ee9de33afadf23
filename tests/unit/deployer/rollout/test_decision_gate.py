"""The comparison of decisions in a deploy: when it is made, what is believed of it, what it delays and what it does not."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus import Request, Step
from deployer.deploys import Deploy, fold
from deployer.errors import RuntimeFailedError
from deployer.push.receive import Situation, tell, waits_for
from deployer.rollout.decide import decide
from deployer.rollout.deploy_requests import answer
from deployer.rollout.differences import NOTHING, SHOWN, Compared, not_compared, read_comparison
from deployer.rollout.observed import Asked, Compare, Observed, Policy, Record
from deployer.runtimes.api import OneOff
from deployer.runtimes.children import MAX_BYTES, run_one_off
from tests.e2e.rig import until
from tests.unit.deployer.push.test_receive import PUSH
from tests.unit.deployer.rollout.test_decide import BLUE, GREEN, NOW, UP_TO_HEALTHY, look, recorded, steps

HOLD = Policy(hold=True)
SAME = Compared("720 polls replayed, 0 decisions differ", False, {"differ": 0})
DIFFERS = Compared("720 polls replayed, 3 decisions differ", True, {"differ": 3})
BUSY = frozenset({"compare:2"})
ASKED = {"action": "enter", "reason": "edge", "outcome": "Up", "price": "0.6", "size": 5}
DIFFERENCE = {"slot": "BTC-5m", "tick": 7, "between": False, "was": ASKED, "now": ASKED, "text": "BTC-5m 7: was, now"}


def compared(found: Compared) -> Step:
    """The step of a comparison of the deploy 2."""
    return Step(
        deploy="2", step="compared", time_ms=NOW.wall_ms, sha=GREEN, text=found.text,
        data={**found.data, "holds": found.holds},
    )  # fmt: skip


def healthy(*more: Step, **changes: Any) -> Observed:
    """Green is healthy and knows the command."""
    return look([*steps("2", GREEN, *UP_TO_HEALTHY), *more], **{"comparable": frozenset({GREEN}), **changes})


def test_always_holds_each_commit_whatever_its_own_code_says() -> None:
    """One that decides the same, and one that does not know the command; not the first of all, and not what was asked for now."""
    always = Policy(hold=True, always=True)
    assert recorded(healthy(compared(SAME)), policy=always) == ["held"]
    assert recorded(healthy(comparable=frozenset()), policy=always) == ["held"]
    assert recorded(healthy(compared(SAME)), policy=HOLD) == ["handover"]
    approved = [compared(SAME), *steps("2", GREEN, "held", "approved")]
    assert recorded(healthy(*approved), policy=always) == ["handover"]


def report(**changes: Any) -> OneOff:
    """What a comparison's process tells."""
    found = {"schema": "1.0", "text": "", "polls": 720, "decisions": 11520, "differ": 1, "unreadable": 0}
    return OneOff(1, json.dumps({**found, "differences": [DIFFERENCE], "notes": {}, **changes}) + "\n", "")


def test_it_is_made_once_beside_the_warm_up_and_only_where_the_worker_knows_it() -> None:
    """From green's start on; not before, not twice, not of the first commit ever, never by a worker that would trade instead."""
    begun = Compare("2", GREEN, BLUE)
    started = look(steps("2", GREEN, *UP_TO_HEALTHY[:4]), comparable=frozenset({GREEN}))
    assert decide(started, NOW, Policy()) == (begun,)
    for other in (
        look(steps("2", GREEN, *UP_TO_HEALTHY[:3]), comparable=frozenset({GREEN})),
        replace(started, busy=BUSY),
        replace(started, comparable=frozenset({BLUE})),
        replace(
            started,
            history=fold(steps("2", GREEN, *UP_TO_HEALTHY[:4])),
            handover=started.handover.changed(confirmed_sha=""),
        ),
        replace(started, compared={"2": SAME}),
    ):
        assert begun not in decide(other, NOW, Policy())


def test_a_report_delays_no_handover_and_is_told_when_it_is_ready() -> None:
    """Green is handed the lease while its decisions are compared; what came of it is told even after the verdict."""
    assert recorded(healthy(busy=BUSY)) == ["handover"]
    assert recorded(healthy(compared(DIFFERS))) == ["handover"]
    over = look([*steps("2", GREEN, *UP_TO_HEALTHY, "handover", "taken", "confirmed")], compared={"2": DIFFERS})
    (told,) = [action for action in decide(over, NOW, Policy()) if isinstance(action, Record)]
    assert (told.deploy, told.step, told.text) == ("2", "compared", DIFFERS.text)
    deploy = over.history.with_step(compared(DIFFERS)).find("2")
    assert deploy is not None
    assert (deploy.phase, deploy.verdict) == ("confirmed", "confirmed")


@pytest.mark.parametrize(
    ("seen", "next_step"),
    [
        (healthy(busy=BUSY), []),
        (healthy(compared(SAME)), ["handover"]),
        (healthy(compared(NOTHING)), ["handover"]),
        (healthy(compared(DIFFERS)), ["held"]),
        (healthy(compared(not_compared("why"))), ["held"]),
        (healthy(comparable=frozenset()), ["handover"]),
        (healthy(compared(DIFFERS), *steps("2", GREEN, "held")), []),
        (healthy(compared(DIFFERS), *steps("2", GREEN, "held"), comparable=frozenset()), []),
        (healthy(compared(DIFFERS), *steps("2", GREEN, "held", "approved")), ["handover"]),
    ],
)
def test_hold_waits_for_what_is_not_shown_to_decide_the_same(seen: Observed, next_step: list[str]) -> None:
    """It waits for the comparison, then for an approval unless nothing differs, nothing is on record, or nobody can compare."""
    assert recorded(seen, policy=HOLD) == next_step
    assert recorded(seen, policy=Policy()) == (["handover"] if next_step != ["handover"] else next_step)


@pytest.mark.parametrize("data", [{"cause": "rollback"}, {"cause": "deploy", "now": True}])
def test_rollback_and_now_are_not_held(data: dict[str, Any]) -> None:
    """Neither waits for the comparison, nor for anybody's word."""
    for more in ([], [compared(DIFFERS)]):
        seen = look([*steps("2", GREEN, *UP_TO_HEALTHY, **data), *more], target=None, busy=BUSY)
        assert recorded(seen, policy=HOLD) == ["handover"]


def held(**changes: Any) -> Observed:
    """A deploy that waits for an approval."""
    return healthy(compared(DIFFERS), *steps("2", GREEN, "held"), **changes)


@pytest.mark.parametrize(
    ("ref", "step"), [("", "approved"), ("2", "approved"), (GREEN[:7], "approved"), (BLUE[:7], "answered")]
)
def test_an_approval_lets_the_named_deploy_go_on(ref: str, step: str) -> None:
    """By its id, by its sha, or without a name; another name is refused."""
    seen = held(requests=(Asked("q", Request(id="q", action="approve", ref=ref, by="ann")),))
    (said,) = answer(seen, NOW)
    assert isinstance(said, Record)
    assert (said.deploy, said.step, said.request) == ("2", step, "q")


def test_what_is_held_gives_way_to_a_newer_commit_and_is_told_to_those_who_wait() -> None:
    """A newer commit supersedes it; its pusher reads the differences and what to do."""
    assert recorded(held(target="c" * 40), policy=HOLD) == ["cancelled"]
    history = held().history
    deploy = history.open
    assert isinstance(deploy, Deploy)
    step = read_comparison(report(differ=SHOWN + 2, differences=[DIFFERENCE] * (SHOWN + 2), notes={"odd": 2}))
    seen = fold([*steps("2", GREEN, "queued"), compared(step)])
    at = Situation(seen, "main", GREEN, BLUE, waits_for=waits_for(deploy, compares=False))
    lines = tell(replace(PUSH, new=GREEN), at).lines
    assert lines[1].endswith(f"720 polls replayed, {SHOWN + 2} decisions differ")
    assert lines.count("           | BTC-5m 7: was, now") == SHOWN
    assert lines[-3:-1] == ("           | and 2 more: `./ns compare REF`", "           | 2 times: odd")
    assert "`./ns approve 2` lets it go on" in lines[-1]
    assert "being compared" in waits_for(healthy().history.open, compares=True)


@pytest.mark.parametrize(
    ("done", "text", "holds"),
    [
        (report(differ=0, differences=[]), "720 polls replayed, 0 decisions differ", False),
        (report(polls=1), "1 poll replayed, 1 decision differs", True),
        (
            report(differ=0, differences=[], unreadable=4),
            "720 polls replayed, 0 decisions differ, 4 could not be read",
            True,
        ),
        (report(decisions=0, polls=0, differ=0, differences=[]), NOTHING.text, False),
        (report(differ=-1), "not compared: exit code 1: {", True),
        (OneOff(2, "", "usage\nbot: no such command\n"), "not compared: exit code 2: bot: no such command", True),
        (OneOff(-9, "", ""), "not compared: exit code -9", True),
        (OneOff(0, "null\n", ""), "not compared: exit code 0: null", True),
    ],
)
def test_what_a_comparison_says_is_read_or_told_as_none(done: OneOff, text: str, holds: bool) -> None:
    """Numbers are counted, unreadable inputs said, and whatever is no answer is a comparison that failed."""
    found = read_comparison(done)
    assert (found.text[: len(text)], found.holds) == (text, holds)
    assert len(found.text) < 400
    json.dumps(dict(found.data))


def test_lines_of_a_new_version_are_single_and_short() -> None:
    """What a strategy puts into its words cannot write to anybody's terminal, nor fill the history."""
    loud = {**DIFFERENCE, "text": "\x1b[2J" + "x" * 5_000, "was": {**ASKED, "reason": "a\nb"}}
    (one,) = read_comparison(report(differences=[loud])).data["differences"]
    assert one["text"].isprintable()
    assert len(one["text"]) <= 300
    assert one["was"]["reason"] == "a b"


def runs(pid: str) -> bool:
    """Whether a process is more than a line in the table of processes."""
    try:
        return ") Z " not in Path("/proc", pid, "stat").read_text()
    except FileNotFoundError:
        return False


async def test_a_process_that_hangs_or_never_stops_talking_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """Its time and what it may write are bounded, and nothing of it runs on; what it said and how it ended are told."""
    pid = tmp_path / "pid"
    hangs = ["/bin/sh", "-c", f"sleep 3600 & echo $! > {pid}; wait"]
    environment = {"PATH": "/usr/bin:/bin"}
    with pytest.raises(RuntimeFailedError, match=r"it did not end within 0\.5 s"):
        await run_one_off(hangs, directory=tmp_path, environment=environment, limit_s=0.5)
    until("it is gone", lambda: not runs(pid.read_text().strip()), 10)
    python = [sys.executable, "-c"]
    done = await run_one_off(
        [*python, "while True: print('x' * 65536)"], directory=tmp_path, environment=environment, limit_s=60
    )
    assert (done.code != 0, len(done.out)) == (True, MAX_BYTES)
    done = await run_one_off(
        [*python, "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"],
        directory=tmp_path, environment=environment, limit_s=60,
    )  # fmt: skip
    assert done == OneOff(3, "1\n", "2\n")


async def test_it_gives_way_to_other_sessions_and_not_only_to_its_own(tmp_path: Path) -> None:
    """Where the kernel weighs sessions, its session is of the lowest weight: its nice value alone would count for nothing."""
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel has no autogroups: /proc/self/autogroup is missing")
    done = await run_one_off(
        ["/bin/sh", "-c", "cat /proc/$$/autogroup; nice"],
        directory=tmp_path,
        environment={"PATH": "/usr/bin:/bin"},
        limit_s=60,
    )
    assert [line.split()[-1] for line in done.out.splitlines()] == ["19", "19"]
