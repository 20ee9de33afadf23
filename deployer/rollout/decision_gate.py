"""The comparison of decisions in a deploy: when it is made, when it is told, and what waits for a person. Pure.

It runs beside green's warm-up, in a process of its own, and its step `compared` is no phase of the deploy: a handover is not
delayed by it. What takes longer than the warm-up is told when it is ready, if need be after the verdict. Only where
DEPLOYER_ON_DIFFERENCE is `hold` the handover waits: for the comparison (which ends within its limit), then, unless it showed
that all is decided as before, as `held` for an approval, a cancel or a newer commit. A rollback and --now wait for neither.

It is lost with the deployer that began it, and begun again by the next one, as long as the deploy is open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bus.errors import Reason
from deployer.deploys import Deploy
from deployer.errors import Code
from deployer.rollout.observed import Actions, Compare, Observed, Policy, step_of

# Whether a candidate's orders are refused more than the former commit's were, beyond chance. Pure.
#
# A worker may count, since it took the lease, the orders that it sent and those of them that the other side refused for what they
# were (docs/reference/contract.md). The candidate's are compared with the share that the former commit had: were its refusals as
# likely as that, at least LEAST_SHARE, would so many come about less often than once in 500 times? Then it is the code. With
# three orders that is three refusals of three; one or two tell nothing, and neither does a candidate that sends nothing.


LEAST = 3
LEAST_SHARE = 0.1
CHANCE = 1 / 500
MOST = 1_000


@dataclass(frozen=True, slots=True)
class Tally:
    """Orders sent since a take, and those of them that were refused."""

    sent: int
    refused: int


def why_refused_more(green: Tally, blue: Tally | None) -> Reason | None:
    """A sentence where the candidate's refusals are beyond chance. blue: None where the former commit's are not known."""
    if blue is None or green.refused < LEAST or green.refused > green.sent:
        return None
    # As if blue had one more of each: what sent little is known little of.
    share = max(LEAST_SHARE, (blue.refused + 1) / (blue.sent + 2))
    if share >= 1 or _at_least(green, share) > CHANCE:
        return None
    return Reason(
        Code.ORDERS_REFUSED,
        f"{green.refused} of its {green.sent} orders were refused, where the former commit had {blue.refused} of {blue.sent}: "
        "more than chance",
    )


def _at_least(tally: Tally, share: float) -> float:
    """How likely so many refusals or more are, each with this share: the upper tail of the binomial distribution."""
    sent = min(tally.sent, MOST)
    refused = tally.refused * sent // tally.sent
    return sum(math.comb(sent, k) * share**k * (1 - share) ** (sent - k) for k in range(refused, sent + 1))


# The comparison of decisions in a deploy: when it is made, when it is told, and what waits for a person. Pure.


def compare(observed: Observed) -> Actions:
    """Begin the open deploy's comparison, or note what came of it."""
    for deploy_id, comparison in observed.compared.items():
        deploy = observed.history.find(deploy_id)
        if deploy is not None and not deploy.has("compared"):
            return (step_of(deploy, "compared", comparison.text, data={**comparison.data, "holds": comparison.holds}),)
    deploy = observed.history.open
    confirmed = observed.confirmed_sha
    if deploy is None or confirmed is None or deploy.has("compared") or not deploy.has("started"):
        return ()
    if not _can_compare(deploy, observed) or _runs(deploy, observed):
        return ()
    return (Compare(deploy.id, deploy.sha, confirmed),)


def hold(deploy: Deploy, observed: Observed, policy: Policy) -> Actions | None:
    """What a healthy candidate waits for: nothing or a step to be noted; None where it need not wait (any more)."""
    if not policy.hold or deploy.is_hurried or deploy.has("approved") or deploy.handovers:
        return None
    if deploy.has("held"):
        return ()
    step = deploy.first("compared")
    if step is None and (_runs(deploy, observed) or _can_compare(deploy, observed)):
        return ()
    waits_anyhow = policy.always and observed.confirmed_sha is not None
    if not waits_anyhow and (step is None or not step.data.get("holds")):
        return None
    setting = "always" if policy.always else "hold"
    return (step_of(deploy, "held", f"waits for `./ns approve` (DEPLOYER_ON_DIFFERENCE={setting})"),)


def _can_compare(deploy: Deploy, observed: Observed) -> bool:
    """Whether there is something to compare with, and a worker that says it can."""
    return observed.confirmed_sha is not None and deploy.sha in observed.comparable


def _runs(deploy: Deploy, observed: Observed) -> bool:
    return f"compare:{deploy.id}" in observed.busy or deploy.id in observed.compared


# What came of a comparison of decisions, as the new version's own process told it. Pure.
#
# The process is of the commit that is deployed, so nothing that it says is believed beyond its form: numbers are counted, texts
# are cut to one line, and what is no answer is told as one that failed.
