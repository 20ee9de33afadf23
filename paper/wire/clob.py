"""The order book's public part of the wire: time, markets, books, prices, market parameters."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web
from eth_hash.auto import keccak

from paper.engine.book import BASE_FEE, FEE_EXPONENT, FEE_RATE, ONE, Book, format_units
from paper.engine.exchange import Exchange
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import MIN_SIZE
from paper.errors import RefusedError
from paper.wire.body import END_CURSOR, read_count, read_cursor, read_json, write_cursor
from paper.wire.forms import book_json

__all__ = ["clob_list", "question_id", "routes"]

_MAX_BATCH = 500
_LATEST_S = 10**12
_WIDE = [(10_000, 100 * ONE)], [(990_000, 100 * ONE)]  # bids and asks of a book that shows nothing of its market
_PAGE = 500
_TOKEN_ID = re.compile(r"[0-9]{20,78}")  # a short number is no id of a token
_CONDITION_ID = re.compile(r"0x(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{62})")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the public routes of the CLOB."""

    def of_token(token_id: object) -> tuple[Market, Book, int]:
        """The market of a token, its book, and which outcome the token is. The documented error codes."""
        if not isinstance(token_id, str) or not _TOKEN_ID.fullmatch(token_id):
            raise RefusedError(400, "Invalid token id")
        market = exchange.markets.of_token(token_id, exchange.clock())
        if market is None:
            raise RefusedError(404, "No orderbook exists for the requested token id")
        return market, exchange.book(market), market.window.token_ids.index(token_id)

    def of_condition(request: web.Request) -> Market:
        if not _CONDITION_ID.fullmatch(request.match_info["condition"]):
            raise RefusedError(400, "Invalid market")
        market = exchange.markets.of_condition(request.match_info["condition"], exchange.clock())
        if market is None:
            raise RefusedError(404, "market not found")
        return market

    async def answer_text(_request: web.Request) -> web.Response:
        return web.json_response("OK")

    async def time(_request: web.Request) -> web.Response:
        return web.json_response(exchange.shown_ms() // 1000)

    async def version(_request: web.Request) -> web.Response:
        return web.json_response({"version": 2})

    async def clob_market(request: web.Request) -> web.Response:
        market = of_condition(request)
        return web.json_response(_clob_market(exchange, market))

    async def market(request: web.Request) -> web.Response:
        return web.json_response(_market(exchange, of_condition(request)))

    async def by_token(request: web.Request) -> web.Response:
        window = of_token(request.match_info["token"])[0].window
        up, down = window.token_ids
        return web.json_response(
            {"condition_id": window.condition_id, "primary_token_id": up, "secondary_token_id": down}
        )

    def shown(book: Book, outcome: int) -> dict[str, object]:
        """A token's book; under the fault what one was seen to show of a live market (py-clob-client issue 180)."""
        now = exchange.clock()
        wide = exchange.faults.active("wide_books", "/book", now)
        return book_json(book, outcome, now, _WIDE if wide is not None else None)

    async def book(request: web.Request) -> web.Response:
        _, found, outcome = of_token(request.query.get("token_id"))
        return web.json_response(shown(found, outcome))

    async def books(request: web.Request) -> web.Response:
        answers = []
        for item in await _items(request):
            try:
                _, found, outcome = of_token(item.get("token_id"))
            except RefusedError:
                continue
            answers.append(shown(found, outcome))
        return web.json_response(answers)

    def one(name: str, read: Callable[[Book, int, str], object]) -> _Handler:
        async def handler(request: web.Request) -> web.Response:
            _, found, outcome = of_token(request.query.get("token_id"))
            return web.json_response({name: read(found, outcome, request.query.get("side", ""))})

        return handler

    def many(read: Callable[[Book, int, str], object]) -> _Handler:
        async def handler(request: web.Request) -> web.Response:
            answers: dict[str, object] = {}
            for item in await _items(request):
                try:
                    _, found, outcome = of_token(item.get("token_id"))
                    answers[str(item["token_id"])] = read(found, outcome, "BUY")
                except RefusedError:
                    continue
            return web.json_response(answers)

        return handler

    async def prices(request: web.Request) -> web.Response:
        answers: dict[str, dict[str, str]] = {}
        for item in await _items(request):
            try:
                _, found, outcome = of_token(item.get("token_id"))
                side = str(item.get("side", "BUY"))
                answers.setdefault(str(item["token_id"]), {})[side] = _price(found, outcome, side)
            except RefusedError:
                continue
        return web.json_response(answers)

    def listing(*, simplified: bool) -> _Handler:
        async def handler(request: web.Request) -> web.Response:
            return web.json_response(clob_list(exchange, request, simplified=simplified))

        return handler

    async def last_trade(request: web.Request) -> web.Response:
        _, found, outcome = of_token(request.query.get("token_id"))
        return web.json_response(_last_trade(found, outcome))

    async def history(request: web.Request) -> web.Response:
        """The middles of a token's book, a point a minute at most; ``fidelity`` is in minutes."""
        market, _, outcome = of_token(request.query.get("market"))
        start = read_count(request, "startTs", 0, 0, _LATEST_S)
        end = read_count(request, "endTs", _LATEST_S, 0, _LATEST_S)
        step = read_count(request, "fidelity", 1, 1, 10_080) * 60
        points = {at - at % step: price for at, price in market.middles if start <= at <= end}
        shown = [{"t": at, "p": (price if outcome == 0 else ONE - price) / ONE} for at, price in points.items()]
        return web.json_response({"history": shown})

    async def last_trades(request: web.Request) -> web.Response:
        answers: list[dict[str, str]] = []
        for item in await _items(request):
            try:
                _, found, outcome = of_token(item.get("token_id"))
            except RefusedError:
                continue
            if found.last_price is not None:
                answers.append({"token_id": str(item["token_id"]), **_last_trade(found, outcome)})
        return web.json_response(answers)

    return [
        web.get("/ok", answer_text),
        web.get("/time", time),
        web.get("/version", version),
        web.get("/clob-markets/{condition}", clob_market),
        web.get("/markets/{condition:0x[^/]*}", market),
        web.get("/markets-by-token/{token}", by_token),
        web.get("/sampling-markets", listing(simplified=False)),
        web.get("/simplified-markets", listing(simplified=True)),
        web.get("/sampling-simplified-markets", listing(simplified=True)),
        web.get("/book", book),
        web.post("/books", books),
        web.get("/price", one("price", _price)),
        web.post("/prices", prices),
        web.get("/midpoint", one("mid", _midpoint)),
        web.post("/midpoints", many(_midpoint)),
        web.get("/spread", one("spread", _spread)),
        web.post("/spreads", many(_spread)),
        web.get("/last-trade-price", last_trade),
        web.post("/last-trades-prices", last_trades),
        web.get("/prices-history", history),
        web.get("/tick-size", one("minimum_tick_size", lambda found, _outcome, _side: found.tick / ONE)),
        web.get("/neg-risk", one("neg_risk", lambda _book, _outcome, _side: False)),
        web.get("/fee-rate", one("base_fee", lambda _book, _outcome, _side: 1000)),
    ]


def clob_list(exchange: Exchange, request: web.Request, *, simplified: bool) -> dict[str, object]:
    """Return a page of the CLOB's lists of markets.

    Raises:
        RefusedError: 400, the cursor is none.
    """
    start = read_cursor(request)
    markets = exchange.markets.listed(exchange.clock())
    names = ("condition_id", "tokens", "active", "closed", "archived", "accepting_orders")
    rows = [_market(exchange, market) for market in markets[start : start + _PAGE]]
    if simplified:
        rows = [{name: row[name] for name in names} for row in rows]
    following = write_cursor(start + _PAGE) if start + _PAGE < len(markets) else END_CURSOR
    return {"data": rows, "next_cursor": following, "limit": _PAGE, "count": len(rows)}


async def _items(request: web.Request) -> list[dict[str, object]]:
    items = await read_json(request)
    if not isinstance(items, list) or len(items) > _MAX_BATCH or not all(isinstance(item, dict) for item in items):
        raise RefusedError(400, "Invalid payload")
    return items


def _price(book: Book, outcome: int, side: str) -> str:
    """The best price on the side asked for: ``BUY`` is the best bid, ``SELL`` the best ask."""
    if side not in ("BUY", "SELL"):
        raise RefusedError(400, "Invalid side")
    bids, asks = book.levels(outcome)
    levels = bids if side == "BUY" else asks
    return format_units(levels[0][0]) if levels else ("0" if side == "BUY" else "1")


def _midpoint(book: Book, outcome: int, _side: str) -> str:
    return format_units(sum(book.best(outcome)) // 2)


def _spread(book: Book, outcome: int, _side: str) -> str:
    bid, ask = book.best(outcome)
    return format_units(ask - bid)


def _last_trade(book: Book, outcome: int) -> dict[str, str]:
    if book.last_price is None:
        return {"price": "0.5", "side": ""}
    if outcome == 0:
        return {"price": format_units(book.last_price), "side": book.last_side}
    return {"price": format_units(ONE - book.last_price), "side": "SELL" if book.last_side == "BUY" else "BUY"}


def question_id(market: Market) -> str:
    """Return the id of a market's question."""
    return "0x" + keccak(b"question:" + market.window.slug.encode()).hex()


def _opened(market: Market) -> str:
    moment = datetime.fromtimestamp(market.window.start_ms / 1000 - 86_400, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _clob_market(exchange: Exchange, market: Market) -> dict[str, object]:
    """The short form, as recorded on 2026-10-02 (polyoxide) with what others recorded besides (nr, gst, sd, rfqe, oas)."""
    window, book = market.window, exchange.book(market)
    return {
        "c": window.condition_id,
        "t": [{"t": token, "o": outcome} for token, outcome in zip(window.token_ids, OUTCOMES, strict=True)],
        "mos": MIN_SIZE // ONE,
        "mts": book.tick / ONE,
        "mbf": BASE_FEE,
        "tbf": BASE_FEE,
        "ao": market.accepts_orders(exchange.clock()),
        "aot": _opened(market),
        "cbos": False,
        "itode": market.delay_s(exchange.settings) > 0,
        "ibce": False,
        "fd": {"r": float(FEE_RATE), "e": FEE_EXPONENT, "to": True},
        "v": window.protocol,
        "r": {},
        "nr": False,
        "gst": None,
        "sd": 0,
        "rfqe": False,
        "oas": 0,
    }


def _market(exchange: Exchange, market: Market) -> dict[str, object]:
    """The long form, as recorded on 2026-09-28 (pb clob_market_resolved), its fields in that order."""
    window, book, closed = market.window, exchange.book(market), market.winner is not None
    accepts = market.accepts_orders(exchange.clock())
    return {
        "enable_order_book": not closed,
        "active": True,
        "closed": closed,
        "archived": False,
        "accepting_orders": accepts,
        "accepting_order_timestamp": _opened(market),
        "minimum_order_size": MIN_SIZE // ONE,
        "minimum_tick_size": book.tick / ONE,
        "condition_id": window.condition_id,
        "question_id": question_id(market),
        "question": window.title,
        "description": window.title,
        "market_slug": window.slug,
        "end_date_iso": datetime.fromtimestamp(window.end_ms / 1000, tz=UTC).strftime("%Y-%m-%dT00:00:00Z"),
        "game_start_time": None,
        "seconds_delay": 0,
        "fpmm": "",
        "maker_base_fee": BASE_FEE,
        "taker_base_fee": BASE_FEE,
        "notifications_enabled": True,
        "neg_risk": False,
        "neg_risk_market_id": "",
        "neg_risk_request_id": "",
        "rewards": {"rates": None, "min_size": 50, "max_spread": 4.5},
        "is_50_50_outcome": market.is_void,
        "tokens": [
            {
                "token_id": token,
                "outcome": OUTCOMES[outcome],
                "price": market.payout(outcome) / ONE if closed else sum(book.best(outcome)) / 2 / ONE,
                "winner": market.winner == outcome,
            }
            for outcome, token in enumerate(window.token_ids)
        ],
        "tags": ["Up or Down"],
    }
