"""Documents, by hypothesis: what is written is read back, and no damage goes unnoticed."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bus import (
    Control,
    Document,
    DocumentError,
    Handover,
    Instance,
    Mode,
    Request,
    RiskLimits,
    Role,
    SlotControl,
    SlotStatus,
    Stamp,
    Status,
)
from bus.documents import _checksum, decode, encode

text = st.text(max_size=20)
number = st.integers(-(2**53), 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
money = st.decimals("0.000001", "1e12", allow_nan=False, allow_infinity=False, places=6)
scalar = st.none() | st.booleans() | number | finite | text
some_json = st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
unknown = st.dictionaries(text.map(lambda name: f"x-{name}"), some_json, max_size=3)

controls = st.builds(
    lambda extra, **fields: Control(**fields, **extra),
    unknown,
    generation=st.integers(1, 2**60),
    by=text,
    mode=st.sampled_from(Mode),
    slots=st.dictionaries(text, st.builds(SlotControl, enabled=st.booleans(), max_order=st.none() | money), max_size=3),
    risk=st.builds(RiskLimits, max_order=money, orders_per_minute=st.integers(1, 1000)),
    strategy=st.dictionaries(text, text | number | finite | st.booleans(), max_size=4),
)
instances = st.builds(
    lambda extra, **fields: Instance(**fields, **extra),
    unknown,
    id=text,
    role=st.sampled_from(Role),
    color=text,
    sha=text,
    why_not=st.none() | text,
    polls=number,
    epoch=st.none() | number,
)
handovers = st.builds(Handover, wanted=st.none() | text, request_id=text, retired=st.lists(text, max_size=4).map(tuple))
requests = st.builds(Request, id=text, action=st.sampled_from(["deploy", "rollback", "approve", "cancel"]), by=text)
slots = st.builds(SlotStatus, slot=text, asset=text, timeframe=text, enabled=st.booleans(), strike=finite, pnl=money)
statuses = st.builds(
    Status,
    epoch=number,
    instance=text,
    sha=text,
    color=text,
    since_ms=number,
    interval_ms=number,
    balance=st.none() | money,
    slots=st.lists(slots, max_size=3).map(tuple),
)
documents: st.SearchStrategy[Document] = st.one_of(controls, instances, handovers, requests, statuses)
stamps = st.builds(Stamp, text, st.integers(0, 2**60), st.integers(0, 4 * 10**12), st.none() | number)


@settings(deadline=None)
@given(documents, stamps)
def test_what_is_written_is_read_back(body: Document, stamp: Stamp) -> None:
    """Every document comes back equal, with its stamp and with the fields that this release does not know."""
    read = decode(encode(body, stamp), type(body), "it.json")
    assert read.body == body
    assert read.body.model_extra == body.model_extra
    assert read.stamp == stamp
    assert encode(read.body, read.stamp) == encode(body, stamp)


@settings(deadline=None)
@given(controls, stamps, st.data())
def test_damage_is_noticed_or_harmless(body: Control, stamp: Stamp, data: st.DataObject) -> None:
    """A document cut anywhere, or with any bytes changed, is a DocumentError or still says exactly the same."""
    good = encode(body, stamp)
    at = data.draw(st.integers(0, len(good) - 1))
    replacement = data.draw(st.binary(max_size=4))
    bad = good[:at] if data.draw(st.booleans()) else good[:at] + replacement + good[at + len(replacement) :]
    try:
        read = decode(bad, Control, "control.json")
    except DocumentError:
        return
    assert (read.body, read.stamp) == (body, stamp)


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b'{"checksum":1,"kind":{}}')
@example(b"{" + b'"a":{' * 100_000)
def test_any_bytes_are_a_document_error(data: bytes) -> None:
    """Bytes that nobody wrote as a document raise a DocumentError, whatever they are."""
    try:
        decode(data, Control, "control.json")
    except DocumentError:
        return
    raise AssertionError("read as control")


@settings(deadline=None)
@given(statuses, stamps, st.data())
def test_a_wrong_type_anywhere_is_a_document_error(body: Status, stamp: Stamp, data: st.DataObject) -> None:
    """With a correct checksum and any JSON in the place of any field, reading gives a document or a DocumentError."""
    content: dict[str, Any] = json.loads(encode(body, stamp))
    where = content if data.draw(st.booleans()) else content["body"]
    key = data.draw(st.sampled_from(sorted(where)))
    where[key] = data.draw(some_json)
    del content["checksum"]
    content["checksum"] = _checksum(content)
    try:
        read = decode(json.dumps(content).encode(), Status, "status.json")
    except DocumentError:
        return
    assert isinstance(read.body.totals.pnl, Decimal)
