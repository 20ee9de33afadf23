"""The whole of it under a real Prometheus: paper, panel, a deployer with real bots, and the project's own configuration."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from bus import write_control
from bus.clock import SystemClock
from tests.e2e.deployer_rig import GIT, DeployerRig
from tests.e2e.rig import ROOT, Paper, end, log_lines, start, until
from tests.forked import Forked

PROMETHEUS = ROOT / "volumes" / "prometheus"
Result = list[dict[str, Any]]


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
            DEPLOYER_HEALTHY_TIMEOUT="100",
            DEPLOYER_STUCK_AFTER="8",
            DEPLOYER_CHECK="-c pass",  # it only takes time
            **settings,
        )
        self.panel: Forked | None = None
        self.prometheus: Prometheus

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
        self.prometheus = Prometheus(
            self.folder, {"deployer:9102": deployer, "panel:8701": panel, "paper:8700": self.paper.url}
        )

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def commit_bot(self) -> str:
        """Commit this tree's bot with one more line; returns the sha."""
        self._commits += 1
        for package in ("bus", "bot", "paper"):
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


class Prometheus:
    """Debian's Prometheus with the committed configuration; only addresses and intervals are others."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        home = folder / "prometheus"
        shutil.copytree(PROMETHEUS / "rules", home / "rules")
        text = (PROMETHEUS / "prometheus.yml").read_text()
        for name, address in addresses.items():
            assert name in text, f"{name} is not in prometheus.yml any more"
            text = text.replace(name, address.removeprefix("http://"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        text = text.replace("localhost:9090", f"127.0.0.1:{port}")
        text = re.sub(r"(scrape_interval|evaluation_interval|scrape_timeout): \S+", r"\1: 1s", text)
        text = text.replace("targets/bots.json", str(folder / "run" / "targets" / "bots.json"))
        (home / "prometheus.yml").write_text(text)
        self.log = folder / "prometheus.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=info", "--log.format=json"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until("prometheus is ready", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one of its answers; an error of the query fails the test with its words."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expr: str) -> Result:
        """The series of an expression now."""
        result: Result = self.get("query", query=expr)["result"]
        return result

    def value(self, expr: str) -> float | None:
        """The value of an expression that gives one series, or None."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None

    def stop(self) -> None:
        """End it."""
        end(self.process)


__all__ = ["MonitoredRig", "Prometheus"]
