"""The exchange's own control: state, record, faults, and the page that shows them."""

from __future__ import annotations

import importlib.resources

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from paper.body import read_count
from paper.engine.exchange import Exchange
from paper.engine.faults import KINDS, FaultOrder
from paper.engine.market_maker import HOUSE
from paper.errors import RefusedError
from paper.report import read_record
from paper.streams.sockets import Sockets
from paper.view import view

__all__ = ["routes"]

_MAX_ROWS = 1000
_MAX_AFTER = 10**15


class _Approvals(BaseModel):
    """The body of ``POST /paper/approvals``: what a wallet lets the exchange take from now on."""

    model_config = ConfigDict(extra="forbid")

    wallet: str
    collateral: bool = True
    shares: bool = True


def routes(exchange: Exchange, sockets: Sockets) -> list[web.RouteDef]:
    """Return the routes of this part."""
    page = importlib.resources.files("paper").joinpath("page.html").read_text(encoding="utf-8")

    async def state(_request: web.Request) -> web.Response:
        settings, now = exchange.settings, exchange.clock()
        exchange.faults.drop_ended(now)
        return web.json_response(
            {
                "ready": True,
                "now_ms": now,
                "seed": settings.seed,
                "tape": list(settings.tape),
                "timeframes": list(settings.timeframes),
                "lead": exchange.feed.lead,
                "settlement": exchange.feed.settlement,
                "markets": len(exchange.markets.by_condition),
                "open_orders": sum(order.wallet not in HOUSE for order in exchange.engine.orders.values()),
                "held_orders": exchange.orders.held,
                "streams": len(sockets),
                "faults": [fault.body for fault in exchange.faults.armed],
            }
        )

    async def record(request: web.Request) -> web.Response:
        await exchange.record.durable()
        after = read_count(request, "after", 0, 0, _MAX_AFTER)
        limit = read_count(request, "limit", _MAX_ROWS, 1, _MAX_ROWS)
        return web.json_response(read_record(exchange.record, after, limit, exchange.clock()).body)

    async def arm(request: web.Request) -> web.Response:
        try:
            order = FaultOrder.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise RefusedError(400, f"{where}: {first['msg']}; kinds are {', '.join(KINDS)}") from error
        return web.json_response(sockets.arm(order))

    async def approve(request: web.Request) -> web.Response:
        """What an address lets the exchange take; on the chain this is a transaction of its own."""
        try:
            order = _Approvals.model_validate_json(await request.read())
        except ValidationError as error:
            raise RefusedError(400, "expected wallet, collateral and shares (true or false)") from error
        for kind, approved in (("collateral", order.collateral), ("shares", order.shares)):
            exchange.funds.approve(order.wallet, kind, approved=approved)
        return web.json_response(order.model_dump())

    async def clear(_request: web.Request) -> web.Response:
        exchange.faults.clear()
        return web.json_response({"cleared": True})

    async def show_page(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def show(_request: web.Request) -> web.Response:
        await exchange.record.durable()
        return web.json_response(view(exchange))

    return [
        web.get("/paper", show_page),
        web.get("/paper/view", show),
        web.get("/paper/state", state),
        web.get("/paper/record", record),
        web.post("/paper/approvals", approve),
        web.post("/paper/faults", arm),
        web.delete("/paper/faults", clear),
    ]
