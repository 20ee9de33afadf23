"""Binance's REST part: time and klines."""

from __future__ import annotations

from aiohttp import web

from paper.engine.exchange import Exchange
from paper.engine.prices import ASSETS, DECIMALS, KEPT
from paper.errors import RefusedError
from paper.streams.binance import kline_row
from paper.wire.body import read_count

__all__ = ["routes"]


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return Binance's REST routes."""

    async def time(_request: web.Request) -> web.Response:
        return web.json_response({"serverTime": exchange.shown_ms()})

    async def ping(_request: web.Request) -> web.Response:
        return web.json_response({})

    async def klines(request: web.Request) -> web.Response:
        asset = request.query.get("symbol", "").upper().removesuffix("USDT")
        if asset not in ASSETS:
            raise RefusedError(400, "Invalid symbol.", code=-1121, msg="Invalid symbol.")
        history = exchange.feed.history[asset]
        candles = {"1s": history.seconds, "1m": history.minutes}.get(request.query.get("interval", ""))
        if candles is None:
            raise RefusedError(400, "Invalid interval.", code=-1120, msg="Invalid interval.")
        limit = read_count(request, "limit", 500, 1, KEPT)
        rows = [kline_row(one, candles.interval_ms, DECIMALS[asset]) for one in candles.items]
        return web.json_response(rows[-limit:])

    return [
        web.get("/api/v3/time", time),
        web.get("/api/v3/ping", ping),
        web.get("/api/v3/klines", klines),
    ]
