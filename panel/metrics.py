"""The panel's metrics at `/metrics`, in front of the guard: numbers alone, no token, nothing of status or control."""

from __future__ import annotations

import time

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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus import VERSION

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
        for kind in KINDS:
            if kind != "events":
                self.seconds.labels(kind)
            for status in STATUS:
                self.requests.labels(kind, status)


class Measured:
    """ASGI middleware, the outermost: answers /metrics itself and measures everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == PATH and scope["method"] == "GET":
            await _answer(generate_latest(self._metrics.registry), send)
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


async def _answer(body: bytes, send: Send) -> None:
    headers = [(b"content-type", CONTENT_TYPE_LATEST.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
