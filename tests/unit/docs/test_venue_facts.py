"""The table of recorded facts: each row has a test, and each test that it names is there."""

from __future__ import annotations

import re

from tests.unit.docs.test_docs import ROOT

PAGE = ROOT / "docs" / "reference" / "venue-facts.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> list[list[str]]:
    """The cells of each row that is a fact."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| fact ")]


def test_every_fact_has_a_test_that_is_there() -> None:
    """A row names at least one test; a cell that names none says so; the file has a test of that name."""
    assert len(rows()) > 30
    wrong = []
    for fact, *cells in rows():
        named = [_TEST.fullmatch(cell) for cell in cells]
        if not any(named):
            wrong.append(f"{fact}: expected a test, found none")
        wrong += [
            f"{fact}: {cell!r}" for cell, test in zip(cells, named, strict=True) if not test and cell[:4] != "none"
        ]
        for test in filter(None, named):
            file, name = ROOT / test[1], test[2]
            if not file.exists() or (
                name and not re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE)
            ):
                wrong.append(f"{fact}: {test[0]} is not there")
    assert not wrong, "\n".join(wrong)
