"""The rollout: what to do next about deploys, decided from what can be seen. Pure, and without memory.

    queued ─► building ─► built ─► started ─► healthy (─► held ─► approved) ─► handover ─► taken ─► confirmed ─► retired
       └─────────┴──────────┴─────────┴─► cancelled         │           └─► taking-back ─► taken-back ─► failed
                 └──────────┴─────────┴─► failed ◄──────────┘

Every step is in the history before anything builds on it, one step a decision. So a deployer that is killed between any two
actions is carried on by the next one: it sees the same and decides the same. What is asked for is in `asking`, units and the
lease are in `fleet`, what the new version would have decided is in `comparing`.
"""

from __future__ import annotations

from bus import Instance, InstanceView
from bus.errors import Reason
from bus.history import UNCHANGED
from deployer.deploys import Deploy
from deployer.errors import Code
from deployer.rollout.decision_gate import Tally, compare, hold, why_refused_more
from deployer.rollout.deploy_requests import answer, cancel, end_pause, notice_branch, notice_pushes
from deployer.rollout.fleet import candidate_of, doomed, fleet, supervise, surplus
from deployer.rollout.interruption import Interruption, interrupted
from deployer.rollout.observed import (
    Actions,
    Build,
    KillUnit,
    Now,
    Observed,
    Policy,
    RemoveUnit,
    StartUnit,
    WriteHandover,
    step_of,
)
from deployer.rollout.standstill import note_standstill
from deployer.runtimes.api import Start, Unit

REQUEST_LIFE_MS = 30_000
MAX_REQUESTS = 30
MAX_PATHS = 20
MAX_SPENT_REQUESTS = 2
# So many requests expire unused, and two polls' time more, before whoever holds the lease is killed.
MAX_EXPIRED_REQUESTS = 2
DYING_MS = 2_000
# How a candidate ends that is told to, as a machine that shuts down tells everything: SIGTERM, then SIGKILL.
TOLD_TO_END = frozenset(
    [f"killed by {name}" for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGKILL")]
    + [f"exit code {code}" for code in (0, 129, 130, 137, 143)]
)
EVERYTHING_ENDS_MS = 2_000
HANG_TICKS = 3
HANG_MS = 6_000


def decide(observed: Observed, now: Now, policy: Policy) -> Actions:
    """What to do now, in this order; nothing when there is nothing to do but wait."""
    kills = supervise(observed, now, policy)
    standstill = note_standstill(observed, now)
    if observed.blind:
        return kills + standstill
    return (
        kills
        + standstill
        + (
            answer(observed, now)
            or end_pause(observed, now)
            or notice_pushes(observed)
            or notice_branch(observed, now)
            or compare(observed)
            or _advance(observed, now, policy)
            or fleet(observed, now, policy)
        )
    )


# --- the open deploy


def _advance(observed: Observed, now: Now, policy: Policy) -> Actions:
    """The next step of the open deploy, if it can be made."""
    deploy = observed.history.open
    if deploy is None:
        return ()
    before = observed.history.failed_before(deploy)
    if before is not None and deploy.cause == "branch" and deploy.phase == "queued":
        text = f"it failed before ({before}); try it again with `./ns deploy {deploy.sha[:7]}`"
        return cancel(deploy, Reason(Code.FAILED_BEFORE, text))
    unit = candidate_of(observed, deploy)
    if unit is None:
        if not deploy.has("started"):
            return _prepare(deploy, observed, policy)
        if "start" in observed.busy:
            return ()  # a container that the Engine refuses is there for a moment: the start tells why
        why = _why_back(deploy) or Reason(Code.GONE, "its process is gone")
        return _fail(deploy, observed.failures.get(deploy.sha, why), observed)
    if unit.stopping and not deploy.has("taking-back"):  # nobody but `down` tells a candidate to end
        return () if unit.running else _carry_on(interrupted(deploy, (unit.name,)))
    instance = observed.instance_of(unit)
    if not deploy.has("started"):
        return (
            step_of(
                deploy, "started", f"{unit.color} runs as {unit.name}", data={"color": unit.color, "unit": unit.name}
            ),
        )
    if not unit.running:
        return _died(deploy, unit, observed, now)
    if deploy.has("taking-back"):
        return _take_back(deploy, unit, instance, observed, now)
    if instance is not None and observed.holder is not None and observed.holder.id == instance.id:
        return _prove(deploy, unit, instance, observed, now, policy)
    if deploy.has("taken"):
        if instance is None and observed.waited_ms(f"silent:{unit.name}", now) < DYING_MS:
            return ()  # its lock is free before its container counts as ended, which tells what happened
        return _step_back(deploy, Reason(Code.GAVE_BACK, f"{unit.color} gave the lease back"), observed)
    if not deploy.has("healthy"):
        return _warm_up(deploy, unit, instance, observed, now, policy)
    return _hand_over(deploy, unit, instance, observed, now, policy)


def _prepare(deploy: Deploy, observed: Observed, policy: Policy) -> Actions:
    """Build it, then start it; a commit of the branch that changes nothing that runs ends here."""
    sha = deploy.sha
    if sha in observed.failures:
        return _fail(deploy, observed.failures[sha], observed)
    base = (observed.confirmed_sha or "") if deploy.cause == "branch" else ""
    same = observed.same.get(sha)
    if same is not None and same.base == base:
        return (step_of(deploy, "cancelled", same.text(sha), data={UNCHANGED: True, "paths": same.aside[:MAX_PATHS]}),)
    if sha not in observed.built:
        if f"build:{sha}" in observed.busy:
            return ()
        began = () if deploy.has("building") else (step_of(deploy, "building", ""),)
        return (*began, Build(sha, base))
    if not deploy.has("built"):
        return (step_of(deploy, "built", ""),)
    # Never two candidates, and never more of the former commits than the spares are worth.
    if "start" in observed.busy or any(not observed.may_hold_unit(unit) for unit in doomed(observed)):
        return ()
    if len(surplus(observed, policy)) > 1 + policy.spares:
        return ()
    return (StartUnit(Start(sha, _other_color(observed), deploy.id)),)


def _warm_up(
    deploy: Deploy, unit: Unit, instance: InstanceView | None, observed: Observed, now: Now, policy: Policy
) -> Actions:
    """Wait for the first healthy poll; with --now, where the venue is down, for one that lacks only the venue's answers."""
    if instance is not None and observed.is_ready(instance):
        return (step_of(deploy, "healthy", "first healthy poll", instance=instance.id),)
    if instance is not None and deploy.is_now and observed.is_ready_without_venue(instance):
        return (step_of(deploy, "healthy", "ready but for the venue, which answers nobody", instance=instance.id),)
    if observed.waited_ms(f"unit:{unit.name}", now) < policy.healthy_timeout_ms:
        return ()
    why = instance.document.why_not if instance is not None and instance.document is not None else None
    text = f"never healthy within {policy.healthy_timeout_ms / 1000:g} s: {why or 'it wrote no instance document'}"
    return _fail(deploy, Reason(Code.NOT_HEALTHY, text), observed, unit)


def _hand_over(
    deploy: Deploy, unit: Unit, instance: InstanceView | None, observed: Observed, now: Now, policy: Policy
) -> Actions:
    """Ask the active instance to yield to the candidate, and again when a request expired unused; kill one that never yields."""
    if instance is None or instance.document is None:
        return ()  # it died or starts again: its unit tells
    waits = hold(deploy, observed, policy)
    if waits is not None:
        return waits
    if observed.waited_ms(f"unhealthy:{instance.id}", now) >= policy.healthy_timeout_ms:
        why = Reason(Code.NOT_HEALTHY, f"no longer healthy: {instance.document.why_not}")
        return _fail(deploy, why, observed, unit)
    holder = observed.holder
    without_venue = deploy.is_now and observed.is_ready_without_venue(instance)
    if holder is None or not (observed.is_ready(instance) or without_venue):
        return ()  # a free lease is for every healthy standby; the candidate may be the one
    asked = deploy.handovers
    is_asked = observed.in_force(now) and observed.handover.wanted == instance.id
    kills = _kill_stubborn(deploy, holder, instance, observed, now)
    if is_asked:
        return kills
    if sum(request in observed.spent for request in asked) >= MAX_SPENT_REQUESTS:
        why = Reason(Code.NOT_TAKEN, f"{unit.color} did not take the lease that was yielded to it")
        return _fail(deploy, why, observed, unit)
    if len(asked) >= MAX_REQUESTS:
        why = Reason(Code.NOT_YIELDED, f"the active instance did not yield in answer to {len(asked)} requests")
        return _fail(deploy, why, observed, unit)
    request = f"{deploy.id}/{len(asked) + 1}/{now.boot_ms}"
    text = f"asked {_color(holder)} to yield after its poll"
    if kills:
        text = f"{_color(holder)} did not yield in answer to {len(asked)} requests: it is killed"
    return (
        step_of(deploy, "handover", text, request=request, instance=instance.id),
        WriteHandover(
            observed.handover.changed(
                wanted=instance.id,
                request_id=request,
                deploy_id=deploy.id,
                expires_boot_id=now.boot_id,
                expires_boot_ms=now.boot_ms + REQUEST_LIFE_MS,
                without_venue=without_venue,
            )
        ),
        # Under a request in force: the holder's own spare lets the candidate go first.
        *kills,
    )


def _kill_stubborn(
    deploy: Deploy, holder: InstanceView, instance: InstanceView, observed: Observed, now: Now
) -> Actions:
    """Kill the holder's unit where requests expired unused although the candidate was ready all the time: it never yields."""
    in_force = observed.handover.request_id if observed.in_force(now) else ""
    expired = sum(request not in observed.spent and request != in_force for request in deploy.handovers)
    limit = MAX_EXPIRED_REQUESTS + 2 * observed.interval_ms // REQUEST_LIFE_MS
    state = "healthy" if observed.is_ready(instance) else "unhealthy"  # which is ready, too, where the venue is down
    ready_ms = observed.waited_ms(f"{state}:{instance.id}", now)
    document = holder.document
    if expired < limit or ready_ms < MAX_EXPIRED_REQUESTS * REQUEST_LIFE_MS or document is None:
        return ()
    if not any(unit.name == document.unit and unit.running for unit in observed.units):
        return ()
    return (KillUnit(document.unit, Reason(Code.NOT_YIELDED, f"it did not yield in answer to {expired} requests")),)


def _prove(deploy: Deploy, unit: Unit, instance: InstanceView, observed: Observed, now: Now, policy: Policy) -> Actions:
    """The candidate trades: confirm it, or take the lease back."""
    newest, document = observed.newest, instance.document
    assert newest is not None, "a holder has an epoch"
    assert document is not None, "instance_of only finds instances with a document"
    if not deploy.has("taken"):
        data = {"epoch": newest.epoch}
        return (
            step_of(deploy, "taken", f"{unit.color} trades in epoch {newest.epoch}", instance=instance.id, data=data),
        )
    good = document.active_healthy if document.epoch == newest.epoch else 0
    bad = document.active_unhealthy if document.epoch == newest.epoch else 0
    if (
        document.epoch == newest.epoch
        and (refused := why_refused_more(_tally(document), _former(observed))) is not None
    ):
        return (step_of(deploy, "taking-back", refused),)
    if good >= policy.confirm_polls:
        text = f"{policy.confirm_polls} healthy polls; {_missed(observed)}"
        return (step_of(deploy, "confirmed", text, instance=instance.id, data={"missed": observed.missed}),)
    limit_ms = max(HANG_TICKS * observed.interval_ms, HANG_MS)
    hangs = observed.waited_ms(observed.tick_key(instance), now) >= limit_ms
    stands = Reason(Code.HANGS, f"no poll was completed for {limit_ms / 1000:g} s")
    if observed.confirmed_sha is None:  # nothing to go back to
        return (KillUnit(unit.name, stands),) if hangs else ()
    # A venue that answers again is heard by one before the other: the candidate gets as long as a poll may hang for it.
    venues_fault = document.waits_for_venue and not _former_is_ready(observed, now, limit_ms)
    if bad >= max(1, policy.confirm_polls) and not venues_fault:
        why = Reason(Code.NOT_HEALTHY, f"{bad} unhealthy polls in a row: {document.why_not}")
        return (step_of(deploy, "taking-back", why),)
    if hangs:
        return (step_of(deploy, "taking-back", stands, data={"hangs": True}),)
    return ()


def _take_back(deploy: Deploy, unit: Unit, instance: InstanceView | None, observed: Observed, now: Now) -> Actions:
    """`fleet` names an instance of the confirmed commit; one that cannot yield is killed once that one is ready."""
    step, why = deploy.first("taking-back"), _why_back(deploy)
    assert step is not None, "only called in that phase"
    assert why is not None, "of the same step"
    if instance is None or not observed.may_hold(instance):
        return _step_back(deploy, why, observed)
    waited_ms = now.wall_ms - step.time_ms
    if _former_is_ready(observed, now) and (step.data.get("hangs") or not 0 <= waited_ms < REQUEST_LIFE_MS):
        return (KillUnit(unit.name, Reason(Code.NOT_YIELDED, f"{unit.color} does not yield")),)
    return ()


def _why_back(deploy: Deploy) -> Reason | None:
    """Why it is taken back; None where it is not."""
    step = deploy.first("taking-back")
    return None if step is None else Reason(str(step.data.get("code", "")), step.text)


def _step_back(deploy: Deploy, reason: Reason, observed: Observed, unit: Unit | None = None) -> Actions:
    """The candidate lost the lease: note who has it now, then end the deploy."""
    if deploy.has("taken-back"):
        return _fail(deploy, reason.within(after=f"; {_missed(observed)}"), observed, unit)
    holder = observed.holder
    if holder is None:
        # With nothing to go back to there is nobody to wait for.
        return () if observed.confirmed_sha is not None else _fail(deploy, reason, observed, unit)
    epoch = observed.newest.epoch if observed.newest else 0
    text = f"{_color(holder)} trades again in epoch {epoch}"
    return (step_of(deploy, "taken-back", text, instance=holder.id, data={"epoch": epoch}),)


def _died(deploy: Deploy, unit: Unit, observed: Observed, now: Now) -> Actions:
    if unit.ended in TOLD_TO_END and observed.waited_ms(f"ended:{unit.name}", now) < EVERYTHING_ENDS_MS:
        return ()  # where all are told to end, this deployer is, too, and the next one sees that (rollout.interruption)
    how = f" ({unit.ended})" if unit.ended else ""
    if deploy.has("taken"):
        died = Reason(Code.DIED, f"{unit.color} died while it was active{how}")
        return _step_back(deploy, _why_back(deploy) or died, observed, unit)
    when = "before its first healthy poll"
    if deploy.has("healthy"):
        when = "when it was to take the lease" if deploy.has("handover") else "before the handover"
    return _fail(deploy, Reason(Code.DIED, f"{unit.color} died {when}{how}"), observed, unit)


# --- helpers


def _carry_on(interrupted: Interruption) -> Actions:
    """Its unit first: should the deployer die in between, the next one sees no candidate, and the same."""
    return (
        *(RemoveUnit(name) for name in interrupted.gone),
        step_of(interrupted.deploy, interrupted.step, interrupted.text),
    )


def _fail(deploy: Deploy, why: Reason, observed: Observed, unit: Unit | None = None) -> Actions:
    words_of = unit.name if unit is not None else ""
    return (step_of(deploy, "failed", why, words_of=words_of, data={"missed": observed.missed}),)


def _other_color(observed: Observed) -> str:
    """The color that the active instance does not have; blue when nobody is there."""
    holder = observed.holder
    present = (
        _color(holder)
        if holder is not None
        else next((u.color for u in reversed(observed.units) if u.running), "green")
    )
    return "green" if present == "blue" else "blue"


def _color(observed: InstanceView) -> str:
    return observed.document.color if observed.document is not None else "the other"


def _former_is_ready(observed: Observed, now: Now, since_ms: int = 0) -> bool:
    """Whether an instance of the confirmed commit could take the lease now, and was healthy for so long."""
    return any(
        observed.is_ready(s)
        and s.document
        and s.document.sha == observed.confirmed_sha
        and observed.waited_ms(f"healthy:{s.id}", now) >= since_ms
        for s in observed.instances
    )


def _tally(document: Instance) -> Tally:
    return Tally(document.orders_sent, document.orders_refused)


def _former(observed: Observed) -> Tally | None:
    """The orders of the living instance of the confirmed commit that sent most; None where none is left, or ever was."""
    documents = [
        s.document for s in observed.instances if s.alive and s.document and s.document.sha == observed.confirmed_sha
    ]
    return max(map(_tally, documents), key=lambda tally: tally.sent, default=None)


def _missed(observed: Observed) -> str:
    return f"{observed.missed} polls missed"
