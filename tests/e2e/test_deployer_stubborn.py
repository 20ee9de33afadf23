"""A version that never yields is removed all the same."""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.deployer_rig import DeployerRig

# Two requests of 30 s; the rest is for builds and starts on a machine that has other work.
LIMIT_S = 150.0


def test_a_rollback_removes_a_version_that_never_yields(tmp_path: Path) -> None:
    """After two expired requests its holder is killed, and the version before trades, not its own spare (604 s before)."""
    rig = DeployerRig(tmp_path)
    try:
        good = rig.commit()
        rig.start()
        rig.until_step(good, "confirmed")
        bad = rig.commit("never-yields")
        rig.until_step(bad, "confirmed")
        rig.assert_steady(bad)
        began = time.monotonic()
        done = rig.command("rollback", limit_s=LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - began < LIMIT_S
        rig.assert_steady(good)
        rig.assert_ledger()
        deploy = rig.deploy_of(good)
        assert deploy is not None
        assert "did not yield in answer to 2 requests" in str([step.text for step in deploy.steps])
        assert rig.missed() <= 2, "the lease was free for the time of a kill"
    finally:
        rig.stop()
