"""When an instance takes the lease and when it yields. Pure (design section 5).

A free lease is for every healthy standby; preference is only a delay before trying, so nobody waits for somebody who died.
Nobody ever takes a lease by clock: the lock decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from bus import Clock, Handover, InstanceView

NAMED_DELAY_MS = 0
CONFIRMED_DELAY_MS = 100  # and none where nobody is named that did not take yet
OTHER_DELAY_MS = 300
YIELDED_DELAY_MS = 500

TAKE_BACKOFF_MS = (0, 1_000, 2_000, 5_000, 10_000)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What an instance knows of itself. yielded: it was the last to hold the lease and gave it away.

    waits_for_venue: it is not healthy, and only for want of the venue's answers. obeyed: the handover request under which the
    newest epoch began, as its last shadow poll saw it.
    """

    id: str
    sha: str
    healthy: bool
    yielded: bool
    distrusted: bool
    waits_for_venue: bool = False
    obeyed: str = ""


def take_delay_ms(me: Candidate, handover: Handover | None, clock: Clock) -> int | None:
    """How long to wait from seeing the lease free to trying for it; None means not at all.

    A standby of the confirmed commit waits for nobody but one that a request in force names and that did not take yet: after a
    death it takes at once.
    handover: None when it cannot be read: then nobody is named, and nobody is known to be retired.
    """
    named_anyhow = handover is not None and handover.without_venue and handover.wanted == me.id and me.waits_for_venue
    if me.distrusted or not (me.healthy or named_anyhow):
        return None
    if handover is None:
        return YIELDED_DELAY_MS if me.yielded else OTHER_DELAY_MS
    if me.id in handover.retired:
        return None
    if handover.wanted == me.id:
        return NAMED_DELAY_MS
    if me.yielded:
        return YIELDED_DELAY_MS
    if not handover.confirmed_sha or me.sha != handover.confirmed_sha:
        return OTHER_DELAY_MS
    return CONFIRMED_DELAY_MS if handover.in_force(clock) and handover.request_id != me.obeyed else 0


def is_retired(me_id: str, handover: Handover | None) -> bool:
    """Whether the deployer retired this instance."""
    return handover is not None and me_id in handover.retired


def yield_to(
    me_id: str, handover: Handover | None, clock: Clock, target: InstanceView | None, *, spent: bool
) -> str | None:
    """The request id under which the active instance gives the lease away right now; None to keep it.

    target: the named instance as seen on the bus. spent: whether the request was used by an earlier yield.
    """
    if handover is None or not handover.in_force(clock) or handover.wanted == me_id or spent:
        return None
    named_is_ready = (
        target is not None
        and target.id == handover.wanted
        and target.alive
        and target.document is not None
        and (target.document.healthy or (handover.without_venue and target.document.waits_for_venue))
        and target.id not in handover.retired
    )
    return handover.request_id if named_is_ready else None
