"""The Engine restarted while it trades, and the machine rebooted. Only where nobody else uses this machine's Engine.

.ci/run says so with TEST_RESTARTS_ENGINE=1; without it there is nothing to collect here, since a restart ends everybody's
containers.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.docker_engine import docker, need_engine
from tests.e2e.docker_rig import DockerRig
from tests.e2e.rig import ROOT, until

need_engine()

PID_FILE = Path("/var/run/docker.pid")

if os.environ.get("TEST_RESTARTS_ENGINE") == "1":

    @pytest.fixture
    def rig(tmp_path: Path) -> Iterator[DockerRig]:
        """A deployer that the Engine starts again, one confirmed commit and its spare."""
        made = DockerRig(tmp_path, DEPLOYER_HEALTHY_TIMEOUT="20")
        try:
            sha = made.commit()
            made.start()
            docker("update", "--restart=unless-stopped", made.container)
            made.until_step(sha, "confirmed")
            made.assert_steady(sha)
            yield made
        finally:
            made.stop()

    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["restarted", "rebooted"])
    def test_one_trader_is_back_after_the_engine_is(rig: DockerRig, number: signal.Signals) -> None:
        """All containers die with the Engine, gently or not, both colors among them: a deploy is under way.

        When it is back, one bot of the confirmed commit trades with its spare; nothing is lost.
        """
        sha = rig.git("rev-parse", "HEAD")
        candidate = rig.commit("sick")

        def both_colors() -> bool:
            documents = [seen.document for seen in rig.living() if seen.document is not None]
            return {sha, candidate} == {one.sha for one in documents} and len({one.color for one in documents}) == 2

        until("both colors run", both_colors)
        polls = rig.count("SELECT count(*) FROM polls_completed")
        dead = {seen.id for seen in rig.living()}
        pids = docker("inspect", "--format={{.State.Pid}}", rig.container, *rig.units()).split()
        engine = int(PID_FILE.read_text())
        os.kill(engine, number)
        if number is signal.SIGKILL:
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
        until("the Engine ended", lambda: not _runs(engine))
        until("the bots ended", lambda: not rig.living())
        subprocess.run([ROOT / ".ci" / "docker-engine"], check=True, capture_output=True, timeout=120)
        assert rig.until_verdict(candidate).verdict == "failed"
        rig.assert_steady(sha, limit_s=60)
        until("polls go on", lambda: rig.count("SELECT count(*) FROM polls_completed") > polls + 3)
        assert not dead & {seen.id for seen in rig.living()}
        assert [deploy.sha for deploy in rig.history().deploys] == [sha, candidate]
        rig.assert_ledger()


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
