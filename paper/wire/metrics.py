"""The exchange's metrics at ``/metrics``: requests, streams, markets, faults, prices. No fault strikes them."""

from __future__ import annotations

import runpy
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware
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

from paper.engine.exchange import Exchange
from paper.engine.faults import KINDS
from paper.engine.market_maker import HOUSE
from paper.engine.prices import ASSETS
from paper.streams.sockets import Sockets

__all__ = ["AREAS", "Metrics", "area"]

# Paper imports none of the other packages; one of them holds the number of the release, in a file that stands beside paper.
VERSION = str(runpy.run_path(str(Path(__file__).parents[2] / "bus" / "version.py"))["VERSION"])
_PATH = "/metrics"
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_STATUS = ("2xx", "4xx", "5xx")
_SWITCHED = 101

# The area of a path: the first whose beginning fits.
_AREAS = (
    ("orders", ("/order", "/cancel", "/v1/heartbeats")),
    ("books", ("/book", "/price", "/midpoint", "/tick-size", "/neg-risk", "/fee-rate", "/spread", "/last-trade")),
    (
        "account",
        ("/auth", "/data", "/balance", "/v1/user", "/positions", "/activity", "/v2", "/notif", "/rewards", "/orders-s"),
    ),
    ("markets", ("/events", "/markets", "/clob-markets", "/sampling", "/simplified")),
    ("binance", ("/api/v3",)),
    ("streams", ("/ws", "/stream")),
    ("relayer", ("/submit", "/deployed", "/relay", "/rpc", "/v1/account")),
    ("control", ("/paper",)),
)
AREAS = (*(name for name, _ in _AREAS), "other")


def area(path: str) -> str:
    """Return the area of a path, one of AREAS: paths are a stranger's word and never a label."""
    return next((name for name, starts in _AREAS if path.startswith(starts)), "other")


class Metrics:
    """All metrics of one exchange."""

    def __init__(self, exchange: Exchange, sockets: Sockets) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own gap
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._exchange, self._sockets = exchange, sockets
        Info("paper_build", "The version that runs.", registry=registry).info({"version": VERSION})
        self._requests = Counter(
            "paper_requests", "Requests answered, streams when they end.", ["area", "status"], registry=registry
        )
        self._seconds = Histogram(
            "paper_request_seconds",
            "How long a request took, its commit included; no streams.",
            ["area"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._streams = Gauge("paper_streams", "Open WebSockets.", registry=registry)
        self._markets = Gauge("paper_markets", "Markets that are not forgotten yet.", registry=registry)
        self._orders = Gauge("paper_orders_open", "Resting orders of users.", registry=registry)
        self._faults = Gauge("paper_faults_armed", "Faults that are armed.", ["kind"], registry=registry)
        self._price = Gauge("paper_price", "The price now, in USDT.", ["asset", "kind"], registry=registry)
        for kind in KINDS:
            self._faults.labels(kind)
        for asset in ASSETS:
            for which in ("lead", "settlement"):
                self._price.labels(asset, which)
        for name in AREAS:
            self._seconds.labels(name)
            for status in _STATUS:
                self._requests.labels(name, status)

    @property
    def measure(self) -> Middleware:
        """The outermost middleware: answers ``/metrics`` itself, and measures everything else."""

        @web.middleware
        async def measured(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            if request.path == _PATH:
                return web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
            began, status = time.perf_counter(), 500
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                self._note(request.path, status, time.perf_counter() - began)

        return measured

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        exchange = self._exchange
        self._streams.set(len(self._sockets))
        self._markets.set(len(exchange.markets.by_condition))
        self._orders.set(sum(order.wallet not in HOUSE for order in exchange.engine.orders.values()))
        exchange.faults.drop_ended(exchange.clock())
        armed = [fault.kind for fault in exchange.faults.armed]
        for kind in KINDS:
            self._faults.labels(kind).set(armed.count(kind))
        for source, prices in (("lead", exchange.feed.lead), ("settlement", exchange.feed.settlement)):
            for asset in ASSETS:
                if asset in prices:  # a mirror may not have heard of all
                    self._price.labels(asset, source).set(prices[asset])
        return generate_latest(self.registry)

    def _note(self, path: str, status: int, seconds: float) -> None:
        where = area(path)
        self._requests.labels(where, "5xx" if status >= 500 else "4xx" if status >= 400 else "2xx").inc()
        if status != _SWITCHED:
            self._seconds.labels(where).observe(seconds)
