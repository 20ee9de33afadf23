"""Gamma's part of the wire: events and markets by slug, and keyset lists (venue.md 2.1)."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from aiohttp import web

from paper.engine.book import FEE_EXPONENT, FEE_RATE, ONE, format_units
from paper.engine.exchange import Exchange
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import MIN_SIZE
from paper.errors import RefusedError
from paper.wire.body import read_count
from paper.wire.clob import clob_list

__all__ = ["routes"]

_PAGE = 100
_MAX_LIMIT = 1000


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return Gamma's routes."""

    def found(slug: str) -> Market:
        market = exchange.market_by_slug(slug)
        if market is None:
            raise RefusedError(404, "slug not found", type="not found error")
        return market

    async def event(request: web.Request) -> web.Response:
        return web.json_response(_event(exchange, found(request.match_info["slug"])))

    async def market(request: web.Request) -> web.Response:
        one = found(request.match_info["slug"])
        return web.json_response(_market(exchange, one) | {"events": [_reference(one)]})

    def numbered(request: web.Request) -> Market:
        market = exchange.markets.of_number(int(request.match_info["number"]), exchange.clock())
        if market is None:
            raise RefusedError(404, "id not found", type="not found error")
        return market

    async def event_by_id(request: web.Request) -> web.Response:
        return web.json_response(_event(exchange, numbered(request)))

    async def market_by_id(request: web.Request) -> web.Response:
        one = numbered(request)
        return web.json_response(_market(exchange, one) | {"events": [_reference(one)]})

    async def events(request: web.Request) -> web.Response:
        return web.json_response([_event(exchange, one) for one in _chosen(exchange, request)])

    async def markets(request: web.Request) -> web.Response:
        """Gamma's list; with ``next_cursor``, which Gamma does not have, the CLOB's of the same path."""
        if "next_cursor" in request.query:
            return web.json_response(clob_list(exchange, request, simplified=False))
        return web.json_response([_market(exchange, one) for one in _chosen(exchange, request)])

    async def events_page(request: web.Request) -> web.Response:
        page, cursor = _page(_chosen(exchange, request), request)
        return web.json_response({"events": [_event(exchange, one) for one in page]} | cursor)

    async def markets_page(request: web.Request) -> web.Response:
        page, cursor = _page(_chosen(exchange, request), request)
        return web.json_response({"markets": [_market(exchange, one) for one in page]} | cursor)

    return [
        web.get("/events/slug/{slug}", event),
        web.get("/markets/slug/{slug}", market),
        web.get("/events/{number:[0-9]{1,15}}", event_by_id),
        web.get("/markets/{number:[0-9]{1,15}}", market_by_id),
        web.get("/events/keyset", events_page),
        web.get("/markets/keyset", markets_page),
        web.get("/events", events),
        web.get("/markets", markets),
    ]


def _chosen(exchange: Exchange, request: web.Request) -> list[Market]:
    """The markets that a list's query asks for by ``slug``, ``condition_ids``, ``clob_token_ids`` or ``id`` (each
    repeatable), else all in memory; then those that are ``closed`` or not.
    """
    now, query = exchange.clock(), request.query
    looked_up: list[Market | None] = [exchange.market_by_slug(slug) for slug in query.getall("slug", [])[:_PAGE]]
    looked_up += [exchange.markets.of_condition(one, now) for one in query.getall("condition_ids", [])[:_PAGE]]
    looked_up += [exchange.markets.of_token(one, now) for one in query.getall("clob_token_ids", [])[:_PAGE]]
    numbers = [int(one) for one in query.getall("id", [])[:_PAGE] if one.isascii() and one.isdigit() and len(one) < 16]
    looked_up += [exchange.markets.of_number(one, now) for one in numbers]
    if any(name in query for name in ("slug", "condition_ids", "clob_token_ids", "id")):
        chosen = [one for one in looked_up if one is not None]
    else:
        chosen = exchange.markets.listed(now)
    closed = query.get("closed")
    return [one for one in chosen if closed is None or (one.winner is not None) == (closed == "true")]


def _page(markets: list[Market], request: web.Request) -> tuple[list[Market], dict[str, str]]:
    try:
        start = int(base64.b64decode(request.query.get("after_cursor", "MA==")))
    except (ValueError, binascii.Error) as error:
        raise RefusedError(400, "invalid cursor", type="validation error") from error
    end = start + read_count(request, "limit", 20, 1, _MAX_LIMIT)
    more = {"next_cursor": base64.b64encode(str(end).encode()).decode()} if end < len(markets) else {}
    return markets[max(0, start) : end], more


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(market: Market) -> dict[str, object]:
    window = market.window
    return {"id": str(window.number), "slug": window.slug, "ticker": window.slug, "title": window.title}


def _event(exchange: Exchange, market: Market) -> dict[str, object]:
    window, closed = market.window, market.winner is not None
    body: dict[str, object] = {
        **_reference(market),
        "description": _description(market),
        "resolutionSource": _source(market),
        "startDate": _time(window.start_ms - 86_400_000),
        "creationDate": _time(window.start_ms - 86_400_000),
        "endDate": _time(window.end_ms),
        "startTime": _time(window.start_ms),
        "active": True,
        "closed": closed,
        "archived": False,
        "restricted": False,
        "enableOrderBook": True,
        "negRisk": False,
        "seriesSlug": f"{window.asset.lower()}-up-or-down-{window.timeframe}",
        "markets": [_market(exchange, market)],
        "series": [],
        "tags": [],
    }
    metadata = {"priceToBeat": market.reference, "finalPrice": market.final}
    body["eventMetadata"] = {name: price for name, price in metadata.items() if price is not None}
    if closed:
        body["closedTime"] = _time(market.resolved_ms or 0)
    return body


def _market(exchange: Exchange, market: Market) -> dict[str, object]:
    window, closed = market.window, market.winner is not None
    book = exchange.book(market)
    best_bid, best_ask = book.best(0)
    middle = (best_bid + best_ask) // 2
    prices = (
        ["1", "0"]
        if market.winner == 0
        else ["0", "1"]
        if closed
        else [format_units(middle), format_units(ONE - middle)]
    )
    body: dict[str, object] = {
        "id": str(window.number),
        "question": window.title,
        "conditionId": window.condition_id,
        "slug": window.slug,
        "description": _description(market),
        "resolutionSource": _source(market),
        "startDate": _time(window.start_ms - 86_400_000),
        "eventStartTime": _time(window.start_ms),
        "endDate": _time(window.end_ms),
        "outcomes": json.dumps(OUTCOMES),
        "outcomePrices": json.dumps(prices),
        "clobTokenIds": json.dumps(window.token_ids),
        "active": True,
        "closed": closed,
        "archived": False,
        "restricted": False,
        "enableOrderBook": True,
        "acceptingOrders": market.accepts_orders(exchange.clock()),
        "negRisk": False,
        "version": "v1",
        "orderMinSize": MIN_SIZE // ONE,
        "orderPriceMinTickSize": book.tick / ONE,
        "bestBid": best_bid / ONE,
        "bestAsk": best_ask / ONE,
        "spread": (best_ask - best_bid) / ONE,
        "feesEnabled": True,
        "feeType": "crypto_fees",
        "feeSchedule": {"exponent": FEE_EXPONENT, "rate": float(FEE_RATE), "takerOnly": True, "rebateRate": 0.2},
        "volume": "0",
    }
    if closed:
        body |= {"closedTime": _time(market.resolved_ms or 0), "umaResolutionStatus": "resolved"}
    return body


def _description(market: Market) -> str:
    return (
        f"Resolves to Up if the time average of the {market.window.asset}/USD settlement price over the last "
        f"{market.window.averaging_ms // 1000} seconds of the window is at or above the price at its start, else to Down. "
        "This is a paper market: no real money."
    )


def _source(market: Market) -> str:
    return f"paper exchange, settlement price of {market.window.asset}/USD"
