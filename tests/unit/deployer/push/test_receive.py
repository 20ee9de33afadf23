"""What a pusher is told, from history and branch alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bus import Logging, Step, SystemClock
from deployer.deploys import History, fold
from deployer.push.log import KEEP_LOGS, MAX_OPEN, PushLog
from deployer.push.receive import Push, Situation, parse_push, tell

OLD, NEW, NEWER = "a" * 40, "b" * 40, "c" * 40
PUSH = Push("1700000000-1-1", OLD, NEW, "refs/heads/main", "ann")


def step(name: str, sha: str = NEW, **more: Any) -> Step:
    """A step of the deploy of a commit."""
    return Step.model_validate({"deploy": f"1-{sha[:7]}", "step": name, "time_ms": 1, "sha": sha, "ms": 1500, **more})


def situation(history: History, **changes: Any) -> Situation:
    """The branch has the pushed commit; the old one runs."""
    return replace(Situation(history, "main", NEW, OLD), **changes)


QUEUED = step("queued", by="branch main", data={"cause": "branch"})


def test_a_verdict_ends_a_push_and_names_what_trades() -> None:
    """Confirmed, failed, cancelled and unchanged each end in one line that says so; a failure shows its last lines above it."""
    for name, said in (
        ("confirmed", f"CONFIRMED in 1.5 s: {NEW[:7]} trades; 2 polls missed"),
        ("failed", f"FAILED in 1.5 s: why; {OLD[:7]} trades on"),
        ("cancelled", "CANCELLED in 1.5 s: why"),
    ):
        told = tell(
            PUSH, situation(fold([QUEUED, step(name, text="why", data={"missed": 2, "output": ["last\x1b[2J"]})]))
        )
        assert (told.lines[-1], told.ended) == (said, True)
        assert told.lines[-2] == "           | last [2J"
    assert not tell(PUSH, situation(fold([QUEUED, step("built")]))).ended
    aside = step("cancelled", text="it changes nothing that runs", data={"unchanged": True})
    told = tell(PUSH, situation(fold([QUEUED, aside])))
    assert (told.lines[-1], told.ended) == ("UNCHANGED in 1.5 s: it changes nothing that runs", True)
    assert "cancelled" not in " ".join(told.lines)


def test_a_push_that_was_never_begun_says_why_once_the_branch_was_read_again() -> None:
    """Superseded, running already, paused: only when what is newest was read after the push; another branch: at once."""
    settled = replace(PUSH, settled=True)
    for changes, said in (
        ({"tip": NEWER}, f"SUPERSEDED: {NEWER[:7]} is newer"),
        ({"confirmed_sha": NEW}, "runs already"),
        ({"history": fold([step("paused", by="ann", deploy="")])}, "automatic deploys are paused by ann"),
    ):
        at = replace(situation(History()), **changes)
        assert tell(PUSH, at).lines == ()
        assert said in tell(settled, at).lines[-1]
        assert tell(settled, at).ended
    other = tell(replace(PUSH, ref="refs/heads/try"), situation(History()))
    assert other.ended
    assert other.lines == ("try is not deployed: the deployer watches main",)


def test_an_older_push_follows_its_own_deploy_after_a_newer_one_was_queued() -> None:
    """The history remembers which deploy a push belongs to; a push during a handover says what it waits for."""
    mine = [QUEUED, step("answered", request=PUSH.id, by="ann", data={"push": True}), step("handover"), step("taken")]
    newer = replace(PUSH, id="1700000001-1-1", old=NEW, new=NEWER)
    at = situation(fold(mine), tip=NEWER)
    assert f"waiting for the verdict on {NEW[:7]}" in tell(newer, at).lines[-1]
    then = [*mine, step("confirmed"), step("queued", NEWER, data={"cause": "branch"})]
    assert tell(PUSH, situation(fold(then), tip=NEWER)).lines[-1].startswith("CONFIRMED")
    assert fold(then).deploys[0].by == "ann"


def test_only_what_the_hook_writes_is_a_push(tmp_path: Path) -> None:
    """Whatever else is in the folder is left alone or answered; nothing of it reaches a terminal or grows without bound."""
    assert parse_push("1", f"{OLD} {NEW} refs/heads/main ann\x1b[2J from 10.0.0.1\n") == Push(
        "1", OLD, NEW, "refs/heads/main", "ann [2J from 10.0.0.1"
    )
    assert parse_push("1", "rubbish") is None
    assert parse_push("1", f"{OLD} {NEW} --upload-pack=x") is None
    pushes = tmp_path / "never-sleeps" / "pushes"
    pushes.mkdir(parents=True)
    logging = Logging(1)
    log = PushLog(tmp_path, SystemClock(), logging.log)
    (pushes / "1700000000-1-1").write_text("rubbish")
    (pushes / "else").write_text("left alone")
    assert log.read(0) == ()
    assert "could not be understood" in (pushes / "1700000000-1-1.log").read_text()
    for number in range(MAX_OPEN + 50):
        (pushes / f"1700000{number:03}-1-1").write_text(f"{OLD} {NEW} refs/heads/main ann")
    assert len(log.read(0)) == MAX_OPEN
    log.tell(log.read(2), situation(History(), tip=NEWER))
    assert log.read(3) == ()
    assert len(list(pushes.glob("*.log"))) == KEEP_LOGS
    assert (pushes / "else").exists()
    logging.close()


def test_a_deployer_that_starts_again_repeats_nothing(tmp_path: Path) -> None:
    """What a push's log says already is not said again; its verdict is the last line."""
    pushes = tmp_path / "never-sleeps" / "pushes"
    pushes.mkdir(parents=True)
    (pushes / PUSH.id).write_text(f"{OLD} {NEW} refs/heads/main ann")
    logging = Logging(1)
    steps = [QUEUED, step("building"), step("built")]
    for history in (steps[:2], steps, [*steps, step("confirmed")]):
        log = PushLog(tmp_path, SystemClock(), logging.log)
        log.beat()
        log.tell(log.read(0), situation(fold(history)))
    lines = (pushes / f"{PUSH.id}.log").read_text().splitlines()
    assert [line[0] for line in lines] == ["-"] * 4 + ["="]
    assert sum("built" in line for line in lines) == 1
    assert not (pushes / PUSH.id).exists()
    assert (tmp_path / "never-sleeps" / "alive").exists()
    logging.close()
