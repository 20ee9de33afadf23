"""Which units may have the wallet's keys: those that the rollout lets trade, and no candidate before that. Pure.

It goes by what the deployer itself knows: its history and the runtime's labels. An instance document decides nothing here, since
each is written by the worker that it is about.
"""

from __future__ import annotations

from deployer.deploys import Deploy
from deployer.rollout.decision_gate import hold
from deployer.rollout.fleet import candidate_of
from deployer.rollout.observed import Observed, Policy


def key_holders(observed: Observed, policy: Policy) -> tuple[frozenset[str], frozenset[str]]:
    """The running units, and those of them that may have the keys: of the confirmed commit, and the candidate once the lease is
    for it."""
    confirmed = observed.confirmed_sha
    running = frozenset(unit.name for unit in observed.units if unit.running)
    names = {unit.name for unit in observed.units if unit.running and unit.sha == confirmed}
    deploy = observed.history.open
    unit = candidate_of(observed, deploy) if deploy is not None else None
    if deploy is not None and unit is not None and unit.running and _is_let_trade(deploy, observed, policy):
        names.add(unit.name)
    return running, frozenset(names)


def _is_let_trade(deploy: Deploy, observed: Observed, policy: Policy) -> bool:
    if deploy.has("taking-back"):
        return False
    # Where nothing was ever confirmed there is nobody whose lease it would wait for.
    if observed.confirmed_sha is None or deploy.has("handover") or deploy.has("taken"):
        return True
    return deploy.has("healthy") and _nobody_else_trades(observed) and hold(deploy, observed, policy) is None


def _nobody_else_trades(observed: Observed) -> bool:
    """The lease is free, and nobody of the confirmed commit is there to take it."""
    return (
        not observed.blind
        and observed.holder is None
        and not any(
            observed.is_ready(view) and view.document and view.document.sha == observed.confirmed_sha
            for view in observed.instances
        )
    )


__all__ = ["key_holders"]
