"""Why nobody trades: one reason, worked out here alone, for status, history, page, metric and log. Pure.

It is a step of the history without a deploy, `nobody-trades`, and `trades-again` when it is over. Gaps of a handover or a death
are far shorter than NOBODY_MS and no steps. A reason that merely passes (`building`, `starting`) never takes another's place:
what cannot be built is tried again and again.
"""

from __future__ import annotations

from typing import Self

from bus import InstanceView
from bus.errors import Reason, code_of
from deployer.deploys import NOBODY_TRADES, TRADES_AGAIN
from deployer.errors import Code
from deployer.rollout.observed import Actions, Now, Observed, Record, coded

NOBODY_MS = 5_000
SAID_AGAIN_MS = 30_000
_PASSING = (Code.BUILDING, Code.STARTING)


class Standstill(Reason):
    """Why nobody trades.

    cause: what it comes of, by names and codes: the same is known again whatever figures its words have.
    """

    __slots__ = ("cause",)
    cause: str

    def __new__(cls, code: Code, text: str, cause: str = "") -> Self:
        """Code, words and cause."""
        made = super().__new__(cls, code, text)
        made.cause = cause
        return made


def why_nobody_trades(observed: Observed) -> Standstill | None:
    """None while somebody does: holds the lease by the ledger, and its newest row there is at most two intervals old."""
    if observed.blind:
        return Standstill(Code.LEDGER, f"who trades is unknown: the ledger cannot be read ({observed.blind_why})")
    holder = observed.holder
    if holder is not None:
        if observed.quiet_ms is None or observed.quiet_ms <= 2 * observed.interval_ms + observed.interval_ms // 2:
            return None
        document = holder.document
        who = f"{document.color} {document.sha[:7]}" if document is not None else holder.id
        why = f": {document.why_not}" if document is not None and document.why_not else ""
        return Standstill(
            Code.SILENT,
            f"{who} holds the lease, and no row of it has come to the ledger for two intervals{why}",
            _health(holder),
        )
    return _why_nobody_takes(observed)


def _why_nobody_takes(observed: Observed) -> Standstill:
    deploy = observed.history.open
    sha = observed.confirmed_sha or (deploy.sha if deploy is not None else None)
    if sha is None:
        newest = observed.history.deploys[-1] if observed.history.deploys else None
        if newest is None:
            return Standstill(Code.NOTHING_DEPLOYED, "nothing was deployed yet")
        return Standstill(
            Code.NOTHING_CONFIRMED,
            f"nothing was ever confirmed; {newest.sha[:7]} {newest.verdict}: {newest.why}",
            newest.id,
        )
    if sha in observed.failures:
        why = observed.failures[sha]
        return Standstill(Code.NOT_RUNNABLE, f"{sha[:7]} cannot be run: {why}", f"{sha} {code_of(why)}")
    living = [s for s in observed.instances if s.alive and s.document is not None]
    if any(observed.is_ready(s) for s in living):
        return Standstill(Code.NOT_TAKEN, "a healthy bot stands by, and none takes the lease")
    for instance in living:
        if (document := instance.document) is not None and document.why_not:
            text = f"no bot is healthy: {document.color} {document.why_not}"
            return Standstill(Code.NOT_HEALTHY, text, _health(instance))
    if any(key.startswith("build:") for key in observed.busy):
        return Standstill(Code.BUILDING, f"{sha[:7]} is being built")
    return Standstill(Code.STARTING, f"a bot of {sha[:7]} is being started")


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
    elif reason.code in _PASSING or (said.data.get("code"), said.data.get("cause", reason.cause)) == (
        reason.code,
        reason.cause,
    ):
        return ()
    elif said.data.get("code") not in _PASSING and now.wall_ms - said.time_ms < SAID_AGAIN_MS:
        return ()  # reasons that take turns do not fill the history
    return (Record("", NOBODY_TRADES, reason.text, data=coded(reason, {"cause": reason.cause})),)


def _health(instance: InstanceView) -> str:
    """Whose health, and the code of what is wrong with it."""
    document = instance.document
    return instance.id if document is None else f"{document.color} {document.sha} {document.why_not_code}"
