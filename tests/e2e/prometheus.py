"""A real Prometheus (Debian's) with the committed configuration, what it is asked, and what must hold of its answers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.docker_engine import BASE, docker
from tests.e2e.rig import end, until
from tests.unit.monitoring.files import PROMETHEUS, queries

Result = list[dict[str, Any]]

JOBS = {"bot", "deployer", "panel", "paper", "prometheus"}
# What is empty while all is well, or until something rare happened.
MAY_BE_EMPTY = (
    "never_sleeps:order_", "bot_order_", "bot_ledger_wins", "bot_entries_closed) > 0", 'status!="2xx"', "paper_faults_armed",
    'result="failed"', 'result="cancelled"',
)  # fmt: skip


class Prometheus:
    """One that runs, at `url`."""

    url: str

    def answers(self) -> bool:
        """Whether it is ready to be asked."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one of its answers; an error of the query fails the test with its words."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
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

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {rule["name"] for rule in self._rules() if rule.get("state") == "firing"}

    def fired(self) -> set[str]:
        """The alerts that fired since it runs."""
        found = self.query('count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[2h]))')
        return {series["metric"]["alertname"] for series in found}

    def assert_rules_evaluate(self) -> None:
        """Every rule is evaluated without error."""
        until(
            "every rule was evaluated", lambda: all(rule["health"] != "unknown" for rule in self._rules()), every_s=0.3
        )
        assert [(rule["name"], rule["lastError"]) for rule in self._rules() if rule["health"] != "ok"] == []

    def assert_all_are_up(self) -> None:
        """Every job has targets, all of them answer, and a bot is known by its place."""

        def all_up() -> bool:
            up = self.query("up")
            return {found["metric"]["job"] for found in up} == JOBS and all(found["value"][1] == "1" for found in up)

        until("all targets are up", all_up, every_s=0.3)
        places = {found["metric"]["instance"] for found in self.query('up{job="bot"}')}
        assert all(re.fullmatch(r"(blue|green)-[1-9]", place) for place in places), places

    def assert_queries_answer(self, rate_interval: str) -> None:
        """Each query of each dashboard: no error, series where something must be, the labels that its legend names."""
        for query in queries():
            optional = any(part in query.expr for part in MAY_BE_EMPTY)
            asked = query.expr.replace("$__rate_interval", rate_interval)

            def answered(asked: str = asked, optional: bool = optional) -> bool:
                return bool(self.query(asked)) or optional

            until(f"an answer to {query.where}: {asked}", answered, every_s=0.3)
            found = self.query(asked)
            for label in re.findall(r"{{(\w+)}}", query.legend):
                assert all(label in series["metric"] for series in found), (query.where, query.expr, label)

    def _rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


class PrometheusProcess(Prometheus):
    """On this machine; only addresses and intervals are others than in the committed configuration."""

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
        text = text.replace("/targets/bots.json", str(folder / "run" / "targets" / "bots.json"))
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
        return self.answers()

    def stop(self) -> None:
        """End it."""
        end(self.process)


class PrometheusContainer(Prometheus):
    """As compose.yaml has it, on the same networks with the same folder and user, the configuration unchanged.

    Its image is a stand-in: this machine's binary in the base image.
    """

    def __init__(self, name: str, networks: Sequence[str], checkout: Path) -> None:
        self.name = name
        network, *others = networks
        binary = shutil.which("prometheus")
        assert binary is not None, "prometheus is missing (Debian: prometheus)"
        docker(
            *("run", "--detach", f"--name={name}", f"--network={network}", "--network-alias=prometheus"),
            *("--user=65534:65534", "--read-only", "--tmpfs=/prometheus:mode=1777", "--cap-drop=ALL"),
            *(
                f"--volume={checkout / 'monitoring' / 'prometheus'}:/etc/prometheus:ro",
                f"--volume={binary}:/bin/prometheus:ro",
            ),
            f"--volume={checkout / '.run' / 'deployer' / 'targets'}:/targets:ro",
            *("--publish=127.0.0.1:0:9090", "--entrypoint=/bin/prometheus", BASE),
            *("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"),
        )
        for other in others:
            docker("network", "connect", other, name)
        self.url = f"http://{docker('port', name, '9090/tcp').splitlines()[0]}"
        until("prometheus is ready", self._listens, every_s=0.1)

    def _listens(self) -> bool:
        assert docker("inspect", "--format={{.State.Running}}", self.name) == "true", docker("logs", self.name)
        return self.answers()

    def stop(self) -> None:
        """Remove it."""
        docker("rm", "--force", "--volumes", self.name, check=False)
