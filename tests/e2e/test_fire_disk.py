"""The real bots on a disk that hangs for seconds, fsync included."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bus import write_control
from proof.power import disk
from tests.e2e.fire import deaths
from tests.e2e.fire.rig import FireRig

HANGS_S = (4.0, 13.0)  # less and more than the deployer's 6 s and the 10 s of the bot's own watchdog

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="freezing a loop-mounted ext4 needs root"),
    pytest.mark.skipif(shutil.which("fsfreeze") is None, reason="fsfreeze is missing (Debian: util-linux)"),
    pytest.mark.timeout(300),
]


def test_a_disk_that_hangs_for_seconds_ends_nobody(tmp_path: Path) -> None:
    """Trader, spare and deployer wait for the disk and go on: same epoch, the ticks have their rows, the audit holds."""
    with disk() as found:
        rig = FireRig(tmp_path, DEPLOYER_MIN_FREE="0")  # the disk is a small one
        try:
            rig.use_bus(found.root / "bus")
            write_control(rig.bus, 0, lambda control: control, by="test", clock=rig.clock)
            rig.begin()
            outcome = deaths.freeze_disk(rig, found.root, HANGS_S)
        finally:
            rig.stop()
    assert not outcome.broken, outcome
    assert outcome.tried == len(HANGS_S)
