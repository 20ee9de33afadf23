"""Two releases on one bus: the documents of each release so far are frozen here and must stay readable.

Never change a frozen file. A release that adds fields adds a folder.
"""

import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bus import (
    Bus,
    Control,
    Document,
    Handover,
    Instance,
    Mode,
    Request,
    Role,
    Status,
    append_step,
    read_control,
    read_steps,
    write_control,
)
from bus.documents import _checksum, decode, encode
from ledger import LastState, Ledger
from tests.unit.bus.frozen import IDENTITY, FrozenClock, complete, take

FOLDER = Path(__file__).parent / "releases"
RELEASES = sorted(path.name for path in FOLDER.iterdir())
KINDS: dict[str, type[Document]] = {
    "control": Control,
    "handover": Handover,
    "instance": Instance,
    "request": Request,
    "status": Status,
}


def added_everywhere(value: Any) -> Any:
    """The same JSON with one more field in every object, as a later minor version would write it."""
    if isinstance(value, dict):
        return {key: added_everywhere(part) for key, part in value.items()} | {"added_later": {"any": [1, None, "x"]}}
    return [added_everywhere(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", KINDS)
def test_documents_of_earlier_releases_are_read_whole(release: str, name: str) -> None:
    """Every field of a document that an earlier release wrote is read, and means the same."""
    frozen = (FOLDER / release / f"{name}.json").read_bytes()
    read = decode(frozen, KINDS[name], name)
    assert _within(json.loads(frozen)["body"], json.loads(encode(read.body, read.stamp))["body"])
    assert not read.body.model_extra, "a field was removed or renamed: that is a new major version"


def test_a_control_of_release_1_0_says_what_it_said(bus: Bus) -> None:
    """The first release's control is followed in its meaning, and the next write is based on it."""
    shutil.copy(FOLDER / "1.0" / "control.json", bus.control)
    control = read_control(bus)
    assert (control.generation, control.mode, control.risk.max_order) == (12, Mode.PAUSE, Decimal(25))
    assert control.slots["BTC-5m"].max_order == Decimal("12.50")
    assert control.strategy == {"min_edge": 0.03, "confirmations": 2, "name": "snipe", "exits": True}
    after = write_control(bus, 12, lambda c: c.model_copy(update={"mode": Mode.RUN}), by="me", clock=FrozenClock())
    assert (after.generation, after.manual) == (13, control.manual)


@pytest.mark.parametrize("name", ["handover", "instance", "request", "status"])
def test_documents_of_the_next_minor_version_are_read(name: str) -> None:
    """A document with more fields in every object, written as 1.1, is read here, and its known fields mean the same."""
    content = json.loads((FOLDER / "1.0" / f"{name}.json").read_bytes())
    old = decode(json.dumps(content).encode(), KINDS[name], name)
    content["schema"], content["body"] = "1.1", added_everywhere(content["body"])
    del content["checksum"]
    content["checksum"] = _checksum(content)
    new = decode(json.dumps(content).encode(), KINDS[name], name)
    for field in KINDS[name].model_fields:
        known, found = getattr(old.body, field), getattr(new.body, field)
        assert _without_added(found) == _without_added(known), field
    kept = json.loads(encode(new.body, new.stamp))["body"]
    assert _within(content["body"], kept), "what this release does not know is kept"


def _within(old: Any, new: Any) -> bool:
    """Whether all that `old` says stands in `new`, too; objects of `new` may have further fields."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and _within(part, new[key]) for key, part in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(_within, old, new))
    return bool(old == new)


def _without_added(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, dict):
        return {key: _without_added(part) for key, part in value.items() if key != "added_later"}
    return [_without_added(part) for part in value] if isinstance(value, tuple | list) else value


def test_the_history_of_release_1_0_is_read_and_goes_on(bus: Bus) -> None:
    """Steps of an earlier release and of a later one, with fields not known here, stand in one history."""
    shutil.copy(FOLDER / "1.0" / "deploys.jsonl", bus.deploys)
    frozen = read_steps(bus)
    assert [step.step for step in frozen] == ["queued", "taken"]
    assert frozen[1].data["missed"] == 0
    later = frozen[1].model_copy(update={"deploy": "1790000000123-fffffff", "added_later": 1})
    append_step(bus, later)
    assert [step.deploy for step in read_steps(bus)] == [*(step.deploy for step in frozen), "1790000000123-fffffff"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_ledgers_tables_only_grow(release: str, tmp_path: Path) -> None:
    """Every table and column that a release relies on is still there, with its type."""
    shape = json.loads((FOLDER / release / "ledger.json").read_text())
    with Ledger.hold(tmp_path / "ledger.db", IDENTITY) as ledger:
        for table, columns in shape.items():
            found = {row[1]: row[2] for row in ledger.execute(f"PRAGMA table_info({table})")}
            assert columns.items() <= found.items(), table


def test_a_ledger_of_a_release_without_states_in_its_releases_is_read_and_goes_on(tmp_path: Path) -> None:
    """It is read before any holder of this release opened it; afterwards either release writes its rows there."""
    path = tmp_path / "ledger.db"
    with Ledger.hold(path, IDENTITY) as ledger:
        ledger.execute("ALTER TABLE releases DROP COLUMN state")
        take(ledger)
        ledger.claim(5_000, 1, 3)
        complete(ledger, 5_000, 1)
    reader = Ledger.reader(path, IDENTITY)
    assert reader is not None
    with reader:
        assert reader.last_state() == LastState("{}", 3, "b")
    with Ledger.hold(path, IDENTITY) as ledger:
        of_the_former = (
            "INSERT INTO releases(epoch, request, reason, wall_ms, boot_ms) VALUES (1, 'r', 'handover', 1, 4)"
        )
        ledger.execute(of_the_former)
        assert ledger.last_state() == LastState("{}", 3, "b")
        ledger.release(take(ledger), request="", reason="stopped", wall_ms=1, boot_ms=5, state="passed on")
        assert ledger.last_state() == LastState("passed on", 5, "b")


def test_an_instance_with_a_role_of_a_later_major_is_seen_alive_without_a_document(bus: Bus) -> None:
    """A word that is not known here is a new major version: the document is refused, never half understood."""
    content = json.loads((FOLDER / "1.0" / "instance.json").read_bytes())
    assert decode(json.dumps(content).encode(), Instance, "i").body.role is Role.ACTIVE
    content["body"]["role"] = "hovering"
    del content["checksum"]
    content["checksum"] = _checksum(content)
    with pytest.raises(Exception, match="role: Input should be"):
        decode(json.dumps(content).encode(), Instance, "i")


def test_a_newer_ledger_schema_is_refused(tmp_path: Path) -> None:
    """A ledger of a newer major version, or one whose version is no version, is not written to."""
    for value, says in (("2.0", "run a newer release"), ("x", "expected a schema such as")):
        path = tmp_path / value / "ledger.db"
        path.parent.mkdir()
        with Ledger.hold(path, IDENTITY) as ledger:
            take(ledger)
            ledger.execute("DROP TRIGGER meta_no_update")
            ledger.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (value,))
        for opening in (Ledger.hold, Ledger.reader):
            with pytest.raises(Exception, match=says):
                opening(path, IDENTITY)
