"""The budget of reading requests: a bound in any second, and what cannot wait is paid back by what can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.venue.pace import AT_ONCE, FIRST_AT_ONCE, MOST_OWED, PER_S, TURN_MS, RequestPace


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["look", "urgent", "warm"])), max_size=200))
def test_what_can_wait_is_bounded_in_every_second(steps: list[tuple[int, str]]) -> None:
    """Whatever is asked for and when: looks of one second are at most a burst and what grew meanwhile."""
    now, made = 1_000, list[int]()
    pace = RequestPace(lambda: now)
    for wait_ms, kind in steps:
        now += wait_ms
        if kind == "urgent":
            pace.spend()
        elif pace.take(1):
            made.append(now)
    later = [at for at in made if at > (made[0] if made else 0) + 3_000]
    for at in later:
        assert sum(at <= other < at + 1_000 for other in later) <= AT_ONCE + PER_S
    assert sum(other < 1_000 + 1_000 for other in made) <= FIRST_AT_ONCE + PER_S


def test_urgent_requests_are_paid_back_within_seconds() -> None:
    """After a hundred of them at once looks wait for some seconds, and no longer."""
    now = 0
    pace = RequestPace(lambda: now)
    pace.spend(100)
    assert not pace.take(1)
    now = round((MOST_OWED + 1) / PER_S * 1_000) - 100
    assert not pace.take(1)
    now += 200
    assert pace.take(1)


def test_looks_at_orders_take_turns() -> None:
    """Of any number that ask at once one begins, the next TURN_MS later; in debt only an urgent one does, in its turn too."""
    now = 1_000
    pace = RequestPace(lambda: now)
    assert [pace.turn() for _ in range(16)] == [True] + [False] * 15
    now += TURN_MS
    assert [pace.turn(), pace.turn()] == [True, False]
    pace.spend(100)
    now += TURN_MS
    assert [pace.turn(), pace.turn(urgent=True), pace.turn(urgent=True)] == [False, True, False]
