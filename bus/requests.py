"""Requests to the deployer: one file each, made by the panel and the deployer's own commands."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import ClassVar, Literal

from pydantic import Field

from bus import documents
from bus.clock import Clock
from bus.control import LATEST_MS, MOST_WHY
from bus.documents import Document, Stamp
from bus.errors import DocumentError, DocumentMissingError
from bus.layout import Bus

MAX_OPEN = 100
Action = Literal["deploy", "rollback", "approve", "cancel", "pause", "resume"]
_ID = re.compile(r"[0-9]{13,}-[0-9a-f]{8}")


class Request(Document):
    """One request. ref: a git ref or sha where the action takes one. now: wait for no approval, and for no venue that is down.

    until_ms, why: of a pause: UTC ms from which on it is over (None: when somebody resumes), and the reason for it.
    """

    KIND: ClassVar[str] = "request"
    MINOR: ClassVar[int] = 1

    id: str
    action: Action
    ref: str = ""
    now: bool = False
    by: str
    until_ms: int | None = Field(default=None, ge=0, le=LATEST_MS)
    why: str = Field(default="", max_length=MOST_WHY)


def make_request(
    bus: Bus,
    action: Action,
    *,
    ref: str = "",
    now: bool = False,
    by: str,
    clock: Clock,
    for_s: int | None = None,
    why: str = "",
) -> Request:
    """Put a request on the bus, durably. for_s: of a pause, how long it lasts. Raises OSError."""
    wall_ms = clock.wall_ms()
    until_ms = None if for_s is None else wall_ms + for_s * 1000
    request_id = f"{wall_ms}-{secrets.token_hex(4)}"
    request = Request(id=request_id, action=action, ref=ref, now=now, by=by, until_ms=until_ms, why=why)
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


# Handover: which instance should hold the lease. Written by the deployer, obeyed by the instances.


class Handover(Document):
    """wanted: the named instance, or None. request_id: one request, spent by one yield. deploy_id: why it was made.

    expires_*: boot id and CLOCK_BOOTTIME in ms after which the active instance ignores the request.
    without_venue: the named one may take, and be yielded to, while it waits for the venue's answers and for nothing else.
    retired: instances that shall never take again. confirmed_sha: the commit of the last confirmed deploy.
    """

    KIND: ClassVar[str] = "handover"
    MINOR: ClassVar[int] = 1

    wanted: str | None = None
    request_id: str = ""
    deploy_id: str = ""
    expires_boot_id: str = ""
    expires_boot_ms: int = 0
    without_venue: bool = False
    retired: tuple[str, ...] = ()
    confirmed_sha: str = ""

    def in_force(self, clock: Clock) -> bool:
        """Whether the request is there and not expired."""
        return (
            self.wanted is not None
            and bool(self.request_id)
            and self.expires_boot_id == clock.boot_id
            and clock.boot_ms() < self.expires_boot_ms
        )


def read_handover(bus: Bus) -> Handover:
    """The handover document; an empty one when there is none yet. Raises DocumentCorruptError, DocumentTooNewError."""
    try:
        return documents.read(bus.handover, Handover).body
    except DocumentMissingError:
        return Handover()


def write_handover(bus: Bus, handover: Handover, *, writer: str, sequence: int, clock: Clock) -> None:
    """Write it durably. Raises OSError."""
    stamp = Stamp(writer, sequence, clock.wall_ms())
    documents.write(bus.handover, handover, stamp, durable=True, mirror=bus.directory / bus.handover.name)
