"""What the simulation's table says of runs: a run that did not come to its end is a violation, and so is each that is named."""

from __future__ import annotations

from proof.simulation.__main__ import summary
from proof.simulation.world import UNKNOWN, Outcome


def test_every_violation_of_every_run_is_in_a_row_with_its_seed() -> None:
    """Of either shape, and of a run that failed itself."""
    runs = [
        Outcome(1, "relay", ["I1: two holders"], handovers=3),
        Outcome(6, "rollout", handovers=1),
        Outcome(7, UNKNOWN, ["the run ended without a word"]),
    ]
    rows = list(summary(runs))
    assert [row.times for row in rows] == [3, 1, 0]
    assert [row.violations for row in rows] == [
        ("seed 1: I1: two holders",),
        (),
        ("seed 7: the run ended without a word",),
    ]
