"""Handover: which instance should hold the lease. Written by the deployer, obeyed by the instances."""

from __future__ import annotations

from typing import ClassVar

from bus import documents
from bus.clock import Clock
from bus.documents import Document, Stamp
from bus.errors import DocumentMissingError
from bus.layout import Bus


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
    documents.write(bus.handover, handover, Stamp(writer, sequence, clock.wall_ms()), durable=True)
