"""Running the panel: one socket, one uvicorn, one task that watches the bus."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus import VERSION, Bus, Clock, Log, is_halted, tasks
from bus.main import loopback
from panel.actions import Actions
from panel.api import create_app
from panel.codes import codes_file, link_to, make_code, spend_code
from panel.connections import Connections, count_handshakes, protocol_of
from panel.errors import StartError
from panel.events import Events
from panel.guard import Guard, Token
from panel.ledger_queries import LedgerQueries
from panel.notify.outbox import outbox_file
from panel.notify.service import Notifier, NotifyMetrics
from panel.notify.settings import NotifySettings
from panel.notify.targets import Target
from panel.views import Views

# The settings of the panel (prefix PANEL_).


LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class PanelSettings(NotifySettings):
    """Where the panel listens and who may reach it. Any host but loopback needs a certificate or a proxy that is declared."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="PANEL_", validate_default=True)

    behind_proxy: bool = False
    """declares a proxy with TLS, or Compose publishing on 127.0.0.1, in front; no link is then printed"""
    tls_cert: Path | None = None
    """PEM file to serve HTTPS with"""
    tls_key: Path | None = None
    """PEM file of its key"""
    host: str = Field(default_factory=loopback)
    """address to listen on; any but loopback needs a certificate or a declared proxy"""
    port: int = Field(default=8701, ge=0, le=65535)
    """port to listen on; 0 takes any free one"""
    hosts: str = ""
    """further host names by which people reach the page, comma-separated"""
    banner: str = Field(default="", max_length=200)
    """what the page says beside REHEARSAL; `make run LIVE=1` sets "real prices, play money". Empty where paper is no mirror"""
    token_file: Path = Path(".run/panel-token")
    """tokens that allow looking and writing; made at the first start, mode 0600, and never shown"""
    read_token_file: Path | None = None
    """tokens that allow looking alone; PANEL_TOKEN_FILE with -read at its end when unset"""

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("tls_cert") is None):
            raise ValueError("expected PANEL_TLS_CERT and PANEL_TLS_KEY both, or neither")
        for name in (key, info.data.get("tls_cert")):
            if name is not None and not os.access(name, os.R_OK):
                raise ValueError(f"expected a PEM file that can be read, found none at {name}")
        return key

    @field_validator("host")
    @classmethod
    def _loopback_unless_protected(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("behind_proxy") and not info.data.get("tls_cert") and not _is_loopback(host):
            raise ValueError(
                "expected a loopback address such as 127.0.0.1; for any other set PANEL_TLS_CERT and PANEL_TLS_KEY, or put a "
                "proxy with TLS in front and declare it with PANEL_BEHIND_PROXY=true"
            )
        return host

    @property
    def read_tokens(self) -> Path:
        """Where the tokens are that allow looking alone."""
        return self.read_token_file or self.token_file.with_name(f"{self.token_file.name}-read")

    def allowed_hosts(self) -> frozenset[str]:
        """Host names, without ports, that requests may name."""
        return LOOPBACK_NAMES | {name.strip().lower() for name in self.hosts.split(",") if name.strip()}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# The panel's metrics at `/metrics`, in front of the guard: numbers alone, no token, nothing of status or control.


PATH = "/metrics"
EVENTS = "/api/events"
KINDS = ("read", "write", "events", "page")
STATUS = ("2xx", "3xx", "4xx", "5xx")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


def kind_of(method: str, path: str) -> str:
    """One of KINDS: paths are a stranger's word and never a label."""
    if path == EVENTS:
        return "events"
    if not path.startswith("/api/"):
        return "page"
    return "read" if method in ("GET", "HEAD") else "write"


class Metrics:
    """All metrics of one panel."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("panel_build", "The version that runs.", registry=registry).info({"version": VERSION})
        self.requests = Counter(
            "panel_requests", "Requests answered; events when they end.", ["kind", "status"], registry=registry
        )
        self.seconds = Histogram(
            "panel_request_seconds",
            "How long a request took; no events.",
            ["kind"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.streams = Gauge("panel_streams", "Pages that follow events now.", registry=registry)
        self.notify = NotifyMetrics(registry)
        for kind in KINDS:
            if kind != "events":
                self.seconds.labels(kind)
            for status in STATUS:
                self.requests.labels(kind, status)


class Measured:
    """ASGI middleware, the outermost: answers /metrics itself and measures everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: frozenset[str]) -> None:
        self._app, self._metrics, self._hosts = app, metrics, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == PATH and scope["method"] == "GET":
            if tasks.is_own_name(Headers(scope=scope).get("host", ""), self._hosts):
                await _answer(200, generate_latest(self._metrics.registry), send)
            else:
                await _answer(
                    403, b"this host name is not allowed; scrape by an address, or add the name to PANEL_HOSTS\n", send
                )
        else:
            await self._measure(scope, receive, send)

    async def _measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics, kind = self._metrics, kind_of(scope["method"], scope["path"])
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = time.perf_counter()
        metrics.streams.inc(kind == "events")
        try:
            await self._app(scope, receive, noted)
        finally:
            metrics.streams.dec(kind == "events")
            metrics.requests.labels(kind, f"{min(5, max(2, status // 100))}xx").inc()
            if kind != "events":
                metrics.seconds.labels(kind).observe(time.perf_counter() - began)


async def _answer(status: int, body: bytes, send: Send) -> None:
    headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# Running the panel: one socket, one uvicorn, one task that watches the bus.


SHUTDOWN_LIMIT_S = 1
HALT_LIMIT_S = 5.0
# More than all connections that wait for a request: a short queue is how a flood keeps others out.
BACKLOG = 1024


class _Server(uvicorn.Server):
    """uvicorn that stops by our handlers: its own would end the process by the signal, not with exit code 0."""

    def __init__(self, config: uvicorn.Config, events: Events) -> None:
        super().__init__(config)
        self._events = events
        self.listening = asyncio.Event()

    def stop(self) -> None:
        self._events.close()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def bind(settings: PanelSettings) -> socket.socket:
    """A listening socket. Raises StartError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{where} is in use; stop what listens there, or set PANEL_PORT (0 = any free)") from error
        raise StartError(f"cannot listen on {where} ({error.strerror}); set PANEL_HOST and PANEL_PORT") from error


class Halting:
    """Sets the halt file from a thread of its own: no other request can use up the threads that it needs."""

    def __init__(self, set_halt: Callable[[], None], log: Log) -> None:
        self._set_halt, self._log = set_halt, log
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="halt")

    async def set(self) -> None:
        """The file is there, or why not stands in the log; whoever asked hears it from the write that follows."""
        setting = asyncio.get_running_loop().run_in_executor(self._thread, self._set_halt)
        try:
            async with asyncio.timeout(HALT_LIMIT_S):
                await asyncio.shield(setting)
        except (OSError, TimeoutError) as error:
            self._log.error("halt_not_confirmed", error=str(error) or f"no answer of the disk in {HALT_LIMIT_S:g} s")


async def serve(
    *,
    bus: Bus,
    settings: PanelSettings,
    tokens: Sequence[Token],
    sock: socket.socket,
    clock: Clock,
    log: Log,
    targets: Sequence[Target] = (),
) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when a part of the panel ended by itself.

    tokens: at least one of scope control, first. targets: who is notified.
    """
    views, history, metrics = Views(bus, clock), LedgerQueries(bus), Metrics()
    notifier = Notifier(bus, clock, log, settings, targets, outbox_file(settings.token_file), metrics.notify)
    events = Events(bus, views, history, notifier.view)
    actions = Actions(bus, clock, log, new_id=lambda: f"{clock.wall_ms()}-{secrets.token_hex(4)}")
    await asyncio.to_thread(actions.begin)
    app = create_app(
        views=views,
        history=history,
        actions=actions,
        events=events,
        notifier=notifier,
        log=log,
        is_halted=lambda: is_halted(bus),
        banner=settings.banner,
    )
    connections = Connections(time.monotonic)
    halting = Halting(actions.set_halt, log)
    guarded = Guard(
        app,
        hosts=settings.allowed_hosts(),
        tokens=tokens,
        now_s=time.monotonic,
        log=log,
        connections=connections,
        set_halt=halting.set,
        spend_code=lambda code: spend_code(codes_file(settings.token_file), code, clock.wall_ms()),
    )
    config = uvicorn.Config(
        Measured(guarded, metrics, settings.allowed_hosts()),
        http=protocol_of(connections),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    count_handshakes(config, connections)
    server = _Server(config, events)
    failed = asyncio.Event()
    beside = tasks.Guard(log, on_failure=lambda _error: failed.set())
    beside.start(events.run(), "events")
    beside.start(notifier.run(), "notify")
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="server")
    announcing = asyncio.create_task(_announce(server, settings, sock, clock, log), name="announce")
    failing = asyncio.create_task(failed.wait(), name="failed")
    await asyncio.wait((serving, failing), return_when=asyncio.FIRST_COMPLETED)
    asked_to = server.should_exit
    if serving.done() and not asked_to:
        log.error("task_failed", task="server", reason=repr(serving.exception()))
    server.stop()
    await asyncio.wait((serving,), timeout=2 * SHUTDOWN_LIMIT_S)
    announcing.cancel()
    failing.cancel()
    closing = asyncio.create_task(beside.close(), name="close")
    await asyncio.wait((announcing, failing, closing), timeout=SHUTDOWN_LIMIT_S)
    return 0 if asked_to else 1


async def _announce(server: _Server, settings: PanelSettings, sock: socket.socket, clock: Clock, log: Log) -> None:
    """Say where the panel is; on a terminal with a link that opens the page once. No token is ever printed."""
    await server.listening.wait()
    host, port = sock.getsockname()[:2]
    url = url_of(settings, host, port)
    link = {}
    if sys.stdout.isatty() and not settings.behind_proxy:
        try:
            link["link"] = link_to(url, make_code(codes_file(settings.token_file), clock.wall_ms()))
        except OSError as error:
            log.warning("no_link", error=str(error))
    log.info("listening", url=url, token_file=str(settings.token_file), **link)


def url_of(settings: PanelSettings, host: str, port: int) -> str:
    """The panel's address."""
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
