"""Who takes and who yields, over every small combination of instances."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bot.lifecycle.roles import NAMED_DELAY_MS, Candidate, take_delay_ms, yield_to
from bus import Handover, Instance, InstanceView, Role
from tests.unit.bot.making import ManualClock

SHAS = ("a" * 40, "b" * 40)
CLOCK = ManualClock()


def everyone(count: int) -> list[tuple[Candidate, ...]]:
    """Every combination of `count` instances by commit, health and whether it yielded (one at most did)."""
    kinds = [
        Candidate("", sha, healthy, yielded, distrusted=False, waits_for_venue=waits)
        for sha in SHAS
        for healthy, waits in ((True, False), (False, False), (False, True))
        for yielded in (True, False)
    ]
    return [
        tuple(replace(one, id=f"i{n}") for n, one in enumerate(chosen))
        for chosen in itertools.product(kinds, repeat=count)
        if sum(one.yielded for one in chosen) <= 1
    ]


def handovers(instances: tuple[Candidate, ...]) -> list[Handover | None]:
    """Every handover there may be: unreadable, none, one that names somebody (dead ones too), somebody retired or none."""
    ids = [one.id for one in instances]
    return [
        None,
        *(
            Handover(
                wanted=wanted,
                request_id="r",
                retired=retired,
                confirmed_sha=confirmed,
                without_venue=without_venue,
                expires_boot_id=CLOCK.boot_id,
                expires_boot_ms=CLOCK.boot_ms() + left_ms,
            )
            for left_ms in (0, 1)
            for wanted in (None, "dead", *ids)
            for without_venue in (False, True)
            for retired in ((), *((one,) for one in ids))
            for confirmed in ("", *SHAS)
        ),
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_free_lease_is_always_taken(count: int) -> None:
    """In no state do all wait for ever: each healthy standby that is not retired tries after at most half a second.

    Of those that are not healthy one may: the named one, where it waits for the venue alone and the request does not.
    """
    states = 0
    for instances in everyone(count):
        for handover in handovers(instances):
            retired = handover.retired if handover else ()
            for one in instances:
                states += 1
                delay_ms = take_delay_ms(one, handover, CLOCK)
                anyhow = (
                    handover is not None
                    and handover.without_venue
                    and handover.wanted == one.id
                    and one.waits_for_venue
                )
                if (one.healthy or anyhow) and one.id not in retired:
                    assert delay_ms is not None
                    assert 0 <= delay_ms <= 500
                else:
                    assert delay_ms is None
    assert states > 20


def test_the_named_one_is_first_and_alone_at_once() -> None:
    """The one that a request in force names never waits; everybody else leaves it time; who just yielded comes last."""
    for instances in everyone(3):
        for handover in handovers(instances):
            if handover is None or not handover.in_force(CLOCK):
                continue
            delays = {one.id: take_delay_ms(one, handover, CLOCK) for one in instances}
            for one in instances:
                delay_ms = delays[one.id]
                if delay_ms is None:
                    continue
                assert (delay_ms == NAMED_DELAY_MS) == (one.id == handover.wanted)
                if one.yielded and one.id != handover.wanted:
                    assert delay_ms == max(found for found in delays.values() if found is not None)


def test_where_nobody_is_named_the_confirmed_commit_is_first_and_waits_for_nobody() -> None:
    """After a death each tick counts: the spare of the confirmed commit takes at once, nobody else but one once named does."""
    for instances in everyone(2):
        for handover in handovers(instances):
            if handover is None or handover.in_force(CLOCK):
                continue
            for one in instances:
                delay_ms = take_delay_ms(one, handover, CLOCK)
                if delay_ms is not None:
                    confirmed = one.sha == handover.confirmed_sha and not one.yielded
                    assert (delay_ms == 0) == (confirmed or one.id == handover.wanted)


def test_a_request_that_was_obeyed_names_nobody_any_more() -> None:
    """Whoever it named took and may be dead: a spare of the confirmed commit does not wait for it, the others wait as ever."""
    for instances in everyone(1):
        for handover in handovers(instances):
            if handover is None or handover.wanted == instances[0].id:
                continue
            expired = handover.changed(expires_boot_ms=CLOCK.boot_ms())
            for obeyed, as_with in (("r", expired), ("another", handover)):
                me = replace(instances[0], obeyed=obeyed)
                assert take_delay_ms(me, handover, CLOCK) == take_delay_ms(instances[0], as_with, CLOCK)


def test_nobody_takes_where_an_fsync_failed() -> None:
    """The mark keeps everybody from taking, the named one too."""
    for instances in everyone(1):
        me = replace(instances[0], distrusted=True)
        assert all(take_delay_ms(me, handover, CLOCK) is None for handover in handovers(instances))


def seen(
    healthy: bool = True, alive: bool = True, document: bool = True, waits_for_venue: bool = False
) -> InstanceView:
    """The named instance as it shows on the bus."""
    body = Instance(
        id="green", role=Role.STANDBY, color="green", sha=SHAS[1], healthy=healthy, waits_for_venue=waits_for_venue
    )
    return InstanceView("green", alive, body if document else None, 1)


REQUEST = Handover(
    wanted="green", request_id="r1", expires_boot_id=CLOCK.boot_id, expires_boot_ms=CLOCK.boot_ms() + 1000
)


def test_the_lease_is_passed_to_a_living_healthy_named_instance() -> None:
    """A request that is new and in force is obeyed, under its id."""
    assert yield_to("blue", REQUEST, CLOCK, seen(), spent=False) == "r1"
    without = REQUEST.changed(without_venue=True)
    assert yield_to("blue", without, CLOCK, seen(healthy=False, waits_for_venue=True), spent=False) == "r1"


@pytest.mark.parametrize(
    ("handover", "target", "spent"),
    [
        (None, seen(), False),
        (Handover(), None, False),
        (REQUEST, seen(), True),
        (REQUEST, None, False),
        (REQUEST, seen(healthy=False), False),
        (REQUEST, seen(healthy=False, waits_for_venue=True), False),
        (REQUEST.changed(without_venue=True), seen(healthy=False), False),
        (REQUEST, seen(alive=False), False),
        (REQUEST, seen(document=False), False),
        (REQUEST.changed(wanted="blue"), seen(), False),
        (REQUEST.changed(wanted="other"), seen(), False),
        (REQUEST.changed(retired=("green",)), seen(), False),
        (REQUEST.changed(expires_boot_ms=CLOCK.boot_ms()), seen(), False),
        (REQUEST.changed(expires_boot_id="another boot"), seen(), False),
        (REQUEST.changed(request_id=""), seen(), False),
    ],
)
def test_the_lease_is_kept_otherwise(handover: Handover | None, target: InstanceView | None, spent: bool) -> None:
    """No request, an expired or spent one, or a target that is not ready: nothing is given away."""
    assert yield_to("blue", handover, CLOCK, target, spent=spent) is None
