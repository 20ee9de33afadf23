"""Running the panel: one socket, one uvicorn, one task that watches the bus."""

from __future__ import annotations

import asyncio
import errno
import secrets
import signal
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import uvicorn

from bus import Bus, Clock, Log, is_halted
from panel.actions import Actions
from panel.api import create_app
from panel.errors import StartError
from panel.events import Events
from panel.guard import Guard
from panel.ledger_queries import History
from panel.metrics import Measured, Metrics
from panel.settings import PanelSettings
from panel.token import Token
from panel.views import Views

MAX_CONNECTIONS = 300
SHUTDOWN_LIMIT_S = 1


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
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{where} is in use; stop what listens there, or set PANEL_PORT (0 = any free)") from error
        raise StartError(f"cannot listen on {where} ({error.strerror}); set PANEL_HOST and PANEL_PORT") from error


async def serve(
    *,
    bus: Bus,
    settings: PanelSettings,
    tokens: Sequence[Token],
    first_start: bool,
    sock: socket.socket,
    clock: Clock,
    log: Log,
) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when a part of the panel ended by itself.

    tokens: at least one of scope control, first. first_start: it was made just now, so that it is shown this once.
    """
    views, history = Views(bus, clock), History(bus)
    events = Events(bus, views, history)
    actions = Actions(bus, clock, log, new_id=lambda: f"{clock.wall_ms()}-{secrets.token_hex(4)}")
    await asyncio.to_thread(actions.begin)
    app = create_app(
        views=views, history=history, actions=actions, events=events, log=log, is_halted=lambda: is_halted(bus)
    )
    guarded = Guard(app, hosts=settings.allowed_hosts(), tokens=tokens, now_s=time.monotonic, log=log)
    config = uvicorn.Config(
        Measured(guarded, Metrics()),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    shown = tokens[0] if first_start and not settings.behind_proxy else None
    server = _Server(config, events)
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="server")
    watching = asyncio.create_task(events.run(), name="events")
    announcing = asyncio.create_task(_announce(server, settings, shown, sock, log), name="announce")
    done, _ = await asyncio.wait((serving, watching), return_when=asyncio.FIRST_COMPLETED)
    asked_to = server.should_exit
    if not asked_to:
        for task in done:
            log.error("task_ended", task=task.get_name(), error=repr(task.exception()))
    server.stop()
    await asyncio.wait((serving,), timeout=2 * SHUTDOWN_LIMIT_S)
    for task in (watching, announcing):
        task.cancel()
    await asyncio.wait((watching, announcing), timeout=SHUTDOWN_LIMIT_S)
    return 0 if asked_to else 1


async def _announce(
    server: _Server, settings: PanelSettings, shown: Token | None, sock: socket.socket, log: Log
) -> None:
    """Say where the panel is. shown: the token that a link shall carry."""
    await server.listening.wait()
    host, port = sock.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    # The link carries the token, so it goes to a terminal of this machine only and once, never to a container's collected log.
    link = {"link": f"{url}/#token={shown.value}"} if shown else {}
    log.info("listening", url=url, token_file=str(settings.token_file), **link)
