"""The dashboards are clean, and in the form that Grafana itself exports."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from tests.unit.monitoring.files import dashboards

BOARDS = dashboards()


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


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
