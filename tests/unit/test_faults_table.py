"""The table of faults (docs/reference/faults.md): each of its rows names tests that exist; and a skip hides none of them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.forked import ROOT

TABLE = ROOT / "docs" / "reference" / "faults.md"
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", TABLE.read_text(), re.MULTILINE)


def test_the_table_has_every_fault_once() -> None:
    """Twenty-four, in their order."""
    assert [int(number) for number, _ in ROWS] == list(range(1, 25))


@pytest.mark.parametrize(("number", "row"), ROWS, ids=[number for number, _ in ROWS])
def test_every_test_that_a_row_names_exists(number: str, row: str) -> None:
    """A test that is renamed or removed takes its row along."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
    assert named, "a fault without a test"
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert not missing


@pytest.mark.parametrize(("is_required", "outcome"), [(True, "failed"), (False, "skipped")])
def test_a_skip_is_a_failure_where_all_is_required(
    monkeypatch: pytest.MonkeyPatch, is_required: bool, outcome: str
) -> None:
    """REQUIRE_ALL=1 forbids skips, says why, and is what CI runs with."""
    monkeypatch.setattr(conftest, "REQUIRE_ALL", is_required)
    report = SimpleNamespace(skipped=True, outcome="skipped", longrepr=("file", 1, "Skipped: no Engine"))
    conftest._forbid(report)
    assert report.outcome == outcome
    assert "no Engine" in str(report.longrepr)
    assert "REQUIRE_ALL=1 make test" in (ROOT / ".ci" / "run").read_text()
