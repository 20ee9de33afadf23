"""The record of writes: `writes.jsonl` on the bus, a JSON object a line, only appended.

Who, when, from where, what was asked, and the parts of control that changed, before and after.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bus import Bus, Control, append_durably, open_regular

SCHEMA = "1.1"
MAX_TAIL = 256 << 10  # bytes


class Write(BaseModel):
    """One write of control, or one request to the deployer. time_ms: UTC. origin: where it came from.

    generation: the one that it made, 0 for a request. manual: the ids of the manual actions that it brought. request: the id of
    the request to the deployer.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    time_ms: int
    generation: int
    action: str
    by: str
    origin: str
    before: dict[str, Any]
    after: dict[str, Any]
    manual: tuple[str, ...] = ()
    request: str = ""


def writes_file(bus: Bus) -> Path:
    """Where the record is."""
    return bus.writes


def difference(before: Control, after: Control) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs between two controls, by field, within tables by name; generation and author left out."""
    old, new = (control.model_dump(mode="json", exclude={"generation", "by"}) for control in (before, after))
    for table in ("slots", "risk", "strategy"):
        old[table], new[table] = _differing(old[table], new[table])
    return _differing(old, new)


def append_write(bus: Bus, write: Write) -> None:
    """Add one line and wait until it is on the disk. Raises OSError."""
    line = json.dumps({"schema": SCHEMA, **write.model_dump(mode="json")}, ensure_ascii=False)
    append_durably(writes_file(bus), f"{line}\n".encode())


def read_writes(bus: Bus, most: int) -> list[Write]:
    """The newest writes, newest first; torn lines are left out. Raises OSError."""
    try:
        with os.fdopen(open_regular(writes_file(bus), os.O_RDONLY), "rb") as file:
            file.seek(max(0, file.seek(0, 2) - MAX_TAIL))
            lines = file.read(MAX_TAIL).split(b"\n")
    except FileNotFoundError:
        return []
    writes: list[Write] = []
    for line in reversed(lines):
        if len(writes) == most:
            break
        try:
            writes.append(Write.model_validate_json(line))
        except ValidationError:  # torn by a power cut, or cut at the start of the tail
            continue
    return writes


def _differing(old: dict[str, Any], new: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: old.get(name) for name in names}, {name: new.get(name) for name in names}
