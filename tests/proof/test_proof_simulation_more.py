"""The second half of the simulated handovers, in a file of its own so that both run side by side."""

from __future__ import annotations

from pathlib import Path

from tests.proof.simulated import simulation
from tests.proof.test_proof_simulation_relay import LIMIT_S

HANDOVERS, FIRST_SEED = 1_000, 2_001


def test_another_thousand_handovers_with_faults_break_nothing(tmp_path: Path) -> None:
    """As the first thousand, with other seeds."""
    done = simulation(
        "--handovers",
        HANDOVERS,
        "--seed",
        FIRST_SEED,
        "--only",
        "runs",
        "--limit",
        LIMIT_S,
        "--out",
        tmp_path,
        limit_s=175.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
