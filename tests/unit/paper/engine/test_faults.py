"""What is armed, when it strikes, and the seeded schedule."""

from __future__ import annotations

import itertools

import pytest

from paper.engine.faults import KINDS, FaultOrder, Faults, schedule
from paper.engine.matching import stages, trade_status

NOW = 1_795_000_000_000


def _armed(**order: object) -> Faults:
    faults = Faults()
    for fault in FaultOrder.model_validate(order).faults(NOW):
        faults.arm(fault)
    return faults


def test_fault_strikes_as_often_as_it_was_asked_to() -> None:
    """Without more it strikes once; with a count that often; only the path and method that it names."""
    faults = _armed(kind="error", count=2, path="/order", method="POST")
    assert faults.strike(("error",), "POST", "/book", NOW) is None
    assert faults.strike(("error",), "DELETE", "/order", NOW) is None
    assert faults.strike(("slow",), "POST", "/order", NOW) is None
    struck = [faults.strike(("error",), "POST", "/orders", NOW) is not None for _ in range(3)]
    assert struck == [True, True, False]


def test_fault_with_seconds_lasts_that_long() -> None:
    """A timed fault strikes everything until its end, and is forgotten then."""
    faults = _armed(kind="cancel_only", seconds=2)
    assert all(faults.strike(("cancel_only",), "POST", "/order", NOW + at) for at in (0, 1, 1_999))
    assert faults.strike(("cancel_only",), "POST", "/order", NOW + 2_000) is None
    assert faults.armed == []


def test_restart_is_425_and_then_post_only() -> None:
    """A restart's two parts follow each other without a gap and without meeting."""
    faults = _armed(kind="restart", seconds=10, post_only_seconds=20)
    for at, restarting, post_only in (
        (0, True, False),
        (9_999, True, False),
        (10_000, False, True),
        (30_000, False, False),
    ):
        assert bool(faults.active("restarting", "/order", NOW + at)) == restarting
        assert bool(faults.active("post_only", "/order", NOW + at)) == post_only


def test_schedule_follows_from_its_seed() -> None:
    """The same seed gives the same faults at the same times, another seed others; distances have the mean asked for."""
    first, same, other = (list(itertools.islice(schedule(seed, KINDS, 60.0, NOW), 500)) for seed in (1, 1, 2))
    assert first == same
    assert first != other
    assert {order.kind for _, order in first} == set(KINDS)
    assert (first[-1][0] - NOW) / 500 == pytest.approx(60_000, rel=0.15)
    assert all(order.faults(at) for at, order in first)


@pytest.mark.parametrize(
    ("fate", "ages", "expected"),
    [
        ("confirmed", (0, 500, 1_000), ["MATCHED", "MINED", "CONFIRMED"]),
        ("retried", (0, 500, 1_000, 1_500), ["MATCHED", "RETRYING", "MINED", "CONFIRMED"]),
        ("failed", (0, 500, 1_000), ["MATCHED", "RETRYING", "FAILED"]),
    ],
)
def test_statuses_follow_the_fate(fate: str, ages: tuple[int, ...], expected: list[str]) -> None:
    """Each stage begins at its age, one ms earlier the one before still stands, and nothing follows the last."""
    assert [trade_status(fate, age, 1_000) for age in ages] == expected
    assert [trade_status(fate, age - 1, 1_000) for age in ages[1:]] == expected[:-1]
    assert trade_status(fate, 10**9, 1_000) == expected[-1]
    assert [begins for begins, _ in stages(fate, 1_000)] == list(ages)
