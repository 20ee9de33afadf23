"""The endpoints that read: the bus as it is now, the ledger, and the stream of events."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from panel.events import Events
from panel.ledger_queries import Fills, History, Orders, Outcomes, Pnl, Summary
from panel.progress import Progress
from panel.views import ControlView, DeploysView, InstancesView, RequestView, StatusView, Views, WritesView

SEND_LIMIT_S = 10.0
LONGEST_DAYS = 400

Slot = Annotated[str | None, Query(max_length=60, description="one slot alone")]
Most = Annotated[int, Query(ge=1, le=500, description="at most so many, the newest")]


class EventStream(StreamingResponse):
    """Server-sent events to one page; given up when the page takes nothing for SEND_LIMIT_S seconds."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Any) -> None:
            async with asyncio.timeout(SEND_LIMIT_S):
                await send(message)

        await super().__call__(scope, receive, send_in_time)


def reads(views: Views, history: History, events: Events) -> APIRouter:
    """The router."""
    # Plain functions: FastAPI runs them in worker threads, so that reading a file never holds up an event stream.
    router = APIRouter(prefix="/api")

    @router.get("/status")
    def status() -> StatusView:
        """The observed state, written by the active bot."""
        return views.status()

    @router.get("/control")
    def control() -> ControlView:
        """The desired state, and the generation that the next write must be based on."""
        return views.control()

    @router.get("/control/{generation}")
    def progress(generation: Annotated[int, Path(ge=1, le=1 << 53)]) -> Progress:
        """How far a write has come: requested, seen, applied, or refused with the reason; with its manual actions."""
        return views.progress(generation, views.written(generation).manual)

    @router.get("/instances")
    def instances() -> InstancesView:
        """Living instances and the newest dead ones."""
        return views.instances()

    @router.get("/deploys")
    def deploys() -> DeploysView:
        """The newest deploys with their steps."""
        return views.deploys()

    @router.get("/requests/{request}")
    def request(request: Annotated[str, Path(pattern="^[0-9]{13,20}-[0-9a-f]{8}$")]) -> RequestView:
        """What the deployer did about a request."""
        return views.request(request)

    @router.get("/writes")
    def writes() -> WritesView:
        """The newest writes: who, when, from where, before, after."""
        return views.writes()

    @router.get("/ledger/summary")
    def summary() -> Summary:
        """PnL curve, orders in doubt, continuity and latency."""
        return history.summary()

    @router.get("/ledger/orders")
    def orders(slot: Slot = None, most: Most = 50) -> Orders:
        """Orders with what came of them, newest first."""
        return history.orders(slot, most)

    @router.get("/ledger/fills")
    def fills(slot: Slot = None, most: Most = 50) -> Fills:
        """Fills, newest first."""
        return history.fills(slot, most)

    @router.get("/ledger/outcomes")
    def outcomes(slot: Slot = None, most: Most = 50) -> Outcomes:
        """How the windows resolved in which we traded, newest first."""
        return history.outcomes(slot, most)

    @router.get("/ledger/pnl")
    def pnl(days: Annotated[int, Query(ge=1, le=LONGEST_DAYS)] = 30) -> Pnl:
        """PnL by day (UTC) and slot."""
        return history.pnl(days, time.time_ns() // 1_000_000)

    @router.get("/events", response_class=EventStream)
    async def event_stream() -> EventStream:
        """Server-sent events: `status`, `control`, `instances`, `deploys`, `writes`, `ledger`, as their endpoints answer."""
        events.check_room()
        return EventStream(events.stream())

    return router
