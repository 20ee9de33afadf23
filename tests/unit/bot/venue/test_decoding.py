"""The boundary: documents within bounds, values within bounds, and what is odd costs itself alone."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.decoding import (
    Code,
    OddError,
    Origin,
    Skips,
    Unreadable,
    as_decimal,
    as_float,
    as_name,
    as_units,
    as_whole,
    clean,
    decode,
    describe,
    each,
)
from bot.venue.polymarket.answers import classify
from bot.venue.types import Accepted, InDoubt, Refused, VenueError
from ledger.values import Side

LIMIT = 1 << 20
HUGE = "1e1000000"


def test_one_number_or_list_beyond_bounds_costs_itself() -> None:
    """NaN, numbers of a million digits and lists in lists stand for themselves; what is beside them is read."""
    deep = "[" * 5000 + "]" * 5000
    found = decode(f'[NaN, {HUGE}, {"7" * 5000}, {{"a": {deep}}}, {{"b": "[[[[" }}, 1.50, -Infinity]', LIMIT)
    assert isinstance(found, list)
    assert [isinstance(value, Unreadable) for value in found] == [True, True, True, False, False, False, True]
    assert found[4] == {"b": "[" * 4}
    assert found[5] == Decimal("1.50")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("[1", Code.JSON),
        ("", Code.JSON),
        ("[" * 5000, Code.JSON),
        (b"\xff\xfe", Code.JSON),
        ('"' + "x" * LIMIT + '"', Code.SIZE),
        ("[" + "[]," * 300_000 + "[]]", Code.SIZE),
    ],
)
def test_what_is_no_document_says_so(document: str | bytes, code: Code) -> None:
    """It is a VenueError, which every caller expects, with a code of the closed list and a short text."""
    with pytest.raises(OddError) as caught:
        decode(document, LIMIT)
    assert isinstance(caught.value, VenueError)
    assert caught.value.code is code
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", [HUGE, "1e-1000000", "NaN", "sNaN", "Infinity", "", "1_0", " 1", "٣", [], {}, None, True, Unreadable("9")]
)
def test_no_such_thing_is_a_number(value: Any) -> None:
    """Not as exact number, not as float, not as base units, and it is described in a few words."""
    for read in (
        lambda: as_decimal(value, "x", 0, 1000),
        lambda: as_float(value, "x", 0, 1000),
        lambda: as_units(value, "x"),
        lambda: as_whole(value, "x", 0, 1000),
    ):
        with pytest.raises(OddError, match=r"^x: expected a .*number.*, found"):
            read()


@pytest.mark.parametrize("value", ["", "a b", "\ud800", "a\x00", "x" * 5000, ["a"], None, 7])
def test_no_such_thing_is_a_name(value: Any) -> None:
    """Halves of characters and zero bytes among them: a database refuses them, far from here."""
    with pytest.raises(OddError):
        as_name(value, "id")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.binary() | st.text() | json_values.map(json.dumps))
def test_whatever_comes_is_a_value_or_odd(data: bytes | str) -> None:
    """Decoding raises nothing but OddError, and any value can be described and cleaned."""
    try:
        found = decode(data, LIMIT)
    except OddError:
        return
    assert len(describe(found)) < 400
    clean(describe(found)).encode()


def test_one_odd_element_of_a_list_costs_itself_and_is_counted() -> None:
    """The others are read; the counts are by origin and code, and a flood is logged ever more rarely."""
    lines: list[dict[str, Any]] = []

    class Noting:
        def warning(self, event: str, /, **fields: Any) -> None:
            lines.append({"event": event, **fields})

    skips = Skips(Noting())  # type: ignore[arg-type]  # only warnings are written
    values: list[object] = [1, "x", 2, None, *["x"] * 1000]
    found = list(
        each(values, "rows", lambda value, where: as_whole(value, where, 0, 9), lambda e: skips.note(Origin.DATA, e))
    )
    assert found == [1, 2]
    assert skips.counts == {(Origin.DATA, Code.NUMBER): 1002}
    assert [line["count"] for line in lines] == [1 << power for power in range(10)]
    assert lines[0]["reason"] == "rows[1]: expected a whole number, found 'x'"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": []},
        {"orderID": ["0x01"]},
        {"orderID": "\ud800"},
        {"takingAmount": HUGE},
        {"takingAmount": "NaN"},
        {"takingAmount": ["5"]},
        {"errorMsg": "\ud800\x00" * 9000},
        {"status": None, "deep": "DEEP"},
    ],
)
def test_no_field_of_an_orders_answer_raises(changes: dict[str, Any]) -> None:
    """Accepted, refused or in doubt, whatever the answer holds, and its text can be written down anywhere."""
    answer = {"success": True, "errorMsg": "", "orderID": "0x01", "status": "live", "takingAmount": "", **changes}
    body = json.dumps(answer).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    for status in (200, 400, 503):
        found = classify(status, body, Side.BUY)
        assert isinstance(found, Accepted | Refused | InDoubt)
        if not isinstance(found, Accepted):
            found.reason.encode()
