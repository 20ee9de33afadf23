"""The code without one of its rules: the simulation finds every absence."""

from __future__ import annotations

import pytest

from proof.simulation.mutants import MUTANTS
from tests.proof.simulated import field_of, simulation


@pytest.mark.parametrize("name", MUTANTS)
def test_the_code_without_one_rule_is_found(name: str) -> None:
    """The seed that is known to find it still does, by the check that is meant to."""
    mutant = MUTANTS[name]
    done = simulation("--seed", mutant.seed, "--mutant", name, limit_s=120.0)
    assert done.returncode == 1, done.stdout + done.stderr
    assert mutant.word in field_of(done, "violations")
