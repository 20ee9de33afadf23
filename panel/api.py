"""The endpoints: reading status, control, instances, deploys, writes and events; writing pause, resume, halt, slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from bus import BusError, Log, StaleGenerationError
from panel.actions import Actions, Written
from panel.errors import ConfirmationNeededError, TooManyPagesError, UnknownSlotError
from panel.events import Events
from panel.views import ControlView, DeploysView, InstancesView, StatusView, Views, WritesView

SEND_LIMIT_S = 10.0
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class BasedOn(BaseModel):
    """generation: the control generation that the person saw."""

    model_config = ConfigDict(extra="forbid", strict=True)

    generation: int = Field(ge=0, le=1 << 53)


class ResumeBody(BasedOn):
    """confirm: needed when trading is halted."""

    confirm: bool = False


class SlotBody(BasedOn):
    """enabled: whether the slot shall be traded."""

    enabled: bool


class Refused(BaseModel):
    """Why a request was refused. based_on, newest: of a write whose generation is stale. halted: the halt file is there."""

    error: str
    based_on: int | None = None
    newest: int | None = None
    halted: bool | None = None


class EventStream(StreamingResponse):
    """Server-sent events to one page; given up when the page takes nothing for SEND_LIMIT_S seconds."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Any) -> None:
            async with asyncio.timeout(SEND_LIMIT_S):
                await send(message)

        await super().__call__(scope, receive, send_in_time)


def create_app(*, views: Views, actions: Actions, events: Events, log: Log, is_halted: Callable[[], bool]) -> FastAPI:
    """The panel's application, without the guard in front of it."""
    app = FastAPI(
        title="Never Sleeps: panel",
        version="1.0",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={code: {"model": Refused} for code in (400, 401, 403, 413, 415, 429, 503)},
    )
    app.include_router(_reads(views, events))
    app.include_router(_writes(actions))
    app.include_router(_page())
    _say_errors(app, log, is_halted)
    return app


def _reads(views: Views, events: Events) -> APIRouter:
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

    @router.get("/instances")
    def instances() -> InstancesView:
        """Living instances and the newest dead ones."""
        return views.instances()

    @router.get("/deploys")
    def deploys() -> DeploysView:
        """The newest deploys with their steps."""
        return views.deploys()

    @router.get("/writes")
    def writes() -> WritesView:
        """The newest writes of control: who, when, from where, before, after."""
        return views.writes()

    @router.get("/events", response_class=EventStream)
    async def event_stream() -> EventStream:
        """Server-sent events: `status`, `control`, `instances`, `deploys`, `writes`, each as its endpoint answers."""
        events.check_room()
        return EventStream(events.stream())

    return router


def _writes(actions: Actions) -> APIRouter:
    router = APIRouter(prefix="/api", responses={409: {"model": Refused}, 422: {"model": Refused}})

    @router.post("/pause")
    def pause(body: BasedOn, request: Request) -> Written:
        """No entries; exits go on."""
        return actions.pause(body.generation, _origin(request))

    @router.post("/resume")
    def resume(body: ResumeBody, request: Request) -> Written:
        """Entries again; needs confirm when halted."""
        return actions.resume(body.generation, _origin(request), confirm=body.confirm)

    @router.post("/halt")
    def halt(body: BasedOn, request: Request) -> Written:
        """The kill switch. The halt file is set even when control cannot be written."""
        return actions.halt(body.generation, _origin(request))

    @router.post("/slots/{slot}", responses={404: {"model": Refused}})
    def slot(slot: Annotated[str, Path(max_length=60)], body: SlotBody, request: Request) -> Written:
        """One slot on or off."""
        return actions.slot(slot, body.generation, _origin(request), enabled=body.enabled)

    return router


def _page() -> APIRouter:
    # Read once at the start: no path ever comes from a request.
    router = APIRouter(include_in_schema=False)
    files = {
        file.name: (file.read_bytes(), _TYPES[file.name[file.name.rindex(".") :]])
        for file in (resources.files("panel") / "static").iterdir()
        if file.name[file.name.rfind(".") :] in _TYPES
    }

    @router.get("/")
    @router.get("/{name}")
    async def page(name: str = "index.html") -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such page; open /")
        content, media_type = files[name]
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

    @app.exception_handler(UnknownSlotError)
    async def unknown(_: Request, error: UnknownSlotError) -> JSONResponse:
        return refuse(404, str(error))

    @app.exception_handler(TooManyPagesError)
    async def crowded(_: Request, error: TooManyPagesError) -> JSONResponse:
        return refuse(503, str(error))

    @app.exception_handler(BusError)
    @app.exception_handler(OSError)
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
        found = ascii(first.get("input"))
        return refuse(422, f"{where:.80}: {ascii(first['msg'])[1:-1]}, found {found:.80}")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), error.headers)


def _origin(request: Request) -> str:
    """Where a request came from, for the record; what a proxy says of its client is kept, but not trusted."""
    peer = request.client.host if request.client else "unknown"
    forwarded = request.headers.get("x-forwarded-for")
    return f"{peer} for {ascii(forwarded)[1:-1]:.100}" if forwarded else peer
