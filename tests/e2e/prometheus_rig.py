"""The whole of it under a real Prometheus: paper, panel, a deployer with real bots, and the project's own configuration."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bus import write_control
from bus.clock import SystemClock
from tests.e2e.deployer_rig import GIT, DeployerRig
from tests.e2e.prometheus import PrometheusProcess
from tests.e2e.rig import ROOT, Paper, end, log_lines, start, until
from tests.forked import Forked


class MonitoredRig(DeployerRig):
    """A deployer of this tree's own bot at polls of half a second, a panel, a paper exchange, and Prometheus on all of them."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.paper = Paper(folder)
        self.key = secrets.token_hex(32)
        self.key_file = folder / "planted.key"
        self.key_file.touch(0o600)
        self.key_file.write_text(f"0x{self.key}\n")
        super().__init__(
            folder,
            BOT_PAPER_URL=self.paper.url,
            BOT_KEY_FILE=str(self.key_file),
            BOT_POLL_INTERVAL="0.5",
            BOT_TIMEFRAMES="10s,30s",
            BOT_BASIS_AFTER="2",
            BOT_REQUESTS_PER_SECOND="30",
            DEPLOYER_HEALTHY_TIMEOUT="100",
            DEPLOYER_STUCK_AFTER="8",
            DEPLOYER_CHECK="-c pass",  # it only takes time
            **settings,
        )
        self.panel: Forked | None = None
        self.prometheus: PrometheusProcess

    def begin(self) -> None:
        """Start everything; `stop` ends what was started, whatever failed."""
        write_control(self.bus, 0, lambda control: control, by="test", clock=SystemClock())
        self.panel = start(
            "panel",
            {"BUS_DIR": str(self.bus.directory), "PANEL_PORT": "0", "PANEL_TOKEN_FILE": str(self.folder / "token")},
            self.folder / "panel.log",
        )
        panel = self._line("panel.log", "listening")["url"]
        self.commit_bot()
        self.start()
        deployer = self._line("deployer.log", "watching")["metrics"]
        self.prometheus = PrometheusProcess(
            self.folder, {"deployer:9102": deployer, "panel:8701": panel, "paper:8700": self.paper.url}
        )

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def commit_bot(self) -> str:
        """Commit this tree's bot with one more line; returns the sha."""
        self._commits += 1
        for package in ("recording", "bus", "ledger", "bot", "paper"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, self.repository / package, ignore=ignored, dirs_exist_ok=True)
        (self.repository / "number").write_text(str(self._commits))
        self.git("add", "-A")
        subprocess.run(
            [*GIT, "commit", "--quiet", "-m", f"commit {self._commits}"], cwd=self.repository, check=True, timeout=30
        )
        return self.git("rev-parse", "HEAD")

    def _line(self, log: str, event: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            path = self.folder / log
            assert self.panel is None or self.panel.poll() is None, (self.folder / "panel.log").read_text()[-2000:]
            return (
                next((line for line in log_lines(path) if line.get("event") == event), None) if path.exists() else None
            )

        return until(f"{event} in {log}", look)

    def stop(self) -> None:
        """End everything."""
        if hasattr(self, "prometheus"):
            self.prometheus.stop()
        super().stop()
        if self.panel is not None:
            end(self.panel)
        self.paper.stop()
