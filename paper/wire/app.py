"""The server: routes, and the middleware that turns refusals into answers, applies faults and waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from paper.engine.exchange import Exchange
from paper.engine.faults import Fault, Kind
from paper.engine.offers import read_offer
from paper.errors import RefusedError
from paper.streams import binance as ws_binance
from paper.streams import prices as ws_prices
from paper.streams import venue as ws_venue
from paper.streams.sockets import Sockets
from paper.wire import account as http_account
from paper.wire import binance as http_binance
from paper.wire import clob as http_clob
from paper.wire import control as http_control
from paper.wire import data as http_data
from paper.wire import gamma as http_gamma
from paper.wire import relayer as http_relayer
from paper.wire.body import parse_json, plain
from paper.wire.door import door
from paper.wire.metrics import Metrics

# Reading what a request carries: its JSON body, counts and cursors in its query.


# The server: routes, and the middleware that turns refusals into answers, applies faults and waits for the disk.


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_MAX_BODY = 1 << 20
_MAKES_MARKETS = ("/events", "/markets")  # a look-up by slug can make a market
_RECORDED = ("/order", "/cancel", "/auth", "/v1/", "/submit")
_OF_REQUESTS: tuple[Kind, ...] = (
    *("lost_before", "lost_after", "slow", "error", "restarting", "rate_limited", "unavailable"),
    *("context_canceled", "not_found", "timed_out", "origin_error"),
)
# Answers that say nothing of what became of the request. The documented error codes: texts with "context canceled" are
# answered 400 and those with "not found" 404, whatever happened; users met 500 "order timed out" and Cloudflare's 520.
_WRONG: dict[str, Callable[[], web.Response]] = {
    "context_canceled": lambda: web.json_response({"error": "context canceled"}, status=400),
    "not_found": lambda: web.json_response({"error": "order not found"}, status=404),
    "timed_out": lambda: web.json_response({"error": "order timed out"}, status=500),
    "origin_error": lambda: web.Response(
        text="<html><head><title>520: Web server is returning an unknown error</title></head></html>",
        content_type="text/html",
        status=520,
    ),
}
_LOG = logging.getLogger("paper")


def make_app(exchange: Exchange) -> tuple[web.Application, Sockets]:
    """Return the application that serves an exchange, and its WebSockets."""
    sockets = Sockets(exchange.faults, exchange.clock)

    @web.middleware
    async def answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer in the venue's form; nothing leaves before what it acknowledges is durable. Faults strike here."""
        fault = _strike(exchange, request)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        response = _broken(fault, exchange.clock()) or await _respond(request, handler)
        if fault is not None and fault.kind in _WRONG:
            response = _WRONG[fault.kind]()
        if request.method in ("POST", "DELETE") and request.path.startswith(_RECORDED):
            await _record_request(exchange, request, response)
        if request.method != "GET" or request.path.startswith(_MAKES_MARKETS):
            await exchange.record.durable()
        if fault is not None and fault.kind in ("lost_before", "lost_after") and request.transport is not None:
            request.transport.abort()
        return response

    names = frozenset(name.strip().lower() for name in exchange.settings.hosts.split(",") if name.strip())
    middlewares: list[Middleware] = [door(names), Metrics(exchange, sockets).measure, answer]
    app = web.Application(middlewares=middlewares, client_max_size=_MAX_BODY)
    app.add_routes(
        [
            *ws_venue.routes(exchange, sockets),
            *ws_binance.routes(exchange, sockets),
            *ws_prices.routes(exchange, sockets),
            *http_gamma.routes(exchange),
            *http_clob.routes(exchange),
            *http_account.routes(exchange),
            *http_binance.routes(exchange),
            *http_data.routes(exchange),
            *http_relayer.routes(exchange),
            *http_control.routes(exchange, sockets),
        ]
    )
    return app, sockets


def _strike(exchange: Exchange, request: web.Request) -> Fault | None:
    if not exchange.faults.armed or request.path.startswith("/paper"):
        return None
    fault = exchange.faults.strike(_OF_REQUESTS, request.method, request.path, exchange.clock())
    if fault is not None:
        _LOG.info("fault", extra={"facts": {"kind": fault.kind, "method": request.method, "path": request.path}})
    return fault


def _broken(fault: Fault | None, now_ms: int) -> web.Response | None:
    """The answer of a request that a fault keeps from taking effect, or None; that of a lost one is never seen."""
    if fault is None:
        return None
    match fault.kind:
        case "lost_before":
            return web.json_response({"error": "lost"}, status=500)
        case "error":
            return web.json_response({"error": "could not process the request"}, status=500)
        case "restarting":
            return web.json_response({"error": "matching engine restarting"}, status=425)
        case "rate_limited":
            wait = str(max(1, -(-((fault.until_ms or now_ms) - now_ms) // 1000)))
            return web.json_response({"error": "Too Many Requests"}, status=429, headers={"Retry-After": wait})
        case "unavailable":
            return web.json_response({"error": "Service Unavailable"}, status=503, headers={"Retry-After": "1"})
        case "context_canceled" | "not_found" | "timed_out" | "origin_error" if not fault.applied:
            return web.json_response({"error": "not reached"}, status=500)  # nobody sees it
        case _:
            return None


async def _respond(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refusal:
        return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
    except web.HTTPRequestEntityTooLarge:
        return web.json_response({"error": "Request body too large"}, status=413)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason or "refused"}, status=error.status)


async def _record_request(exchange: Exchange, request: web.Request, response: web.StreamResponse) -> None:
    # A body that was too large is not there to be read again.
    body = await request.read() if response.status != web.HTTPRequestEntityTooLarge.status_code else b""
    text = response.text if isinstance(response, web.Response) else ""
    order_ids = request["order_ids"] if "order_ids" in request else _order_ids(request.path, body)
    exchange.record.insert(
        "requests",
        {
            "time_ms": exchange.clock(),
            "method": request.method,
            "path": plain(request.path_qs),
            "address": request.get("address") or plain(request.headers.get("POLY_ADDRESS", "")),
            "order_id": order_ids,
            "body": body,
            "status": response.status,
            "answer": text or "",
        },
    )


def _order_ids(path: str, body: bytes) -> str:
    """The ids of the orders that a request places or names, separated by spaces; whatever became of it."""
    if not path.startswith("/order"):
        return ""
    try:
        payload = parse_json(body)
    except (ValueError, RecursionError):
        return ""
    ids: list[str] = []
    for item in payload if isinstance(payload, list) else [payload]:
        if isinstance(item, str):
            ids.append(item)
        elif isinstance(item, dict) and isinstance(item.get("orderID"), str):
            ids.append(item["orderID"])
        else:
            with contextlib.suppress(RefusedError):  # no order: the request has no id
                ids.append(read_offer(item).order_id)
    return " ".join(ids)
