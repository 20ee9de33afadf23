"""The application: what is read (`reading`), what is written (`writing`), the page, and errors as sentences."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException

from bus import BusError, Log, StaleGenerationError
from panel.actions import Actions
from panel.errors import (
    ConfirmationNeededError,
    NoSuchWriteError,
    NotifyOffError,
    PanelError,
    TooManyActionsError,
    TooManyRequestsError,
    UnknownSlotError,
)
from panel.events import Events
from panel.guard import Scope, Token
from panel.ledger_queries import Fills, LedgerQueries, Life, Orders, Outcomes, Pnl, Summary
from panel.notify.service import Notifier, NotifyView, Tested
from panel.performance import Calibration, Performance
from panel.views import ControlView, DeploysView, InstancesView, Progress, RequestView, StatusView, Views, WritesView
from panel.writes import writes

# The endpoints that read: the bus as it is now, the ledger, and the stream of events.


LONGEST_DAYS = 400
SUMMING_LIMIT_S = 5

Slot = Annotated[str | None, Query(max_length=60, description="one slot alone")]
Most = Annotated[int, Query(ge=1, le=500, description="at most so many, the newest")]


class EventStream(StreamingResponse):
    """Server-sent events to one page."""

    media_type = "text/event-stream"


class Access(BaseModel):
    """A token's name and what it allows: read (looking alone) or control."""

    name: str
    scope: Scope


def reads(views: Views, history: LedgerQueries, events: Events) -> APIRouter:
    """The router."""
    # Plain functions: FastAPI runs them in worker threads, so that reading a file never holds up an event stream.
    router = APIRouter(prefix="/api")
    # Both take a processor for a while: one of each at a time.
    judging, summing = threading.Lock(), threading.Lock()

    @router.get("/access")
    def access(request: Request) -> Access:
        """Whose token asks, and what it allows."""
        # The guard put it there; where no guard stands before the application nobody has a token.
        token: Token | None = request.scope.get("state", {}).get("token")
        return Access(name="", scope=Scope.READ) if token is None else Access(name=token.name, scope=token.scope)

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

    @router.get("/ledger/orders/{order_id}")
    def life(order_id: Annotated[str, Path(pattern="^0x[0-9a-fA-F]{1,64}$")]) -> Life:
        """One order and all that happened to it; no order where the ledger has none of that id."""
        return history.life(order_id)

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

    @router.get("/ledger/calibration")
    def calibration(slot: Slot = None) -> Calibration:
        """What was predicted of the newest thousand windows against what happened, beside the market's own price."""
        if not judging.acquire(blocking=False):
            return Calibration(problem="it is being worked out for somebody else; ask again in a moment")
        try:
            return history.calibration(slot)
        finally:
            judging.release()

    @router.get("/ledger/performance")
    def performance(
        days: Annotated[int | None, Query(ge=1, le=LONGEST_DAYS, description="the last so many times 24 hours")] = None,
    ) -> Performance:
        """PnL by day, slot, asset, hour, reason and commit; equity, drawdown, slippage, answers. Of all time without days."""
        if not summing.acquire(timeout=SUMMING_LIMIT_S):
            return Performance(problem="it is being worked out for somebody else; ask again in a moment")
        try:
            return history.performance(days, time.time_ns() // 1_000_000)
        finally:
            summing.release()

    @router.get("/events", response_class=EventStream)
    async def event_stream() -> EventStream:
        """Server-sent events: `status`, `control`, `instances`, `deploys`, `writes`, `ledger`, as their endpoints answer."""
        events.check_room()
        return EventStream(events.stream())

    return router


class TestBody(BaseModel):
    """A test asks for nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)


def notifications(notifier: Notifier | None) -> APIRouter:
    """Who is notified, and the test of it. notifier: None where nobody is."""
    router = APIRouter(prefix="/api")

    @router.get("/notifications")
    async def view() -> NotifyView:
        """The targets and how the newest sending to each went, without their addresses."""
        return notifier.view() if notifier is not None else NotifyView(on=False)

    @router.post("/notify-test")
    async def test(_body: TestBody) -> Tested:
        """Send a test to every target now; what each answered."""
        if notifier is None:
            raise NotifyOffError
        return await notifier.test()

    return router


# The application: what is read (`reading`), what is written (`writing`), the page, and errors as sentences.


_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATUS: Mapping[type[PanelError], int] = {
    UnknownSlotError: 404,
    NoSuchWriteError: 404,
    TooManyActionsError: 422,
    NotifyOffError: 422,
    TooManyRequestsError: 429,
}


class Refused(BaseModel):
    """Why a request was refused. based_on, newest: of a write whose generation is stale. halted: the halt file is there."""

    error: str
    based_on: int | None = None
    newest: int | None = None
    halted: bool | None = None


def create_app(
    *,
    views: Views,
    history: LedgerQueries,
    actions: Actions,
    events: Events,
    log: Log,
    is_halted: Callable[[], bool],
    banner: str = "",
    notifier: Notifier | None = None,
) -> FastAPI:
    """The panel's application, without the guard in front of it. banner: what a rehearsal says in plain sight."""
    app = FastAPI(
        title="Never Sleeps: panel",
        version="2.0",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={code: {"model": Refused} for code in (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)},
    )
    app.include_router(reads(views, history, events))
    app.include_router(writes(actions, views, conflict={409: {"model": Refused}}))
    app.include_router(notifications(notifier))
    app.include_router(_page(banner))
    _describe(app)
    _say_errors(app, log, is_halted)
    return app


def _describe(app: FastAPI) -> None:
    """Say in the OpenAPI document that everything needs a token (the guard, which asks for it, stands before the app)."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _page(banner: str) -> APIRouter:
    # Read once at the start: no path ever comes from a request.
    router = APIRouter(include_in_schema=False)
    static = resources.files("panel") / "static"
    files = {
        f"{folder}{file.name}": (file.read_bytes(), _TYPES[file.name[file.name.rindex(".") :]])
        for folder in ("", "pages/")
        for file in (static / folder).iterdir()
        if file.name[file.name.rfind(".") :] in _TYPES
    }

    if banner:
        page_bytes, media = files["index.html"]
        shown = (
            f'<p id="mode" data-mode="rehearsal"><strong>REHEARSAL</strong> <span>{escape(banner)}</span></p>'.encode()
        )
        files["index.html"] = page_bytes.replace(b'<p id="mode" hidden></p>', shown), media

    @router.get("/{name:path}")
    async def page(name: str) -> Response:
        if (name or "index.html") not in files:
            raise HTTPException(404, "there is no such page; open /")
        content, media_type = files[name or "index.html"]
        return Response(content, media_type=media_type)

    return router


def _say_errors(app: FastAPI, log: Log, is_halted: Callable[[], bool]) -> None:
    """Turn every error into a JSON body that says what was expected."""

    def refuse(status: int, error: str, headers: Mapping[str, str] | None = None, **facts: Any) -> JSONResponse:
        body = Refused(error=error, **facts).model_dump(exclude_none=True)
        return JSONResponse(body, status, headers=dict(headers or {}))

    @app.exception_handler(StaleGenerationError)
    async def stale(_: Request, error: StaleGenerationError) -> JSONResponse:
        return refuse(409, str(error), based_on=error.based_on, newest=error.newest, halted=is_halted())

    @app.exception_handler(ConfirmationNeededError)
    async def unconfirmed(_: Request, error: ConfirmationNeededError) -> JSONResponse:
        return refuse(422, str(error), halted=True)

    @app.exception_handler(PanelError)
    async def panel_error(_: Request, error: PanelError) -> JSONResponse:
        return refuse(_STATUS.get(type(error), 503), str(error))

    @app.exception_handler(BusError)
    @app.exception_handler(OSError)
    @app.exception_handler(ValidationError)  # a limit that is new in `bus` and not said here
    async def bus_failed(request: Request, error: Exception) -> JSONResponse:
        log.error("bus_failed", path=request.url.path, error=str(error))
        halted = is_halted()
        stands = "; the halt file is set, so no entries are made" if halted else ""
        what = "the bus could not be read" if request.method == "GET" else "control was not written"
        return refuse(503, f"{what}: {error}{stands}", halted=halted)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(ascii(part).strip("'") for part in first["loc"])
        value = ascii(first.get("input"))
        return refuse(422, f"{where:.80}: {ascii(first['msg'])[1:-1]}, found {value:.80}")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), error.headers)
