"""Starts the simulation in a process of its own, as `python -m proof.simulation` does."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.rig import ROOT


def simulation(*arguments: object, limit_s: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proof.simulation", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def field_of(done: subprocess.CompletedProcess[str], name: str) -> str:
    """What a replay said of one thing."""
    return next(line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(f"{name}: "))
