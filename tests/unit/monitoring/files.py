"""What the plain files say: rules, dashboards, scrape jobs, runbook and table of metrics, read as their readers read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "monitoring" / "prometheus"
RULES = PROMETHEUS / "rules" / "never-sleeps.yml"
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
METRICS = ROOT / "docs" / "reference" / "metrics.md"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"
_RECORDED = "recorded by Prometheus"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a dashboard. legend: a template that names its series."""

    where: str
    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Section:
    """One alert's section of the runbook. wait: in Prometheus' words, 0s where it says "at once"."""

    name: str
    severity: str
    wait: str
    expr: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table of metrics. labels: the values of each label, None where the table names the label alone."""

    process: str
    name: str
    type: str
    labels: dict[str, tuple[str, ...] | None]
    meaning: str

    def series(self) -> dict[str, frozenset[str]]:
        """The labels of each of its series, by name."""
        endings = ("_bucket", "_sum", "_count") if self.type == "histogram" else ("",)
        return {
            self.name + ending: frozenset(self.labels) | ({"le"} if ending == "_bucket" else set())
            for ending in endings
        }


def rules() -> list[dict[str, Any]]:
    """Every rule, in the order of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def recordings() -> dict[str, str]:
    """The expression of each recorded series."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def alerts() -> dict[str, dict[str, Any]]:
    """The rule of each alert."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def scrape_jobs() -> dict[str, dict[str, Any]]:
    """The scrape configuration of each job."""
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    return {job["job_name"]: job for job in configuration["scrape_configs"]}


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by the name of its file; NaN and Infinity, which are not JSON, fail."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return {
        path.name: json.loads(path.read_text(), parse_constant=refuse) for path in sorted(DASHBOARDS.glob("*.json"))
    }


def queries() -> Iterator[Query]:
    """Every query of every panel and annotation."""
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield Query(f"{name}: {panel['title']}", target["expr"], target["legendFormat"])
        for annotation in board["annotations"]["list"]:
            yield Query(f"{name}: {annotation['name']}", annotation["expr"], annotation["titleFormat"])


def runbook() -> dict[str, Section]:
    """Each section by its heading."""
    found = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {name: _section(name, text) for name, text in zip(found[::2], found[1::2], strict=True)}


def _section(name: str, text: str) -> Section:
    first = re.search(r"^\*(\w+)\*, (?:after (\S+)|at once): `(.+)`$", text, re.MULTILINE)
    assert first is not None, f"{name}: expected a line such as *page*, after 15s: `expression`"
    return Section(name, first[1], first[2] or "0s", first[3], text)


def metrics_table() -> list[Line]:
    """Every line of docs/reference/metrics.md but those of recorded series."""
    return [Line(process, *_cells(row)) for process, row in _rows() if process != _RECORDED]


def recorded_table() -> dict[str, frozenset[str]]:
    """The labels of each recorded series, as docs/reference/metrics.md says."""
    return {row[0].strip("`"): frozenset(_labels(row[1])) for heading, row in _rows() if heading == _RECORDED}


def _rows() -> Iterator[tuple[str, list[str]]]:
    heading = ""
    for line in METRICS.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| `"):
            yield heading, [cell.strip() for cell in line.strip("|").split("|")]


def _cells(row: list[str]) -> tuple[str, str, dict[str, tuple[str, ...] | None], str]:
    name, kind, labels, meaning = row
    return name.strip("`"), kind, _labels(labels), meaning


def _labels(cell: str) -> dict[str, tuple[str, ...] | None]:
    found: dict[str, tuple[str, ...] | None] = {}
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        label, _, values = part.partition(": ")
        found[label] = tuple(values.split(", ")) if values else None
    return found
