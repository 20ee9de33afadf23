"""Single decisions of the rollout: when it waits, when it asks again, when it gives up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bus import Handover, Instance, InstanceView, Request, Role, Step
from bus.errors import Reason
from deployer.deploys import fold
from deployer.errors import Code
from deployer.push.unchanged import Same
from deployer.rollout.decide import decide
from deployer.rollout.observed import (
    Asked,
    Build,
    KillUnit,
    Now,
    Observed,
    Policy,
    Record,
    RemoveRequest,
    StartUnit,
    StopUnit,
    WriteHandover,
    timers,
)
from deployer.rollout.observer import Since
from deployer.runtimes.api import Unit
from ledger import Epoch

BLUE, GREEN = "a" * 40, "b" * 40
NOW = Now(boot_ms=1_000_000, boot_id="boot", wall_ms=2_000_000)
POLICY = Policy()
THREE_INTERVALS_MS = 15_000


def unit(name: str, sha: str, deploy: str, **changes: Any) -> Unit:
    """A running unit."""
    return replace(Unit(name, sha, name, deploy, NOW.boot_ms - 60_000, running=True, stopping=False), **changes)


def instance(name: str, sha: str, deploy: str, role: Role = Role.STANDBY, **changes: Any) -> InstanceView:
    """The living instance of the unit of that name."""
    document = Instance(id=f"i-{name}", role=role, color=name, sha=sha, unit=name, deploy_id=deploy, healthy=True)
    return InstanceView(f"i-{name}", True, document.model_copy(update=changes), 1)


def steps(deploy: str, sha: str, *names: str, at: int = NOW.wall_ms, **data: Any) -> list[Step]:
    """Steps of a deploy."""
    return [
        Step(deploy=deploy, step=name, time_ms=at, sha=sha, data=data if name == "queued" else {}) for name in names
    ]


UP_TO_HEALTHY = ("queued", "building", "built", "started", "healthy")
FIRST = steps("1", BLUE, *UP_TO_HEALTHY, "taken", "confirmed")


def look(history: list[Step], **changes: Any) -> Observed:
    """Blue trades in epoch 1 with a spare; green is a healthy candidate."""
    seen = Observed(
        history=fold([*FIRST, *history]),
        target=GREEN,
        built=frozenset({BLUE, GREEN}),
        units=(unit("blue", BLUE, "1"), unit("spare", BLUE, "1"), unit("green", GREEN, "2")),
        instances=(
            instance("blue", BLUE, "1", Role.ACTIVE, epoch=1),
            instance("spare", BLUE, "1"),
            instance("green", GREEN, "2"),
        ),
        newest=Epoch(1, "i-blue", BLUE, "blue", "", 0, 0, "boot", released=False),
        handover=Handover(confirmed_sha=BLUE),
    )
    return replace(seen, **changes)


def with_blue(seen: Observed, **changes: Any) -> Observed:
    """The same with other words of the active instance."""
    return replace(seen, instances=(instance("blue", BLUE, "1", Role.ACTIVE, epoch=1, **changes), *seen.instances[1:]))


def recorded(seen: Observed, now: Now = NOW, policy: Policy = POLICY) -> list[str]:
    """The steps that a decision records."""
    return [action.step for action in decide(seen, now, policy) if isinstance(action, Record)]


def test_a_healthy_candidate_is_named_to_the_active_instance() -> None:
    """The request names it, is new, belongs to the deploy, and expires by the boot clock within 30 s."""
    record, write = decide(look(steps("2", GREEN, *UP_TO_HEALTHY)), NOW, POLICY)
    assert isinstance(record, Record)
    assert isinstance(write, WriteHandover)
    assert write.handover.wanted == "i-green"
    assert write.handover.request_id == record.request != ""
    assert write.handover.deploy_id == "2"
    assert (write.handover.expires_boot_id, write.handover.expires_boot_ms) == ("boot", NOW.boot_ms + 30_000)


def test_an_open_snipe_window_delays_no_handover() -> None:
    """Confirmations are passed on with the lease, so it comes with the candidate's first healthy poll."""
    assert recorded(with_blue(look(steps("2", GREEN, *UP_TO_HEALTHY)), in_snipe=True)) == ["handover"]


@pytest.mark.parametrize(
    ("now", "trader_waits", "green", "step"),
    [
        (True, True, {"healthy": False, "waits_for_venue": True}, ["handover"]),
        (False, True, {"healthy": False, "waits_for_venue": True}, []),
        (True, False, {"healthy": False, "waits_for_venue": True}, []),
        (True, True, {"healthy": False, "why_not": "no price of BTC yet"}, []),
    ],
)
def test_now_does_not_wait_for_a_venue_that_is_down(
    now: bool, trader_waits: bool, green: dict[str, Any], step: list[str]
) -> None:
    """With --now a candidate that lacks the venue's answers alone is handed the lease, where the trader lacks them as well."""
    for names, expected in ((UP_TO_HEALTHY, step), (UP_TO_HEALTHY[:-1], ["healthy"] if step else [])):
        seen = look(steps("2", GREEN, *names, cause="deploy", now=now))
        seen = replace(seen, target=None, instances=(*seen.instances[:2], instance("green", GREEN, "2", **green)))
        seen = with_blue(seen, healthy=not trader_waits, waits_for_venue=trader_waits)
        assert recorded(seen) == expected
        writes = [action for action in decide(seen, NOW, POLICY) if isinstance(action, WriteHandover)]
        assert all(write.handover.without_venue for write in writes)


@pytest.mark.parametrize(
    ("former_healthy", "since_ms", "step"),
    [(False, 0, []), (True, 0, []), (True, THREE_INTERVALS_MS - 1, []), (True, THREE_INTERVALS_MS, ["taking-back"])],
)
def test_a_silent_venue_is_no_reason_to_take_back(former_healthy: bool, since_ms: int, step: list[str]) -> None:
    """Polls that only the venue spoiled are held against a candidate when the former commit's standby has its answers, and has
    them for so long that the candidate could have had them as well: they do not come to both in the same moment."""
    seen = green_trades(healthy=False, waits_for_venue=True, active_unhealthy=9, why_not="the books could not be read")
    blue = instance("blue", BLUE, "1", healthy=former_healthy, waits_for_venue=not former_healthy)
    since = {f"healthy:{blue.id}": NOW.boot_ms - since_ms}
    assert recorded(replace(seen, instances=(blue, *seen.instances[1:]), since_ms=since)) == step


def test_a_request_in_force_is_awaited_and_an_expired_one_is_made_anew() -> None:
    """The same request is never written twice, and the next one has another id."""
    asked = Step(deploy="2", step="handover", time_ms=NOW.wall_ms, sha=GREEN, request="r1")
    handover = Handover(
        wanted="i-green", request_id="r1", confirmed_sha=BLUE, expires_boot_id="boot", expires_boot_ms=NOW.boot_ms + 1
    )
    seen = look([*steps("2", GREEN, *UP_TO_HEALTHY), asked], handover=handover)
    assert decide(seen, NOW, POLICY) == ()
    _, write = decide(seen, replace(NOW, boot_ms=NOW.boot_ms + 1), POLICY)
    assert isinstance(write, WriteHandover)
    assert write.handover.request_id not in ("", "r1")


def test_a_candidate_that_does_not_take_what_was_yielded_to_it_is_given_up() -> None:
    """Blue yielded twice and had to take the lease again: that costs ticks, so the deploy fails."""
    asked = [Step(deploy="2", step="handover", time_ms=0, sha=GREEN, request=f"r{n}") for n in (1, 2)]
    seen = look([*steps("2", GREEN, *UP_TO_HEALTHY), *asked], spent=frozenset({"r1", "r2"}))
    (failed,) = decide(seen, NOW, POLICY)
    assert isinstance(failed, Record)
    assert (failed.step, failed.text) == ("failed", "green did not take the lease that was yielded to it")


def test_a_candidate_that_waited_long_before_it_took_is_not_taken_for_one_that_hangs() -> None:
    """The time without a completed tick begins with its epoch: as a standby it completed none, for hours where it was held."""
    waiting = look(steps("2", GREEN, *UP_TO_HEALTHY, "handover"))
    took = replace(
        waiting,
        instances=(*waiting.instances[:2], instance("green", GREEN, "2", Role.ACTIVE, epoch=2)),
        newest=Epoch(2, "i-green", GREEN, "green", "", 0, 0, "boot", released=False),
    )
    since = Since()
    since.note(timers(waiting), NOW.boot_ms - 3_600_000)
    taken = look(steps("2", GREEN, *UP_TO_HEALTHY, "handover", "taken"), instances=took.instances, newest=took.newest)
    taken = replace(taken, since_ms=since.note(timers(taken), NOW.boot_ms))
    assert recorded(taken) == []


def green_trades(**document: Any) -> Observed:
    """Green was handed the lease and is not confirmed yet."""
    return look(
        steps("2", GREEN, *UP_TO_HEALTHY, "handover", "taken"),
        instances=(
            instance("blue", BLUE, "1"),
            instance("green", GREEN, "2", Role.ACTIVE, epoch=2, **document),
        ),
        newest=Epoch(2, "i-green", GREEN, "green", "", 0, 0, "boot", released=False),
    )


@pytest.mark.parametrize(("polls", "needed", "step"), [(2, 3, []), (3, 3, ["confirmed"]), (0, 0, ["confirmed"])])
def test_green_is_confirmed_after_its_healthy_polls(polls: int, needed: int, step: list[str]) -> None:
    """N healthy active polls confirm; with 0 the take alone does."""
    assert recorded(green_trades(active_healthy=polls), policy=Policy(confirm_polls=needed)) == step


def test_polls_of_an_earlier_epoch_confirm_nothing() -> None:
    """What an instance counted before it lost the lease once says nothing about now."""
    seen = green_trades(active_healthy=9)
    newest = seen.newest
    assert newest is not None
    assert recorded(replace(seen, newest=replace(newest, epoch=3))) == []


def test_a_lease_in_the_hands_of_a_failed_candidate_is_asked_back() -> None:
    """When a candidate takes the lease though its deploy failed, a confirmed standby is named, and it is not stopped."""
    seen = replace(green_trades(), history=fold([*FIRST, *steps("2", GREEN, *UP_TO_HEALTHY, "failed")]))
    actions = decide(seen, NOW, POLICY)
    (write,) = [action for action in actions if isinstance(action, WriteHandover)]
    assert write.handover.wanted == "i-blue"
    assert "i-green" not in write.handover.retired
    assert StopUnit("green") not in actions


def test_the_former_commit_is_retired_only_when_the_spare_is_ready() -> None:
    """After the confirmation blue stays until green's spare is healthy; then it is named as retired before it is stopped."""
    confirmed = fold([*FIRST, *steps("2", GREEN, *UP_TO_HEALTHY, "handover", "taken", "confirmed")])
    seen = replace(green_trades(), history=confirmed, units=(unit("blue", BLUE, "1"), unit("green", GREEN, "2")))
    actions = decide(seen, NOW, POLICY)
    assert any(isinstance(action, StartUnit) and action.what.sha == GREEN for action in actions)
    assert not any(isinstance(action, WriteHandover) and action.handover.retired for action in actions)
    spare = replace(
        seen,
        units=(*seen.units, unit("spare2", GREEN, "2")),
        instances=(*seen.instances, instance("spare2", GREEN, "2")),
    )
    (write,) = [action for action in decide(spare, NOW, POLICY) if isinstance(action, WriteHandover)]
    assert write.handover.retired == ("i-blue",)
    said = replace(
        spare,
        handover=write.handover,
        instances=(instance("blue", BLUE, "1", Role.RETIRED), *spare.instances[1:]),
    )
    assert decide(said, NOW, POLICY) == (StopUnit("blue"),)


def test_only_what_shows_no_sign_of_life_is_killed() -> None:
    """A standby or an active instance is killed at the limit and not before; a warming one may wait for the venue."""
    seen = look([], target=BLUE)
    assert decide(replace(seen, still_ms={"i-blue": 5_999}), NOW, POLICY) == decide(seen, NOW, POLICY)
    assert KillUnit("blue", Reason(Code.STUCK, "no sign of life for 6 s")) in decide(
        replace(seen, still_ms={"i-blue": 6_000}), NOW, POLICY
    )
    warming = replace(seen, instances=(instance("blue", BLUE, "1", Role.WARMING),), still_ms={"i-blue": 60_000})
    assert not any(isinstance(action, KillUnit) for action in decide(warming, NOW, POLICY))


def test_without_a_readable_ledger_nothing_is_done_but_killing_what_is_stuck() -> None:
    """Who trades is unknown then: no handover, no stop, no start; supervision goes on."""
    seen = look(steps("2", GREEN, *UP_TO_HEALTHY), blind=True)
    assert decide(seen, NOW, POLICY) == ()
    (kill,) = decide(replace(seen, still_ms={"i-blue": 6_000}), NOW, POLICY)
    assert isinstance(kill, KillUnit)


@pytest.mark.parametrize(("deaths", "wait_ms"), [(0, 0), (1, 1_000), (2, 2_000), (3, 5_000), (4, 10_000), (9, 30_000)])
def test_what_keeps_dying_unhealthy_is_started_later_and_later(deaths: int, wait_ms: int) -> None:
    """The back-off is counted from the newest start."""
    dead = [unit(f"dead{n}", BLUE, "1", running=False, started_ms=NOW.boot_ms) for n in range(deaths)]
    seen = look(
        [], target=BLUE, units=(unit("blue", BLUE, "1"), *dead), instances=(instance("blue", BLUE, "1", Role.ACTIVE),)
    )

    def starts(after_ms: int) -> bool:
        now = replace(NOW, boot_ms=NOW.boot_ms + after_ms)
        return any(isinstance(action, StartUnit) for action in decide(seen, now, POLICY))

    assert starts(wait_ms)
    assert wait_ms == 0 or not starts(wait_ms - 1)


def test_healthy_bots_that_are_killed_again_and_again_are_replaced_soon() -> None:
    """Twenty deaths of healthy bots within minutes wait a second each, though documents are left of the newest ten alone."""
    dead = [unit(f"dead{n}", BLUE, "1", running=False, started_ms=NOW.boot_ms + n) for n in range(20)]
    left = [replace(instance(one.name, BLUE, "1"), alive=False) for one in dead[10:]]
    trading = instance("blue", BLUE, "1", Role.ACTIVE)
    seen = look([], target=BLUE, units=(unit("blue", BLUE, "1"), *dead), instances=(trading, *left))
    later = replace(NOW, boot_ms=NOW.boot_ms + 19 + 1_000)
    assert any(isinstance(action, StartUnit) for action in decide(seen, later, POLICY))


def test_when_all_stand_still_one_more_is_started_before_they_are_killed() -> None:
    """Half the limit without a sign of life from anybody starts one bot, and not two; one that shows life starts none."""
    seen = look([], target=BLUE, units=(unit("blue", BLUE, "1"), unit("spare", BLUE, "1")))
    seen = replace(seen, instances=seen.instances[:2])

    def starts(found: Observed) -> int:
        return sum(isinstance(action, StartUnit) for action in decide(found, NOW, POLICY))

    half = POLICY.stuck_after_ms // 2
    assert starts(replace(seen, still_ms={"i-blue": half, "i-spare": half - 1})) == 0
    still = replace(seen, still_ms={"i-blue": half, "i-spare": half})
    assert starts(still) == 1
    fresh = replace(still, units=(*still.units, unit("fresh", BLUE, "1", started_ms=NOW.boot_ms)))
    assert starts(fresh) == 0
    # One that waits for the venue shows no sign of life, and is no reason for a third.
    waits = replace(instance("fresh", BLUE, "1", Role.WARMING), sequence=1)
    still_ms = {"i-blue": half, "i-spare": half, "i-fresh": 10 * half}
    assert starts(replace(fresh, instances=(*fresh.instances, waits), still_ms=still_ms)) == 0


def test_the_history_says_how_a_candidate_ended() -> None:
    """What the runtime knows of a death is part of the sentence that people read."""
    gone = unit("green", GREEN, "2", running=False, ended="out of memory, exit code 137")
    seen = look(steps("2", GREEN, *UP_TO_HEALTHY))
    (record,) = [a for a in decide(replace(seen, units=(*seen.units[:2], gone)), NOW, POLICY) if isinstance(a, Record)]
    assert record.text == "green died before the handover (out of memory, exit code 137)"


REFUSED = Reason(Code.START, "the container was refused")


def test_a_candidate_that_was_refused_fails_with_the_reason_of_its_start() -> None:
    """One that was seen for a moment and is gone: its start is awaited, and what that says is the verdict."""
    seen = look(steps("2", GREEN, "queued", "building", "built", "started"))
    gone = replace(seen, units=seen.units[:2], instances=seen.instances[:2])
    assert decide(replace(gone, busy=frozenset({"start"})), NOW, POLICY) == ()
    for failures, why in (
        ({}, Reason(Code.GONE, "its process is gone")),
        ({GREEN: REFUSED}, REFUSED),
    ):
        (failed,) = decide(replace(gone, failures=failures), NOW, POLICY)
        assert isinstance(failed, Record)
        assert (failed.step, failed.text, failed.data["code"]) == ("failed", why, why.code)


@pytest.mark.parametrize(
    ("action", "ref", "sha", "problem", "answer"),
    [
        ("deploy", "nope", None, "'nope' names no commit", "refused: 'nope' names no commit"),
        ("deploy", "main", BLUE, None, "aaaaaaa runs already"),
        ("rollback", "", None, None, "refused: there is no earlier confirmed commit to go back to"),
        ("approve", "", None, None, "nothing waits for an approval"),
        ("cancel", "", None, None, "nothing is being deployed"),
    ],
)
def test_what_cannot_be_done_is_answered(
    action: str, ref: str, sha: str | None, problem: str | None, answer: str
) -> None:
    """Every request gets one answer in words, and is removed after it was answered and not before."""
    request = Request.model_validate({"id": "q", "action": action, "ref": ref, "by": "me"})
    seen = look([], target=BLUE, requests=(Asked("q", request, sha, problem),))
    (said,) = decide(seen, NOW, POLICY)
    assert isinstance(said, Record)
    assert (said.step, said.text, said.request) == ("answered", answer, "q")
    assert (said.data.get("code") == Code.REFUSED) is (problem is not None or action == "rollback")
    step = Step(deploy="", step="answered", time_ms=0, request="q")
    assert decide(replace(seen, history=seen.history.with_step(step)), NOW, POLICY) == (RemoveRequest("q"),)


def test_a_rollback_in_the_middle_of_a_deploy_takes_it_back() -> None:
    """Before the handover it cancels the deploy; while green trades unconfirmed it takes the lease back."""
    request = Request(id="q", action="rollback", by="me")
    before = look(steps("2", GREEN, *UP_TO_HEALTHY), requests=(Asked("q", request),))
    assert recorded(before) == ["cancelled"]
    assert recorded(replace(green_trades(), requests=(Asked("q", request),))) == ["taking-back"]


@pytest.mark.parametrize(
    ("blue", "green", "taken_back"),
    [
        ((40, 0), (3, 3), True),
        ((40, 0), (2, 2), False),
        ((40, 0), (5, 2), False),
        ((40, 0), (30, 10), True),
        ((40, 20), (10, 8), False),
        ((40, 20), (12, 12), True),
        ((0, 0), (5, 5), False),
        ((0, 0), (12, 12), True),
        ((40, 40), (50, 50), False),
        ((40, 0), (0, 0), False),
        ((40, 0), (100_000, 99_000), True),
    ],
)
def test_refusals_beyond_chance_take_the_lease_back(
    blue: tuple[int, int], green: tuple[int, int], taken_back: bool
) -> None:
    """What the former commit's met is ordinary, few tell nothing; more than chance gives makes it yield, however healthy."""

    def orders(tally: tuple[int, int]) -> dict[str, Any]:
        return {"orders_sent": tally[0], "orders_refused": tally[1]}

    seen = look(
        steps("2", GREEN, *UP_TO_HEALTHY, "handover", "taken"),
        instances=(
            instance("blue", BLUE, "1", **orders(blue)),
            instance("spare", BLUE, "1"),
            instance("green", GREEN, "2", Role.ACTIVE, epoch=2, active_healthy=3, **orders(green)),
        ),
        newest=Epoch(2, "i-green", GREEN, "green", "", 0, 0, "boot", released=False),
    )
    assert recorded(seen) == ["taking-back" if taken_back else "confirmed"]
    alone = replace(seen, instances=seen.instances[2:])
    assert recorded(alone) == ["confirmed"], "nobody is left to compare with"


def test_a_pause_of_deploys_ends_by_itself_and_keeps_its_reason() -> None:
    """The newest commit waits until the time, whichever deployer looks then; the history says when and why it waited."""
    until_ms = NOW.wall_ms + 1_800_000
    seen = replace(look([]), units=look([]).units[:2], instances=look([]).instances[:2])
    wanted = Request(id="1", action="pause", by="ann", until_ms=until_ms, why="CPI at 14:30")
    (record,) = decide(replace(seen, requests=(Asked("1", wanted),)), NOW, POLICY)
    assert isinstance(record, Record)
    step = Step(deploy="", step="paused", time_ms=NOW.wall_ms, by="ann", text=record.text, data=dict(record.data))
    waits = replace(seen, history=seen.history.with_step(Step.model_validate_json(step.model_dump_json())))
    assert waits.history.paused == "paused by ann until 1970-01-01 01:03:20 UTC: CPI at 14:30"
    assert record.text.endswith("until 1970-01-01 01:03:20 UTC: CPI at 14:30")
    assert recorded(waits, replace(NOW, wall_ms=until_ms - 1)) == []
    assert recorded(waits, replace(NOW, wall_ms=until_ms)) == ["resumed"]
    after = replace(waits, history=waits.history.with_step(Step(deploy="", step="resumed", time_ms=until_ms)))
    assert (after.history.paused, after.history.paused_until_ms) == (None, None)
    assert recorded(after, replace(NOW, wall_ms=until_ms)) == ["queued"]
    plain = Request(id="2", action="pause", by="bob")
    said = decide(replace(waits, requests=(Asked("2", plain),)), NOW, POLICY)
    assert [action.step for action in said if isinstance(action, Record)] == ["paused"], (
        "a plain one takes the end away"
    )


@pytest.mark.parametrize("cause", ["branch", "deploy", "rollback"])
@pytest.mark.parametrize("confirmed", [True, False])
def test_only_a_commit_of_the_branch_ends_as_unchanged_and_confirms_nothing(cause: str, confirmed: bool) -> None:
    """It is compared with the confirmed commit, and builds nothing where that is the same. What a person names is built; so is
    what was compared with another commit. Nothing is left out where nothing was ever confirmed."""
    seen = look(steps("2", GREEN, "queued", "building", cause=cause), built=frozenset({BLUE}))
    seen = replace(seen, units=seen.units[:2], instances=seen.instances[:2])
    if not confirmed:
        seen = replace(seen, history=fold(steps("2", GREEN, "queued", "building", cause=cause)), handover=Handover())
    base = BLUE if cause == "branch" and confirmed else ""
    assert Build(GREEN, base) in decide(seen, NOW, POLICY)
    assert Build(GREEN, base) in decide(replace(seen, same={GREEN: Same("c" * 40)}), NOW, POLICY)
    found = decide(replace(seen, same={GREEN: Same(BLUE, ("README.md",))}), NOW, POLICY)
    if not base:
        assert Build(GREEN) in found
        return
    (record,) = found
    assert isinstance(record, Record)
    assert (record.step, record.data["unchanged"], record.data["paths"]) == ("cancelled", True, ("README.md",))
    step = Step(deploy="2", step=record.step, time_ms=NOW.wall_ms, sha=GREEN, text=record.text, data=dict(record.data))
    after = seen.history.with_step(step)
    assert (after.deploys[-1].verdict, after.open) == ("unchanged", None)
    assert after.confirmed == seen.history.confirmed
    assert recorded(replace(seen, history=after)) == [], "and it is not queued again"
