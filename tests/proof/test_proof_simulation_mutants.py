"""The code without one of its rules: the simulation finds each absence."""

from __future__ import annotations

import json
from pathlib import Path

from tests.proof.simulated import simulation

# Those that are found within 20 simulated seconds; `make proof` tries all of them.
SOON = (
    "intent-after-send",
    "abandons-sent",
    "taker-forgets-doubt",
    "no-expiry",
    "spent-again",
    "needs-the-lease",
    "risk-ignores-pending",
    "lease-by-clock",
    "two-candidates",
    "confirms-at-once",
)


def test_the_code_without_one_rule_is_found(tmp_path: Path) -> None:
    """For each of ten rules the seed that is known to find its absence does, by the check that is meant to."""
    done = simulation(
        "--only", "mutants", *(part for name in SOON for part in ("--mutant", name)), "--out", tmp_path, limit_s=170.0
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "simulation.json").read_text())["rows"]
    assert [row["times"] for row in rows] == [1] * len(SOON), done.stdout
