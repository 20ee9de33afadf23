"""A disk that runs full under builds: a small one of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")

DISK_MB, WANTED_MB = 48, 16


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DeployerRig]:
    """A deployer whose trees lie on a disk of 48 MB, 16 of which shall be free."""
    made = DeployerRig(tmp_path, DEPLOYER_SPARES="0", DEPLOYER_MIN_FREE=str(WANTED_MB))
    run = tmp_path / "run"
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", run], check=True, timeout=30)
    try:
        yield made
    finally:
        made.stop()
        subprocess.run(["umount", run], check=True, timeout=30)


def test_a_full_disk_refuses_a_build_and_keeps_what_rollback_needs(rig: DeployerRig) -> None:
    """With less room than is wanted: other builds are removed, status says why, a push fails with the figures, the trader and a
    rollback are not touched; with room again the same commit is deployed."""
    trees = rig.folder / "run" / "trees"
    former, broken, present = rig.commit(), "", ""
    rig.start()
    rig.until_step(former, "confirmed")
    broken = rig.commit("dies")
    rig.until_verdict(broken)
    present = rig.commit()
    rig.until_step(present, "retired")
    assert {tree.name for tree in trees.iterdir()} == {former, broken, present}
    filler = rig.folder / "run" / "filler"
    filler.write_bytes(b"x" * ((DISK_MB - WANTED_MB // 2) << 20))
    refused = rig.commit()
    deploy = rig.until_verdict(refused)
    assert deploy.verdict == "failed"
    assert "the build failed: expected at least 0.02 GB free (DEPLOYER_MIN_FREE), found 0.0" in deploy.why
    assert "on the disk of the builds" in deploy.why
    assert f"then `./ns deploy {refused[:7]}`" in deploy.why
    assert {tree.name for tree in trees.iterdir()} == {former, present}, (
        "what rollback does not need is gone, and nothing else"
    )
    until(
        "status says it",
        lambda: "DEPLOYER_MIN_FREE" in (json.loads(rig.command("status", "--json").stdout)["problem"] or ""),
    )
    assert rig.command("rollback").returncode == 0
    rig.until_step(former, "confirmed")
    filler.unlink()
    assert rig.command("deploy", refused).returncode == 0
    rig.assert_steady(refused, spares=0)
    assert rig.missed() == 0
