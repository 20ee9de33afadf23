"""Why nobody trades: one reason, worked out here alone, for status, history, page, metric and log. Pure.

It is a step of the history without a deploy, `nobody-trades`, and `trades-again` when it is over. Gaps of a handover or a death
are far shorter than NOBODY_MS and no steps. A reason that merely passes (`building`, `starting`) never takes another's place:
what cannot be built is tried again and again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployer.deploys import NOBODY_TRADES, TRADES_AGAIN
from deployer.rollout.observed import Actions, Now, Observed, Record

NOBODY_MS = 5_000
SAID_AGAIN_MS = 30_000
_PASSING = ("building", "starting")
_NUMBER = re.compile(r"[0-9][0-9.,:]*")


@dataclass(frozen=True, slots=True)
class Reason:
    """code: for machines. text: a sentence for people, without a full stop."""

    code: str
    text: str


def why_nobody_trades(observed: Observed) -> Reason | None:
    """None while somebody does: holds the lease by the ledger, and its newest row there is at most two intervals old."""
    if observed.blind:
        return Reason("ledger", f"who trades is unknown: the ledger cannot be read ({observed.blind_why})")
    holder = observed.holder
    if holder is not None:
        if observed.quiet_ms is None or observed.quiet_ms <= 2 * observed.interval_ms + observed.interval_ms // 2:
            return None
        document = holder.document
        who = f"{document.color} {document.sha[:7]}" if document is not None else holder.id
        why = f": {document.why_not}" if document is not None and document.why_not else ""
        return Reason(
            "silent", f"{who} holds the lease, and no row of it has come to the ledger for two intervals{why}"
        )
    return _why_nobody_takes(observed)


def _why_nobody_takes(observed: Observed) -> Reason:
    deploy = observed.history.open
    sha = observed.confirmed_sha or (deploy.sha if deploy is not None else None)
    if sha is None:
        newest = observed.history.deploys[-1] if observed.history.deploys else None
        if newest is None:
            return Reason("nothing-deployed", "nothing was deployed yet")
        return Reason(
            "nothing-confirmed", f"nothing was ever confirmed; {newest.sha[:7]} {newest.verdict}: {newest.why}"
        )
    if sha in observed.failures:
        return Reason("not-runnable", f"{sha[:7]} cannot be run: {observed.failures[sha]}")
    living = [s for s in observed.instances if s.alive and s.document is not None]
    if any(observed.is_ready(s) for s in living):
        return Reason("not-taken", "a healthy bot stands by, and none takes the lease")
    for instance in living:
        if instance.document is not None and instance.document.why_not:
            return Reason("not-healthy", f"no bot is healthy: {instance.document.color} {instance.document.why_not}")
    if any(key.startswith("build:") for key in observed.busy):
        return Reason("building", f"{sha[:7]} is being built")
    return Reason("starting", f"a bot of {sha[:7]} is being started")


def note_standstill(observed: Observed, now: Now) -> Actions:
    """Note that nobody trades and why, when that has lasted or is another reason by now; and that it is over."""
    reason, said = why_nobody_trades(observed), observed.history.nobody
    if reason is None:
        if said is None:
            return ()
        holder = observed.holder
        assert holder is not None, "somebody trades"
        return (Record("", TRADES_AGAIN, f"{holder.document.color if holder.document else holder.id} trades"),)
    if said is None:
        if observed.waited_ms("nobody", now) < max(NOBODY_MS, 2 * observed.interval_ms):
            return ()
    elif reason.code in _PASSING or _alike(said.text, reason.text):
        return ()
    elif said.data.get("code") not in _PASSING and now.wall_ms - said.time_ms < SAID_AGAIN_MS:
        return ()  # reasons that take turns do not fill the history
    return (Record("", NOBODY_TRADES, reason.text, data={"code": reason.code}),)


def _alike(first: str, other: str) -> bool:
    return _NUMBER.sub("#", first) == _NUMBER.sub("#", other)
