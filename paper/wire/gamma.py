"""Gamma's part of the wire: events and markets by slug, and keyset lists (venue.md 2.1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime

from aiohttp import web

from paper.engine.book import BASE_FEE, FEE_EXPONENT, FEE_RATE, ONE, REBATE_RATE, format_units
from paper.engine.exchange import Exchange
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import MIN_SIZE
from paper.errors import RefusedError
from paper.wire.body import read_count
from paper.wire.clob import clob_list, question_id

__all__ = ["routes"]

_PAGE = 100
_MAX_LIMIT = 1000
_LISTED_MS = 86_400_000  # before its window a market is made
_SERIES = 10_000  # ids of series begin here


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


def _fine_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _reference(market: Market) -> dict[str, object]:
    window = market.window
    return {"id": str(window.number), "ticker": window.slug, "slug": window.slug, "title": window.title}


def _event(exchange: Exchange, market: Market) -> dict[str, object]:
    """An event as recorded on 2026-09-28 (pb gamma_event_btc_5m_resolved), its fields in that order."""
    window, closed, now = market.window, market.winner is not None, exchange.clock()
    created_ms = window.start_ms - _LISTED_MS
    series = f"{window.asset.lower()}-up-or-down-{window.timeframe}"
    metadata = {"finalPrice": market.final, "priceToBeat": market.strike(now)}
    return {
        **_reference(market),
        "description": _description(market),
        "resolutionSource": _source(market),
        "startDate": _fine_time(created_ms),
        "creationDate": _fine_time(created_ms),
        "endDate": _time(window.end_ms),
        "active": True,
        "closed": closed,
        "archived": False,
        "new": False,
        "featured": False,
        "restricted": True,
        "volume": exchange.book(market).volume / ONE,
        "openInterest": 0.0,
        "createdAt": _fine_time(created_ms),
        "updatedAt": _fine_time(now),
        "enableOrderBook": True,
        "negRisk": False,
        "commentCount": 0,
        "markets": [_market(exchange, market)],
        "series": [{"id": str(_SERIES + _number(series)), "ticker": series, "slug": series, "title": series}],
        "tags": [{"id": "102127", "label": "Up or Down", "slug": "up-or-down"}],
        "cyom": False,
        **({"closedTime": _time(market.resolved_ms or 0)} if closed else {}),
        "showAllOutcomes": True,
        "showMarketImages": True,
        "automaticallyResolved": True,
        "enableNegRisk": False,
        "automaticallyActive": True,
        "startTime": _time(window.start_ms),
        "seriesSlug": series,
        "negRiskAugmented": False,
        "pendingDeployment": False,
        "deploying": False,
        "eventMetadata": {name: price for name, price in metadata.items() if price is not None},
        "version": window.protocol,
    }


def _market(exchange: Exchange, market: Market) -> dict[str, object]:
    """A market as recorded in that event, its fields in that order."""
    window, closed, now = market.window, market.winner is not None, exchange.clock()
    book = exchange.book(market)
    best_bid, best_ask = book.best(0)
    middle = (best_bid + best_ask) // 2
    prices = [market.payout(0), market.payout(1)] if closed else [middle, ONE - middle]
    created_ms, resolved_ms = window.start_ms - _LISTED_MS, market.resolved_ms or 0
    seconds = market.averaging_ms // 1000
    twap = f"twap-{seconds}" if seconds else "spot"
    ended = datetime.fromtimestamp(resolved_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S+00")
    fields: dict[str, object] = {
        "id": str(window.number),
        "question": window.title,
        "conditionId": window.condition_id,
        "slug": window.slug,
        "resolutionSource": _source(market),
        "endDate": _time(window.end_ms),
        "startDate": _fine_time(created_ms),
        "description": _description(market),
        "outcomes": json.dumps(OUTCOMES),
        "outcomePrices": json.dumps([format_units(price) for price in prices]),
        "volume": format_units(book.volume),
        "active": True,
        "closed": closed,
        "marketMakerAddress": "",
        "createdAt": _fine_time(created_ms),
        "updatedAt": _fine_time(now),
        **({"closedTime": ended} if closed else {}),
        "new": False,
        "featured": False,
        "archived": False,
        "restricted": True,
        "groupItemThreshold": "0",
        "questionID": question_id(market),
        **({"umaEndDate": _time(resolved_ms)} if closed else {}),
        "enableOrderBook": True,
        "orderPriceMinTickSize": book.tick / ONE,
        "orderMinSize": MIN_SIZE // ONE,
        **({"umaResolutionStatus": "resolved"} if closed else {}),
        "volumeNum": book.volume / ONE,
        "endDateIso": _time(window.end_ms)[:10],
        "startDateIso": _time(created_ms)[:10],
        "hasReviewedDates": True,
        "clobTokenIds": json.dumps(window.token_ids),
        "makerBaseFee": BASE_FEE,
        "takerBaseFee": BASE_FEE,
        "acceptingOrders": market.accepts_orders(now),
        "negRisk": False,
        "ready": False,
        "funded": False,
        "acceptingOrdersTimestamp": _time(created_ms),
        "cyom": False,
        "approved": True,
        "rewardsMinSize": 50,
        "rewardsMaxSpread": 4.5,
        "spread": (best_ask - best_bid) / ONE,
        "automaticallyResolved": True,
        "lastTradePrice": (book.last_price or 0) / ONE,
        "bestBid": best_bid / ONE,
        "bestAsk": best_ask / ONE,
        "automaticallyActive": True,
        "clearBookOnStart": False,
        "manualActivation": False,
        "negRiskOther": False,
        "umaResolutionStatuses": "[]",
        "pendingDeployment": False,
        "deploying": False,
        "rfqEnabled": False,
        "eventStartTime": _time(window.start_ms),
        "holdingRewardsEnabled": False,
        "feesEnabled": True,
        "makerRebatesFeeShareBps": 10_000,
        "feeType": "crypto_fees_v2",
        "feeSchedule": {
            "exponent": FEE_EXPONENT,
            "rate": float(FEE_RATE),
            "takerOnly": True,
            "rebateRate": float(REBATE_RATE),
        },
        "cryptoMarketConfigId": f"{window.asset.lower()}-{window.timeframe}-{twap}",
        "cryptoMarketConfig": {
            "id": f"{window.asset.lower()}-{window.timeframe}-{twap}",
            "asset": window.asset.lower(),
            "duration": window.timeframe,
            "twapEnabled": bool(seconds),
            "twapLookbackSeconds": seconds,
        },
        # polymarket-client 0.15 reads a taker delay in milliseconds; how the venue names it, nobody recorded.
        "takerDelayMs": round(market.delay_s(exchange.settings) * 1000),
        "version": window.protocol,
    }
    if window.protocol == "v2":
        fields["positionIds"] = json.dumps(window.token_ids)
    # As the venue leaves zeros out: a book without bids has no bestBid.
    return {name: value for name, value in fields.items() if name not in ("bestBid", "lastTradePrice") or value}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")


def _description(market: Market) -> str:
    asset, seconds = market.window.asset, market.averaging_ms // 1000
    price = (
        f"time average of the {asset}/USD settlement price over {seconds} seconds" if seconds else "settlement price"
    )
    return (
        f"Resolves to Up if the {price} at the end of the window is at or above its value at the start, else to Down. "
        "This is a paper market: no real money."
    )


def _source(market: Market) -> str:
    return f"paper exchange, settlement price of {market.window.asset}/USD"
