"""The dashboards are clean, and in the form that Grafana itself exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.unit.monitoring.files import dashboards

BOARDS = dashboards()
# What the plugin for Prometheus adds to an annotation; the model of a dashboard leaves a plugin's own fields out.
_OF_PROMETHEUS = ("step", "useValueForTime", "titleFormat", "textFormat", "tagKeys")


def test_the_four_dashboards_are_there_and_told_apart() -> None:
    """Each has a uid and a title of its own."""
    assert set(BOARDS) == {"continuity.json", "trading.json", "market-data.json", "machine.json"}
    for key in ("uid", "title"):
        assert len({board[key] for board in BOARDS.values()}) == len(BOARDS), key


def test_the_first_thing_shown_is_who_trades() -> None:
    """The dashboard of continuity answers it before any chart."""
    first = [panel["title"] for panel in BOARDS["continuity.json"]["panels"] if panel["type"] == "stat"]
    assert first[:5] == ["Trades", "Trades since", "Polls missed", "Last handover's gap", "In doubt"]


@pytest.mark.parametrize("name", list(BOARDS))
def test_a_dashboard_is_clean(name: str) -> None:
    """Data source by variable, title, description and unit everywhere, rates over $__rate_interval, unique ids, no overlap."""
    board: dict[str, Any] = BOARDS[name]
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


@pytest.mark.parametrize("name", list(BOARDS))
def test_a_dashboard_is_what_grafana_exports(name: str) -> None:
    """Read and written again by Grafana's own model it is the same: no field that Grafana does not know, none that it changes."""
    board = BOARDS[name]
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    expected = {
        f"annotations.list.{n}.{key}" for n in range(len(board["annotations"]["list"])) for key in _OF_PROMETHEUS
    }
    assert set(_lost(board, again)) == expected, "fields that Grafana does not know, or changes"
    assert board["schemaVersion"] == Dashboard().schema_version
    assert "id" not in board, "a dashboard's number is its database's; uid is its name here"
    assert "__inputs" not in board, 'export it without "for sharing externally"'
    assert board["editable"] is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"options": {"textMode": "name"}, "type": "bargauge"}, "panels.0.options.textMode"),
        (
            {"targets": [{"datasource": {"type": "prometheus"}, "query": "up"}], "type": "stat"},
            "panels.0.targets.0.query",
        ),
        ({"titel": "x", "type": "stat"}, "panels.0.titel"),
    ],
)
def test_a_field_that_grafana_does_not_know_is_found(change: dict[str, Any], told: str) -> None:
    """The check itself tells the field, in a panel, its options and its queries."""
    register_default_plugins()
    board = {"panels": [change]}
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    assert list(_lost(board, again)) == [told]


def _lost(given: Any, again: Any, path: str = "") -> Iterator[str]:
    """The places whose value is not the same again. What is there in addition is a default, which Grafana adds."""
    if isinstance(given, dict) and isinstance(again, dict):
        for key, value in given.items():
            yield from _lost(value, again.get(key, _lost), f"{path}{key}" if not path else f"{path}.{key}")
    elif isinstance(given, list) and isinstance(again, list) and len(given) == len(again):
        for n, (one, other) in enumerate(zip(given, again, strict=True)):
            yield from _lost(one, other, f"{path}.{n}")
    elif given != again:
        yield path


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
