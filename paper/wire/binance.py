"""Binance's REST part: time, klines, prices, depth, and what it lists."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from aiohttp import web

from paper.engine.exchange import Exchange
from paper.engine.prices import ASSETS, DECIMALS, KEPT, Candle
from paper.errors import RefusedError
from paper.streams.binance import QUANTITY, best_prices, decimal8, kline_row
from paper.wire.body import read_count

__all__ = ["routes"]

_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240}
_INTERVALS = {"1s": 1_000, **{name: minutes * 60_000 for name, minutes in _MINUTES.items()}}
_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
]
_DEPTHS = 5000
_LATEST = 10**15
_Shown = Callable[[str], dict[str, Any]]


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return Binance's REST routes."""

    async def time(_request: web.Request) -> web.Response:
        return web.json_response({"serverTime": exchange.shown_ms()})

    async def ping(_request: web.Request) -> web.Response:
        return web.json_response({})

    async def klines(request: web.Request) -> web.Response:
        """Candles of a time, oldest first: from ``startTime`` on, or up to ``endTime``, or the latest."""
        asset, interval = _asset(request, exchange), request.query.get("interval", "")
        if interval not in _INTERVALS:
            raise _refused(-1120, "Invalid interval.")
        length = _INTERVALS[interval]
        limit = read_count(request, "limit", 500, 1, KEPT)
        start, end = (
            read_count(request, name, at, 0, _LATEST) for name, at in (("startTime", 0), ("endTime", _LATEST))
        )
        history = exchange.feed.history[asset]
        source: Iterable[Candle] = history.seconds.items if interval == "1s" else history.minutes.items
        if interval not in ("1s", "1m"):
            source = [_joined(start_ms, part) for start_ms, part in _groups(source, length)]
        rows = [kline_row(tick, length) for tick in source if start <= tick.start_ms <= end]
        return web.json_response(rows[:limit] if "startTime" in request.query else rows[-limit:])

    async def info(request: web.Request) -> web.Response:
        named = request.query.get("symbol")
        assets = [_asset(request, exchange)] if named else list(ASSETS)
        return web.json_response(
            {
                "timezone": "UTC",
                "serverTime": exchange.shown_ms(),
                "rateLimits": _LIMITS,
                "exchangeFilters": [],
                "symbols": [_symbol(asset) for asset in assets],
            }
        )

    async def depth(request: web.Request) -> web.Response:
        """A made-up book around the price: the levels of a step, as many as asked for."""
        asset = _asset(request, exchange)
        limit = read_count(request, "limit", 100, 1, _DEPTHS)
        price, step = exchange.feed.lead[asset], 10 ** -DECIMALS[asset]
        levels = range(min(limit, 100))
        return web.json_response(
            {
                "lastUpdateId": exchange.clock(),
                "bids": [[decimal8(price - n * step), decimal8(1 + n)] for n in levels if price > n * step],
                "asks": [[decimal8(price + (n + 1) * step), decimal8(1 + n)] for n in levels],
            }
        )

    async def price(request: web.Request) -> web.Response:
        return _one_or_all(request, exchange, lambda asset: {"price": decimal8(exchange.feed.lead[asset])})

    async def book_ticker(request: web.Request) -> web.Response:
        def shown(asset: str) -> dict[str, str]:
            bid, ask = best_prices(asset, exchange.feed.lead[asset])
            return {"bidPrice": bid, "bidQty": decimal8(1), "askPrice": ask, "askQty": decimal8(1)}

        return _one_or_all(request, exchange, shown)

    async def trades(request: web.Request) -> web.Response:
        """The last trades: one at the end of each second."""
        asset, limit = _asset(request, exchange), read_count(request, "limit", 500, 1, KEPT)
        rows = [
            {
                "id": tick.start_ms // 1_000,
                "price": decimal8(tick.close),
                "qty": decimal8(QUANTITY),
                "quoteQty": decimal8(QUANTITY * tick.close),
                "time": tick.start_ms + 999,
                "isBuyerMaker": False,
                "isBestMatch": True,
            }
            for tick in exchange.feed.history[asset].seconds.items
        ]
        return web.json_response(rows[-limit:])

    async def agg_trades(request: web.Request) -> web.Response:
        """The same, as aggregates: of a time or from an id on, oldest first, or the latest."""
        asset, limit = _asset(request, exchange), read_count(request, "limit", 500, 1, KEPT)
        start, first = (read_count(request, name, 0, 0, _LATEST) for name in ("startTime", "fromId"))
        end = read_count(request, "endTime", _LATEST, 0, _LATEST)
        rows = [
            {
                "a": tick.start_ms // 1_000,
                "p": decimal8(tick.close),
                "q": decimal8(QUANTITY),
                "f": tick.start_ms // 1_000,
                "l": tick.start_ms // 1_000,
                "T": tick.start_ms + 999,
                "m": False,
                "M": True,
            }
            for tick in exchange.feed.history[asset].seconds.items
            if start <= tick.start_ms + 999 <= end and first <= tick.start_ms // 1_000
        ]
        return web.json_response(rows[:limit] if {"startTime", "fromId"} & set(request.query) else rows[-limit:])

    async def average(request: web.Request) -> web.Response:
        """The price of the last five minutes."""
        minutes = [*exchange.feed.history[_asset(request, exchange)].minutes.items][-5:]
        price = sum(minute.close for minute in minutes) / len(minutes)
        return web.json_response({"mins": 5, "price": decimal8(price), "closeTime": minutes[-1].start_ms + 59_999})

    async def day(request: web.Request) -> web.Response:
        """The last day, as far as it is kept: a thousand minutes."""

        def shown(asset: str) -> dict[str, Any]:
            minutes, price = [*exchange.feed.history[asset].minutes.items], exchange.feed.lead[asset]
            whole = _joined(minutes[0].start_ms, minutes)
            volume = whole.ticks * QUANTITY
            bid, ask = best_prices(asset, price)
            return {
                "priceChange": decimal8(price - whole.open),
                "priceChangePercent": f"{(price / whole.open - 1) * 100:.3f}",
                "weightedAvgPrice": decimal8((whole.open + price) / 2),
                "prevClosePrice": decimal8(whole.open),
                "lastPrice": decimal8(price),
                "lastQty": decimal8(QUANTITY),
                "bidPrice": bid,
                "bidQty": decimal8(1),
                "askPrice": ask,
                "askQty": decimal8(1),
                "openPrice": decimal8(whole.open),
                "highPrice": decimal8(whole.high),
                "lowPrice": decimal8(whole.low),
                "volume": decimal8(volume),
                "quoteVolume": decimal8(volume * price),
                "openTime": whole.start_ms,
                "closeTime": exchange.clock(),
                "firstId": 0,
                "lastId": whole.ticks,
                "count": whole.ticks,
            }

        return _one_or_all(request, exchange, shown)

    return [
        web.get("/api/v3/time", time),
        web.get("/api/v3/ping", ping),
        web.get("/api/v3/klines", klines),
        web.get("/api/v3/exchangeInfo", info),
        web.get("/api/v3/depth", depth),
        web.get("/api/v3/trades", trades),
        web.get("/api/v3/aggTrades", agg_trades),
        web.get("/api/v3/avgPrice", average),
        web.get("/api/v3/ticker/24hr", day),
        web.get("/api/v3/ticker/price", price),
        web.get("/api/v3/ticker/bookTicker", book_ticker),
    ]


def _asset(request: web.Request, exchange: Exchange) -> str:
    """The asset of a request's symbol.

    Raises:
        RefusedError: 400, there is none; 503, a mirror has not heard of its price yet.
    """
    symbol = request.query.get("symbol", "")
    if not symbol:
        raise _refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    asset = symbol.removesuffix("USDT")
    if asset not in ASSETS or not symbol.endswith("USDT"):
        raise _refused(-1121, "Invalid symbol.")
    if asset not in exchange.feed.lead:
        raise RefusedError(
            503, "no price yet", bare=True, code=-1001, msg="Internal error; unable to process your request."
        )
    return asset


def _refused(code: int, text: str) -> RefusedError:
    return RefusedError(400, text, bare=True, code=code, msg=text)


def _groups(candles: Iterable[Candle], length_ms: int) -> Iterable[tuple[int, list[Candle]]]:
    for start_ms, part in itertools.groupby(candles, lambda one: one.start_ms - one.start_ms % length_ms):
        yield start_ms, [*part]


def _joined(start_ms: int, parts: list[Candle]) -> Candle:
    """One candle of several that follow each other."""
    return replace(
        parts[-1],
        start_ms=start_ms,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        ticks=sum(part.ticks for part in parts),
    )


def _one_or_all(request: web.Request, exchange: Exchange, shown: _Shown) -> web.Response:
    if "symbol" in request.query:
        asset = _asset(request, exchange)
        return web.json_response({"symbol": f"{asset}USDT"} | shown(asset))
    return web.json_response(
        [{"symbol": f"{asset}USDT"} | shown(asset) for asset in ASSETS if asset in exchange.feed.lead]
    )


def _symbol(asset: str) -> dict[str, object]:
    """What Binance says of a pair, as far as python-binance and ccxt read it."""
    step = decimal8(10 ** -DECIMALS[asset])
    return {
        "symbol": f"{asset}USDT",
        "status": "TRADING",
        "baseAsset": asset,
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": step, "maxPrice": decimal8(1_000_000), "tickSize": step},
            {"filterType": "LOT_SIZE", "minQty": decimal8(1e-5), "maxQty": decimal8(9_000), "stepSize": decimal8(1e-5)},
            {
                "filterType": "NOTIONAL",
                "minNotional": decimal8(5),
                "applyMinToMarket": True,
                "maxNotional": decimal8(9_000_000),
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
