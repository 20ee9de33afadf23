"""A selection of the power cuts and of the kills at every step, as `make proof` makes them in full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.rig import ROOT

CUTS, UNSAFE_CUTS, KILLS = 5, 2, 2
LIMIT_S = 170


def prove(part: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run one part of the proof; skips where it says that it cannot be tried here."""
    done = subprocess.run(
        [sys.executable, "-m", f"proof.{part}", "--out", str(folder), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    return done


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting an ext4 needs root")
def test_nothing_acknowledged_is_lost_to_a_power_cut(tmp_path: Path) -> None:
    """Control, halt, handover, requests, history, ledger and paper's record after cuts of the power while they are written."""
    done = prove("power", tmp_path, "--count", CUTS, "--seed", 7)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting an ext4 needs root")
def test_writers_that_do_not_sync_lose_what_they_acknowledged(tmp_path: Path) -> None:
    """With fsync and fdatasync doing nothing the same cuts do lose writes: the cuts are real."""
    done = prove("power", tmp_path, "--count", UNSAFE_CUTS, "--seed", 7, "--unsafe")
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_handover_survives_the_death_of_either_side_before_its_first_syncs(tmp_path: Path) -> None:
    """SIGKILL before the first fsyncs of the bot that yields and of the one that takes: somebody trades on, the audit holds."""
    done = prove("kills", tmp_path, "--scenario", "handover", "--calls", "fsync", "--most", KILLS, "--kills-only")
    assert done.returncode == 0, done.stdout + done.stderr
