"""Documents: what is read back, and what every kind of damage is called."""

import json
from pathlib import Path
from typing import Any

import pytest

from bus import Control, DocumentCorruptError, DocumentError, DocumentMissingError, Stamp
from bus import documents as docs
from bus.documents import decode, encode
from bus.errors import DocumentTooNewError

STAMP = Stamp("panel", 7, 1_790_000_000_123)
CONTROL = Control(generation=7, by="panel")


def edited(change: dict[str, Any], *, seal: bool) -> bytes:
    """The document with some of its outermost fields replaced (None: removed), its checksum made right again if `seal`."""
    content = json.loads(encode(CONTROL, STAMP))
    for key, value in change.items():
        content[key] = value
        if value is None:
            del content[key]
    if seal:
        content.pop("checksum", None)
        content["checksum"] = docs._checksum(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a readable document"),
        (b"\x00" * 512, "not a readable document"),
        (encode(CONTROL, STAMP)[:-40], "not a readable document"),
        (b"\xff\xfe\x00", "not a readable document"),
        (b"[]", "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"[" * 200_000, "not a readable document"),
        (b'{"checksum": ' + b"9" * 5000 + b"}", "not a readable document"),
        (b"{}", "'checksum' is missing"),
        (b" " * (docs.MAX_BYTES + 1), "at most"),
        (encode(CONTROL, STAMP).replace(b'"mode": "run"', b'"mode": "halt"'), "edited by hand"),
        (edited({"writer": "somebody"}, seal=False), "edited by hand"),
        (edited({"checksum": None}, seal=False), "'checksum' is missing"),
        (edited({"kind": "status"}, seal=True), "expected a control document"),
        (edited({"body": {"generation": 7}}, seal=True), "by: Field required"),
        (edited({"body": {"generation": 0, "by": "x"}}, seal=True), "generation: "),
        (edited({"body": {"generation": 7, "by": "x", "mode": "dance"}}, seal=True), "mode: "),
        (edited({"body": []}, seal=True), "body: "),
        (edited({"time": "yesterday"}, seal=True), "not a readable document"),
        (edited({"sequence": []}, seal=True), "not a readable document"),
        (edited({"epoch": "x"}, seal=True), "not a readable document"),
        (edited({"epoch": None}, seal=True), "'epoch' is missing"),
        (edited({"schema": "one"}, seal=True), "expected a schema such as 1.0"),
        (edited({"schema": "0.9"}, seal=True), "reads 1.x only"),
        (encode(CONTROL, STAMP).replace(b'"strategy": {}', b'"strategy": {"a": NaN}'), "NaN is not a number of JSON"),
    ],
)
def test_damage_is_named_and_nothing_else_is_raised(data: bytes, says: str) -> None:
    """Whatever is wrong with a document, its reader gets a DocumentCorruptError that names the file and the fault."""
    with pytest.raises(DocumentCorruptError) as caught:
        decode(data, Control, "control.json")
    assert str(caught.value).startswith("control.json: ")
    assert says in str(caught.value)


def test_a_newer_major_version_is_refused_as_such() -> None:
    """A document of a newer major version is called too new even where its shape and its checksum mean nothing here."""
    with pytest.raises(DocumentTooNewError, match=r"version 2\.0, this release reads 1\.x"):
        decode(edited({"schema": "2.0", "body": "who knows"}, seal=False), Control, "control.json")


def test_a_newer_minor_version_is_read_and_its_fields_are_kept() -> None:
    """Fields that this release does not know, at any depth, are read, ignored, and written back."""
    body = CONTROL.model_dump(mode="json") | {"spare_field": [1, {"deep": None}]}
    body["risk"]["max_hour"] = "12.50"
    body["slots"] = {"btc-5m": {"enabled": False, "note": "why"}}
    read = decode(edited({"schema": "1.99", "body": body, "envelope_field": 1}, seal=True), Control, "control.json")
    assert read.stamp == STAMP
    changed = read.body.changed(generation=8, by="panel")
    again = json.loads(encode(changed, STAMP))["body"]
    assert again["spare_field"] == [1, {"deep": None}]
    assert again["risk"]["max_hour"] == "12.50"
    assert again["slots"]["btc-5m"] == {"enabled": False, "max_order": None, "note": "why"}


def test_what_json_cannot_carry_never_makes_a_document_unreadable() -> None:
    """NaN and lone surrogates in a body are replaced on writing, so that every reader of JSON can read the document."""
    odd = CONTROL.model_copy(update={"by": "a\udc80b", "shown": {"nan": float("nan"), "inf": [float("-inf"), 1.5]}})
    written = encode(odd, STAMP)
    assert b"NaN" not in written
    assert b"Infinity" not in written
    body = decode(written, Control, "control.json").body
    assert (body.by, body.model_dump()["shown"]) == ("a?b", {"nan": None, "inf": [None, 1.5]})


def test_a_missing_document_is_told_from_an_unreadable_one(tmp_path: Path) -> None:
    """Nothing there is DocumentMissingError; something there that is no file is DocumentCorruptError."""
    with pytest.raises(DocumentMissingError):
        docs.read(tmp_path / "control.json", Control)
    (tmp_path / "control.json").mkdir()
    with pytest.raises(DocumentCorruptError, match="cannot be read"):
        docs.read(tmp_path / "control.json", Control)
    with pytest.raises(DocumentError):
        docs.read(tmp_path / "nowhere" / "control.json", Control)


def test_a_write_leaves_nothing_beside_the_document(tmp_path: Path) -> None:
    """After writing, and after a write that failed, the directory holds the document alone."""
    path = tmp_path / "control.json"
    docs.write(path, CONTROL, STAMP, durable=True)
    docs.write(path, CONTROL, STAMP, durable=False)
    assert [p.name for p in tmp_path.iterdir()] == ["control.json"]
    blocked = tmp_path / "folder.json"
    (blocked / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        docs.write(blocked, CONTROL, STAMP, durable=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["control.json", "folder.json"]
