"""Simulated handovers with faults by seed: nothing breaks, and a seed replays exactly."""

from __future__ import annotations

from pathlib import Path

from tests.proof.simulated import field_of, simulation

HANDOVERS, FIRST_SEED = 1_000, 1_001
LIMIT_S = 60  # a machine that is busy otherwise makes fewer of them; the run that is under way then is the last one


def test_a_thousand_handovers_with_faults_break_nothing(tmp_path: Path) -> None:
    """Real roles, orders, deployer and exchange under deaths, pauses, lost replies, bad disks, clock steps: every check holds."""
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


def test_a_seed_replays_exactly() -> None:
    """Two runs of one seed are equal in all that happens."""
    first, second = (simulation("--seed", 1_002, limit_s=60.0) for _ in range(2))
    assert field_of(first, "digest") == field_of(second, "digest")
    assert int(field_of(first, "handovers")) > 3, "else this shows nothing"
