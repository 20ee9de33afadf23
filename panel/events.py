"""Pushing changes to pages: one task reads the bus when it changes, every page gets the newest of each kind.

A page that reads slowly skips what is old; nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from bus import Bus, Watch
from panel.audit_log import writes_file
from panel.errors import TooManyPagesError
from panel.ledger_queries import LedgerQueries
from panel.views import Views

MAX_PAGES = 100
PUSH_SPACING_S = 0.05
REFRESH_EVERY_S = 2.0  # without a change: who is alive leaves no trace in files
HEARTBEAT_S = 5.0


class Subscription:
    """What one page has been sent."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.sent: dict[str, int] = {}


class Events:
    """Reads the bus and hands out what changed."""

    def __init__(
        self, bus: Bus, views: Views, history: LedgerQueries, notifications: Callable[[], BaseModel] | None = None
    ) -> None:
        # In this order they are read and pushed. A page that has a status has what its buttons and its verdict need besides.
        self._readers: dict[str, Callable[[], BaseModel]] = {
            "control": views.control,
            "instances": views.instances,
            "status": views.status,
            "deploys": views.deploys,
            "writes": views.writes,
            "ledger": history.summary,
        }
        if notifications is not None:
            self._readers["notifications"] = notifications
        self._bus = bus
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._pages: set[Subscription] = set()
        self._closing = False

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._pages)

    async def run(self) -> None:
        """Read and publish until `close`. What cannot be read is published as a problem, so this does not fail."""
        while not self._closing:
            await self._follow(self._bus.directives)

    async def _follow(self, directives: Path) -> None:
        """As long as what people and the deployer say stands in this folder."""
        watched = _kinds(self._bus)
        with Watch(watched) as watch:
            await self._refresh(set(self._readers))
            refreshed_s = time.monotonic()
            while not self._closing and self._bus.directives == directives:
                changed = await watch.changed(limit_s=REFRESH_EVERY_S / 2)
                kinds = {kind for path in changed for kind in watched[path]}
                if time.monotonic() - refreshed_s >= REFRESH_EVERY_S:
                    kinds, refreshed_s = set(self._readers), time.monotonic()
                await self._refresh(kinds)
                await asyncio.sleep(PUSH_SPACING_S if kinds else 0)

    def close(self) -> None:
        """End all streams and `run`."""
        self._closing = True
        for page in self._pages:
            page.changed.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes of one page's event stream (text/event-stream). Raises TooManyPagesError."""
        with self._subscribed() as page:
            yield b"retry: 1000\n\n"
            while not self._closing:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await page.changed.wait()
                except TimeoutError:
                    yield b": heartbeat\n\n"
                    continue
                page.changed.clear()
                for kind, (version, data) in self._newest.items():
                    if page.sent.get(kind) != version:
                        page.sent[kind] = version
                        yield b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def check_room(self) -> None:
        """Raises TooManyPagesError when one more page cannot be served."""
        if len(self._pages) >= MAX_PAGES:
            raise TooManyPagesError(MAX_PAGES)

    @contextmanager
    def _subscribed(self) -> Iterator[Subscription]:
        self.check_room()
        page = Subscription()
        page.changed.set()
        self._pages.add(page)
        try:
            yield page
        finally:
            self._pages.discard(page)

    async def _refresh(self, kinds: set[str]) -> None:
        for kind, reader in self._readers.items():
            if kind not in kinds:
                continue
            data = (await asyncio.to_thread(reader)).model_dump_json().encode()
            version, old = self._newest.get(kind, (0, b""))
            if data != old:
                self._newest[kind] = (version + 1, data)
                for page in self._pages:
                    page.changed.set()


def _kinds(bus: Bus) -> dict[Path, tuple[str, ...]]:
    """What is to be read again where a path changed."""
    return {
        bus.status: ("status",),
        bus.control: ("control",),
        bus.halt: ("control",),
        bus.kept_halt: ("control",),
        bus.instances: ("instances",),
        bus.handover: ("instances",),
        bus.deploys: ("deploys",),
        writes_file(bus): ("writes",),
    }
