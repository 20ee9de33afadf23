"""Dashboards, rules and tables are what the code makes, and the dashboards are clean."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from monitoring.alerts import ALERTS
from monitoring.dashboards import DASHBOARDS
from monitoring.files import METRICS, RULES, made, registries
from monitoring.recording import RECORDINGS

ROOT = Path(__file__).resolve().parents[3]
_WORD = re.compile(r"\b(?:bot|deployer|panel|paper|never_sleeps)[_:][a-z0-9_:]+")
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


def test_the_committed_files_are_what_the_code_makes() -> None:
    """Rules, dashboards, runbook and table of metrics on disk equal what `python -m monitoring` writes."""
    differing = [path for path, text in made().items() if (ROOT / path).read_text() != text]
    assert differing == [], "run `python -m monitoring` and commit"
    folder = ROOT / "volumes" / "grafana" / "dashboards"
    assert {path.name for path in folder.glob("*.json")} == set(DASHBOARDS)


def test_the_table_of_metrics_has_all_and_nothing_else() -> None:
    """Each metric that a process exports has one line in docs/metrics.md, with its labels, and no line is of something else."""
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / METRICS).read_text(), re.MULTILINE))
    exported = {
        family.name + _ENDINGS.get(family.type, ("",))[0] * (family.type in ("counter", "info"))
        for registry in registries().values()
        for family in registry.collect()
    }
    assert listed == exported
    assert all(family.documentation for registry in registries().values() for family in registry.collect())


def test_every_metric_that_is_asked_for_exists() -> None:
    """No rule, panel or annotation names a metric that no process exports and no rule records."""
    known = {rule.name for rule in RECORDINGS}
    for registry in registries().values():
        for family in registry.collect():
            known |= {family.name + ending for ending in _ENDINGS.get(family.type, ("",))}
    asked = [rule.expr for rule in RECORDINGS] + [alert.expr for alert in ALERTS]
    for make in DASHBOARDS.values():
        board = make()
        asked += [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
        asked += [annotation["expr"] for annotation in board["annotations"]["list"]]
    unknown = {name for expr in asked for name in _WORD.findall(expr)} - known
    assert unknown == set()


@pytest.mark.parametrize("name", list(DASHBOARDS))
def test_a_dashboard_is_clean(name: str) -> None:
    """Data source by variable, title, description and unit everywhere, rates over $__rate_interval, unique ids, no overlap."""
    board: dict[str, Any] = DASHBOARDS[name]()
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["uid"]
    assert board["description"]
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    for shown in panels:
        assert shown["title"], shown
        assert shown["description"].endswith("."), shown["title"]
        assert shown["fieldConfig"]["defaults"]["unit"], shown["title"]
        references = [target["refId"] for target in shown["targets"]]
        assert references, shown["title"]
        assert len(set(references)) == len(references), shown["title"]
        for target in shown["targets"]:
            assert target["datasource"]["uid"] == shown["datasource"]["uid"] == "${datasource}", shown["title"]
            for window in re.findall(r"\brate\([^[]*\[([^]]+)\]", target["expr"]):
                assert window == "$__rate_interval", shown["title"]
    for one, other in combinations(board["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert all(p["gridPos"]["x"] >= 0 and p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in board["panels"])
    assert all(annotation["datasource"]["uid"] == "${datasource}" for annotation in board["annotations"]["list"])


def test_dashboards_are_told_apart_and_the_first_thing_shown_is_who_trades() -> None:
    """Each dashboard has a uid of its own; each of those about trading shows who trades before any chart."""
    boards = {name: make() for name, make in DASHBOARDS.items()}
    assert len({board["uid"] for board in boards.values()}) == len(boards)
    first = [panel["title"] for panel in boards["continuity.json"]["panels"] if panel["type"] == "stat"]
    assert first[:5] == ["Trades", "Trades since", "Polls missed", "Last handover's gap", "In doubt"]


def test_every_alert_has_its_line_in_the_runbook() -> None:
    """The link of each alert leads to a heading that is there."""
    text = (ROOT / "docs" / "runbook.md").read_text()
    headings = {line.removeprefix("## ").lower() for line in text.splitlines() if line.startswith("## ")}
    links = re.findall(r"runbook: \"docs/runbook.md#(\w+)\"", (ROOT / RULES).read_text())
    assert sorted(links) == sorted(headings) == sorted(alert.name.lower() for alert in ALERTS)


def test_the_json_is_read_back_as_it_was_made() -> None:
    """What is committed is plain JSON without NaN."""
    for name in DASHBOARDS:
        path = ROOT / "volumes" / "grafana" / "dashboards" / name
        json.loads(path.read_text(), parse_constant=pytest.fail)


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
