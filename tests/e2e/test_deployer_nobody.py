"""Nobody trades, for real: the confirmed commit cannot be built again."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from bus import Step
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import log_lines, until

pytestmark = pytest.mark.timeout(900)
WHY = "no way to the packages"


def test_why_nobody_trades_is_said_alike_by_status_history_metric_and_log(tmp_path: Path) -> None:
    """Its tree is gone and the build fails: everything gives the one reason, and says when it is over."""
    rig = DeployerRig(tmp_path)
    try:
        sha = rig.commit()
        rig.start()
        rig.assert_steady(sha, limit_s=180)
        assert rig.command("down", "--yes").returncode == 0
        shutil.rmtree(rig.folder / "run" / "trees")
        rig.environment["DEPLOYER_CHECK"] = f"-c 'raise SystemExit(\"{WHY}\")'"
        rig.start()

        def why() -> Step | None:
            step = rig.history().nobody
            return step if step is not None and WHY in step.text else None

        nobody = until("it is said", why, 180)
        assert nobody.text.startswith(f"{sha[:7]} cannot be run: the build failed")
        said = f"nobody trades: {nobody.text}"
        status = json.loads(rig.command("status", "--json").stdout)
        assert (status["trading"], status["nobody"], status["problem"]) == (None, nobody.text, said)
        assert f"trades    nobody: {nobody.text}" in rig.command("status").stdout
        assert rig.command("history").stdout.startswith(said)
        lines = log_lines(rig.log)
        assert [line["reason"] for line in lines if line["event"] == "nobody_trades"][-1] == nobody.text
        address = next(line["metrics"] for line in reversed(lines) if line["event"] == "watching")

        def problem() -> bool:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
                return "deployer_problem 1.0" in answer.read().decode()

        until("the metric says so", problem)
        del rig.environment["DEPLOYER_CHECK"]
        assert rig.command("down", "--yes").returncode == 0
        rig.start()
        rig.assert_steady(sha, limit_s=180)
        until("it is over", lambda: rig.history().nobody is None)
        assert json.loads(rig.command("status", "--json").stdout)["trading"] is not None
    finally:
        rig.stop()
