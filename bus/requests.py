"""Requests to the deployer: one file each, made by the panel and the deployer's own commands."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import ClassVar, Literal

from bus import documents
from bus.clock import Clock
from bus.documents import Document, Stamp
from bus.errors import DocumentError
from bus.layout import Bus

MAX_OPEN = 100
Action = Literal["deploy", "rollback", "approve", "cancel", "pause", "resume"]
_ID = re.compile(r"[0-9]{13,}-[0-9a-f]{8}")


class Request(Document):
    """One request. ref: a git ref or sha where the action takes one. now: wait for no approval, and for no venue that is down."""

    KIND: ClassVar[str] = "request"

    id: str
    action: Action
    ref: str = ""
    now: bool = False
    by: str


def make_request(
    bus: Bus,
    action: Action,
    *,
    ref: str = "",
    now: bool = False,
    by: str,
    clock: Clock,
) -> Request:
    """Put a request on the bus, durably. Raises OSError."""
    request = Request(id=f"{clock.wall_ms()}-{secrets.token_hex(4)}", action=action, ref=ref, now=now, by=by)
    documents.write(bus.requests / f"{request.id}.json", request, Stamp(by, 0, clock.wall_ms()), durable=True)
    return request


def read_requests(bus: Bus) -> tuple[list[Request], dict[str, str]]:
    """Open requests, oldest first, and the ids of unreadable ones with what is wrong. At most MAX_OPEN at a time."""
    ids = sorted(path.stem for path in bus.requests.iterdir() if path.suffix == ".json" and _ID.fullmatch(path.stem))
    good: list[Request] = []
    bad: dict[str, str] = {}
    for request_id in ids[:MAX_OPEN]:
        try:
            good.append(documents.read(bus.requests / f"{request_id}.json", Request).body)
        except DocumentError as error:
            bad[request_id] = str(error)
    return good, bad


def remove_request(bus: Bus, request_id: str) -> None:
    """Remove an answered request; the answer stands in the history. Harmless when it is gone."""
    if _ID.fullmatch(request_id):
        with suppress(FileNotFoundError):
            (bus.requests / f"{request_id}.json").unlink()
