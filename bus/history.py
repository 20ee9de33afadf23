"""The history of deploys: `deploys.jsonl`, a JSON object a line, only appended, by the deployer alone."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import Any

from pydantic import Field

from bus.documents import Part, append_durably, open_regular
from bus.errors import DocumentCorruptError
from bus.layout import Bus

SCHEMA = "1.0"
MAX_TAIL = 4 << 20
UNCHANGED = "unchanged"
_SHA, _UNIT = re.compile(r"[0-9a-f]{0,64}"), re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Step(Part):
    """One line: a step of a deploy, or the answer to a request.

    step: queued, building, built, starting, started, healthy, handover, taken, confirmed, retired, taken-back, failed,
    cancelled, answered ... text: a sentence for people. ms: since the deploy began.
    """

    deploy: str
    step: str
    time_ms: int
    sha: str = ""
    by: str = ""
    text: str = ""
    ms: int | None = None
    request: str = ""
    instance: str = ""
    data: dict[str, Any] = Field(default_factory=dict)

    @property
    def word(self) -> str:
        """Its name for people. A deploy that changes nothing that runs ends as `unchanged`.

        In the file that is a `cancelled`: releases that know no other word take the deploy for ended as well.
        """
        return UNCHANGED if self.step == "cancelled" and self.data.get(UNCHANGED) else self.step


def append_step(bus: Bus, step: Step) -> None:
    """Append a line and wait until it is on the disk. Raises OSError: then it is not there, as far as the disk lets it be undone.

    Only whoever holds the deployer's lock may append. A step that others read and its writer takes for never written would be two
    histories: what a person asked for, having read it, was answered from the other one.
    """
    line = json.dumps({"schema": SCHEMA, **step.model_dump(mode="json", exclude_defaults=True)}, ensure_ascii=False)
    # A line torn by a power cut has no newline at its end: start on a new line, so that it spoils nothing but itself.
    prefix = "\n" if _torn(bus) else ""
    before = _size(bus)
    try:
        append_durably(bus.deploys, f"{prefix}{line}\n".encode("utf-8", "replace"))
    except OSError:
        with suppress(OSError):  # the failure that matters is raised below, and the line may stay
            _truncate(bus, before)
        raise


def read_steps(bus: Bus, max_bytes: int = MAX_TAIL) -> list[Step]:
    """The newest steps, oldest first, out of the last `max_bytes`. Torn lines are left out, and forged names.

    Raises DocumentCorruptError when the file cannot be opened.
    """
    try:
        with os.fdopen(open_regular(bus.deploys, os.O_RDONLY), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - max_bytes))
            lines = file.read(max_bytes).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DocumentCorruptError(f"{bus.deploys.name}: cannot be read ({error})") from error
    if size > max_bytes:
        lines = lines[1:]  # the first one is cut
    steps = []
    for line in lines:
        try:
            content = json.loads(line)
            if isinstance(content, dict):
                content.pop("schema", None)
            step = Step.model_validate(content)
        except (ValueError, RecursionError):
            continue
        if _is_sound(step):
            steps.append(step)
    return steps


def _is_sound(step: Step) -> bool:
    """Whether its commit and its unit are names of such: both become paths, and bots of the deployer's account can write here."""
    unit = step.data.get("unit", "")
    return bool(_SHA.fullmatch(step.sha) and isinstance(unit, str) and (not unit or _UNIT.fullmatch(unit)))


def _size(bus: Bus) -> int:
    try:
        return bus.deploys.lstat().st_size
    except FileNotFoundError:
        return 0


def _truncate(bus: Bus, size: int) -> None:
    descriptor = open_regular(bus.deploys, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _torn(bus: Bus) -> bool:
    try:
        with os.fdopen(open_regular(bus.deploys, os.O_RDONLY), "rb") as file:
            if file.seek(0, 2) == 0:
                return False
            file.seek(-1, 2)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False
