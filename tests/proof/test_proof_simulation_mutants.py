"""The code without one of its rules: the simulation finds each absence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proof.simulation.mutants import MUTANTS
from tests.proof.simulated import simulation


# A change of the bot moves schedules, and with them the seeds that find a mutant at once: then others are tried.
@pytest.mark.timeout(600)
def test_the_code_without_one_rule_is_found(tmp_path: Path) -> None:
    """For each rule some seed finds its absence, by the check that is meant to: as a rule the first that is tried."""
    done = simulation("--only", "mutants", "--out", tmp_path, limit_s=570.0)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "simulation.json").read_text())["rows"]
    assert [row["violations"] for row in rows] == [[]] * len(MUTANTS)
