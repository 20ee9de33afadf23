"""The comparison of decisions in a deploy: when it is made, when it is told, and what waits for a person. Pure.

It runs beside green's warm-up, in a process of its own, and its step `compared` is no phase of the deploy: a handover is not
delayed by it. What takes longer than the warm-up is told when it is ready, if need be after the verdict. Only where
DEPLOYER_ON_DIFFERENCE is `hold` the handover waits: for the comparison (which ends within its limit), then, unless it showed
that all is decided as before, as `held` for an approval, a cancel or a newer commit. A rollback and --now wait for neither.

It is lost with the deployer that began it, and begun again by the next one, as long as the deploy is open.
"""

from __future__ import annotations

from deployer.rollout.deploys import Deploy
from deployer.rollout.observed import Actions, Compare, Observed, Policy, step_of


def compare(seen: Observed) -> Actions:
    """Begin the open deploy's comparison, or note what came of it."""
    for deploy_id, found in seen.compared.items():
        deploy = seen.history.find(deploy_id)
        if deploy is not None and not deploy.has("compared"):
            return (step_of(deploy, "compared", found.text, data={**found.data, "holds": found.holds}),)
    deploy = seen.history.open
    confirmed = seen.confirmed_sha
    if deploy is None or confirmed is None or deploy.has("compared") or not deploy.has("started"):
        return ()
    if not _can_compare(deploy, seen) or _runs(deploy, seen):
        return ()
    return (Compare(deploy.id, deploy.sha, confirmed),)


def hold(deploy: Deploy, seen: Observed, policy: Policy) -> Actions | None:
    """What a healthy candidate waits for: nothing or a step to be noted; None where it need not wait (any more)."""
    if not policy.hold or deploy.is_hurried or deploy.has("approved") or deploy.handovers:
        return None
    if deploy.has("held"):
        return ()
    step = deploy.first("compared")
    if step is None:
        return () if _runs(deploy, seen) or _can_compare(deploy, seen) else None
    if not step.data.get("holds"):
        return None
    return (step_of(deploy, "held", "waits for `deployer approve` (DEPLOYER_ON_DIFFERENCE=hold)"),)


def _can_compare(deploy: Deploy, seen: Observed) -> bool:
    """Whether there is something to compare with, and a worker that says it can."""
    return seen.confirmed_sha is not None and deploy.sha in seen.comparable


def _runs(deploy: Deploy, seen: Observed) -> bool:
    return f"compare:{deploy.id}" in seen.busy or deploy.id in seen.compared
