"""The fleet: which units run, which instance should hold the lease, who is retired, who is stuck. Pure.

Wanted at any time: one active instance of the confirmed commit and its spares; besides, the candidate of the open deploy, and
the former commit's instances until a spare of the new one is ready. Whoever may hold the lease is never retired or stopped.
"""

from __future__ import annotations

from bus import Handover, InstanceView, Role
from bus.errors import Reason
from deployer.deploys import Deploy
from deployer.errors import Code
from deployer.rollout.observed import (
    Action,
    Actions,
    Build,
    Forget,
    KillUnit,
    Now,
    Observed,
    Policy,
    Record,
    RemoveUnit,
    StartUnit,
    StopUnit,
    WriteHandover,
)
from deployer.runtimes.api import Start, Unit

BACKOFF_MS = (0, 1_000, 2_000, 5_000, 10_000, 30_000)
RECENT_MS = 300_000
RETIRE_LIMIT_MS = 10_000
STOP_LIMIT_MS = 15_000
REQUEST_LIFE_MS = 30_000
KEEP_DEAD = 10  # instances; more than the deaths that a back-off looks at


def fleet(observed: Observed, now: Now, policy: Policy) -> Actions:
    """Keep the fleet as it is wanted."""
    handover, stops = _retire(observed, now, policy)
    handover = _restore_lease(handover, observed, now)
    written: Actions = () if handover == observed.handover else (WriteHandover(handover),)
    return written + stops + _replace(observed, now, policy) + _tidy(observed, now) + _note_retired(observed, policy)


def supervise(observed: Observed, now: Now, policy: Policy) -> Actions:
    """Kill what shows no sign of life: then the kernel frees its lease, and somebody else may take it."""
    kills = []
    for unit in observed.units:
        reason = _why_stuck(unit, observed, now, policy) if unit.running else None
        if reason is not None:
            kills.append(KillUnit(unit.name, reason))
    return tuple(kills)


def _why_stuck(unit: Unit, observed: Observed, now: Now, policy: Policy) -> Reason | None:
    if observed.waited_ms(f"stop:{unit.name}", now) >= STOP_LIMIT_MS:
        return Reason(Code.STUCK, f"it did not end within {STOP_LIMIT_MS / 1000:g} s of being asked")
    instance = observed.instance_of(unit)
    if instance is None or instance.document is None:
        silent_ms = observed.waited_ms(f"silent:{unit.name}", now)
        is_candidate = (deploy := observed.history.open) is not None and deploy.id == unit.deploy_id
        if silent_ms >= policy.healthy_timeout_ms and not is_candidate:
            return Reason(Code.STUCK, f"it wrote no instance document for {silent_ms / 1000:g} s")
        return None
    still_ms = observed.still_ms.get(instance.id, 0)
    # A warming instance may wait for the venue without a sign of life.
    limit_ms = policy.healthy_timeout_ms if instance.document.role is Role.WARMING else policy.stuck_after_ms
    return Reason(Code.STUCK, f"no sign of life for {still_ms / 1000:g} s") if still_ms >= limit_ms else None


# --- who is what


def candidate_of(observed: Observed, deploy: Deploy) -> Unit | None:
    """The unit of a deploy that is not confirmed yet; an ended one until it was removed."""
    units = sorted((unit for unit in observed.units if unit.deploy_id == deploy.id), key=lambda unit: unit.running)
    return units[-1] if units else None


def doomed(observed: Observed) -> list[Unit]:
    """Running units of deploys that failed or were cancelled, those that are being stopped included."""
    ended = {deploy.id for deploy in observed.history.deploys if deploy.verdict not in (None, "confirmed")}
    return [unit for unit in observed.units if unit.running and unit.deploy_id in ended]


def surplus(observed: Observed, policy: Policy) -> list[Unit]:
    """Units that nobody needs in the long run, oldest first: the former commit's, and spares too many."""
    if observed.confirmed_sha is None:
        return []
    names = {unit.name for unit in [*_kept(observed, policy), *doomed(observed)]}
    deploy = observed.history.open
    return [
        unit
        for unit in observed.units
        if unit.running
        and not unit.stopping
        and unit.name not in names
        and (deploy is None or unit.deploy_id != deploy.id)
    ]


def _kept(observed: Observed, policy: Policy) -> list[Unit]:
    """The units of the confirmed commit that shall stay: the holder first, then the ready ones, then the oldest."""

    def order(unit: Unit) -> tuple[bool, bool]:
        instance = observed.instance_of(unit)
        return instance is None or not observed.may_hold(instance), not observed.is_ready(instance)

    def stays(unit: Unit) -> bool:
        instance = observed.instance_of(unit)
        return instance is None or instance.id not in observed.handover.retired

    # The candidate of an open deploy is of another commit: what runs already is never deployed again.
    own = [unit for unit in observed.units if unit.running and not unit.stopping and unit.sha == observed.confirmed_sha]
    return sorted(filter(stays, own), key=order)[: 1 + policy.spares]


def _has_spare(observed: Observed, policy: Policy) -> bool:
    """Whether the confirmed commit trades and, where spares are wanted, one of it is ready beside."""
    holder = observed.holder
    if holder is None or holder.document is None or holder.document.sha != observed.confirmed_sha:
        return False
    return policy.spares == 0 or any(
        observed.is_ready(s) and s.id != holder.id and s.document and s.document.sha == observed.confirmed_sha
        for s in observed.instances
    )


# --- retiring


def _retire(observed: Observed, now: Now, policy: Policy) -> tuple[Handover, Actions]:
    """Who is named as retired from now on, and which units are stopped because they said that they are."""
    former = surplus(observed, policy)
    at_once = max(0, len(former) - 1 - policy.spares)
    leaving = former if _has_spare(observed, policy) else former[:at_once]
    retired = {s.id for s in observed.instances if s.alive and s.id in observed.handover.retired}
    stops: list[Action] = []
    for unit in [unit for unit in doomed(observed) if not unit.stopping] + leaving:
        instance = observed.instance_of(unit)
        if instance is None:
            stops.append(StopUnit(unit.name))
        elif not observed.may_hold(instance):
            retired.add(instance.id)
            if instance.id in observed.handover.retired and _may_stop(instance, observed, now):
                stops.append(StopUnit(unit.name))
    if retired == set(observed.handover.retired):
        return observed.handover, tuple(stops)
    return observed.handover.changed(retired=tuple(sorted(retired))), tuple(stops)


def _may_stop(instance: InstanceView, observed: Observed, now: Now) -> bool:
    """Whether a retired instance said so, cannot take the lease anyway, or had time enough."""
    document = instance.document
    if document is None or not document.healthy or document.role in (Role.RETIRED, Role.STOPPED):
        return True
    return observed.waited_ms(f"retire:{instance.id}", now) >= RETIRE_LIMIT_MS


def _note_retired(observed: Observed, policy: Policy) -> Actions:
    """The last step of a deploy: nothing of the former commit runs any more."""
    deploy = observed.history.confirmed
    if (
        deploy is None
        or deploy.has("retired")
        or observed.history.previous_sha is None
        or observed.history.open is not None
    ):
        return ()
    if not _has_spare(observed, policy) or any(unit.running and unit.sha != deploy.sha for unit in observed.units):
        return ()
    return (Record(deploy.id, "retired", f"the former commit ended; {observed.missed} polls missed", deploy.sha),)


# --- the lease


def _restore_lease(handover: Handover, observed: Observed, now: Now) -> Handover:
    """The lease belongs to the confirmed commit, unless the open deploy has it or asks for it."""
    confirmed, holder = observed.confirmed_sha, observed.holder
    if confirmed is None:
        return handover
    if handover.confirmed_sha != confirmed:
        handover = handover.changed(confirmed_sha=confirmed)
    if _is_for_the_deploy(observed):
        return handover
    ready = [
        s for s in observed.instances if observed.is_ready(s) and _sha(s) == confirmed and s.id not in handover.retired
    ]
    if observed.in_force(now):
        if any(s.id == handover.wanted for s in ready):
            return handover
        handover = handover.changed(wanted=None, request_id="")
    if holder is None or _sha(holder) == confirmed or not ready:
        return handover
    return handover.changed(
        wanted=ready[0].id,
        request_id=f"back/{now.wall_ms}/{now.boot_ms}",
        deploy_id=observed.history.open.id if observed.history.open is not None else "",
        expires_boot_id=now.boot_id,
        expires_boot_ms=now.boot_ms + REQUEST_LIFE_MS,
        without_venue=False,
    )


def _is_for_the_deploy(observed: Observed) -> bool:
    """Whether the open deploy asks for the lease, or has it: by a request, or because it found the lease free."""
    deploy, holder = observed.history.open, observed.holder
    if deploy is None or deploy.has("taking-back"):
        return False
    has_it = holder is not None and holder.document is not None and holder.document.deploy_id == deploy.id
    return has_it or deploy.has("handover")


def _sha(view: InstanceView) -> str:
    return view.document.sha if view.document is not None else ""


# --- starting and forgetting


def _replace(observed: Observed, now: Now, policy: Policy) -> Actions:
    """Start what is missing of the confirmed commit, later and later when it keeps dying."""
    sha = observed.confirmed_sha
    enough = len(_kept(observed, policy)) >= 1 + policy.spares and _shows_life(observed, policy)
    if sha is None or "start" in observed.busy or enough:
        return ()
    if sha not in observed.built:
        if sha in observed.failures or any(key.startswith("build:") for key in observed.busy):
            return ()
        return (Build(sha),)
    recent = [u for u in observed.units if u.sha == sha and u.started_ms > now.boot_ms - RECENT_MS]
    newest_ms = max((unit.started_ms for unit in recent), default=0)
    if now.boot_ms < newest_ms + _back_off_ms([u for u in recent if not u.running and not u.stopping], observed):
        return ()
    deploy = observed.history.confirmed
    started = deploy.first("started") if deploy is not None else None
    color = str(started.data.get("color", "blue")) if started is not None else "blue"
    return (StartUnit(Start(sha, color, deploy.id if deploy is not None else "")),)


def _shows_life(observed: Observed, policy: Policy) -> bool:
    """Whether anything of the confirmed commit does. When all stand still, one more is started before they are killed.

    What is not born yet or warms up counts as alive, however still it is: so it is one more and not many.
    """
    limit_ms = policy.stuck_after_ms // 2

    def is_alive(unit: Unit) -> bool:
        instance = observed.instance_of(unit)
        if instance is None or instance.document is None or instance.document.role is Role.WARMING:
            return True
        return observed.still_ms.get(instance.id, 0) < limit_ms

    return any(
        unit.running and not unit.stopping and unit.sha == observed.confirmed_sha and is_alive(unit)
        for unit in observed.units
    )


def _back_off_ms(dead: list[Unit], observed: Observed) -> int:
    """How long after the newest start to start another one. What had been healthy when it died comes back soon.

    The newest few tell: of an older one no instance document is left that says whether it had been healthy.
    """
    newest = sorted(dead, key=lambda unit: unit.started_ms)[-(len(BACKOFF_MS) - 1) :]
    healthy = {s.document.unit for s in observed.instances if s.document is not None and s.document.healthy}
    hopeless = sum(unit.name not in healthy for unit in newest)
    return BACKOFF_MS[hopeless] if hopeless else BACKOFF_MS[min(len(dead), 1)]


def _tidy(observed: Observed, now: Now) -> Actions:
    """Forget ended units that no back-off counts any more, and the oldest dead instances."""
    deploy = observed.history.open
    ended = [u for u in observed.units if not u.running and (deploy is None or u.deploy_id != deploy.id)]
    old = [u for u in ended if u.stopping or u.sha != observed.confirmed_sha or u.started_ms <= now.boot_ms - RECENT_MS]
    # Without a document it may be one that is only just being born.
    dead = [s for s in observed.instances if not s.alive and s.document is not None]
    return tuple(RemoveUnit(u.name) for u in old) + tuple(Forget(s.id) for s in dead[:-KEEP_DEAD])
