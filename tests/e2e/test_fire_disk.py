"""The real bots on a disk that hangs for seconds, fsync included."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import write_control
from proof.power import PowerError, disk
from tests.e2e.fire import deaths
from tests.e2e.fire.rig import FireRig

HANGS_S = (4.0, 13.0)  # less and more than the deployer's 6 s and the 10 s of the bot's own watchdog

pytestmark = [
    pytest.mark.skipif(shutil.which("fsfreeze") is None, reason="fsfreeze is missing (Debian: util-linux)"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def root() -> Iterator[Path]:
    """Where an ext4 of its own is mounted."""
    try:
        with disk() as found:
            yield found.root
    except PowerError as error:  # not root, or no loop devices here
        pytest.skip(str(error))


def test_a_disk_that_hangs_for_seconds_ends_nobody(tmp_path: Path, root: Path) -> None:
    """Trader, spare and deployer wait for the disk and go on: same epoch, the ticks have their rows, the audit holds."""
    rig = FireRig(tmp_path, DEPLOYER_MIN_FREE="0")  # the disk is a small one
    try:
        rig.use_bus(root / "bus")
        write_control(rig.bus, 0, lambda control: control, by="test", clock=rig.clock)
        rig.begin()
        outcome = deaths.freeze_disk(rig, root, HANGS_S)
    finally:
        rig.stop()
    assert not outcome.broken, outcome
    assert outcome.tried == len(HANGS_S)
