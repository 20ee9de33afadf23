"""The order book's public part of the wire: time, markets, books, prices, market parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from paper.engine.book import FEE_EXPONENT, FEE_RATE, ONE, Book, format_units
from paper.engine.exchange import Exchange
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import MIN_SIZE
from paper.errors import RefusedError
from paper.wire.body import END_CURSOR, read_cursor, read_json, write_cursor
from paper.wire.forms import book_json

__all__ = ["clob_list", "routes"]

_MAX_BATCH = 500
_PAGE = 500
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the public routes of the CLOB."""

    def of_token(token_id: object) -> tuple[Market, Book, int]:
        market = exchange.markets.of_token(token_id, exchange.clock()) if isinstance(token_id, str) else None
        if market is None or not isinstance(token_id, str):
            raise RefusedError(404, "No orderbook exists for the requested token id")
        return market, exchange.book(market), market.window.token_ids.index(token_id)

    def of_condition(request: web.Request) -> Market:
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

    async def book(request: web.Request) -> web.Response:
        _, found, outcome = of_token(request.query.get("token_id"))
        return web.json_response(book_json(found, outcome, exchange.clock()))

    async def books(request: web.Request) -> web.Response:
        answers = []
        for item in await _items(request):
            try:
                _, found, outcome = of_token(item.get("token_id"))
            except RefusedError:
                continue
            answers.append(book_json(found, outcome, exchange.clock()))
        return web.json_response(answers)

    def one(name: str, read: Callable[[Book, int, str], object]) -> _Handler:
        async def handler(request: web.Request) -> web.Response:
            _, found, outcome = of_token(request.query.get("token_id"))
            return web.json_response({name: read(found, outcome, request.query.get("side", "BUY"))})

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
        web.get("/markets/{condition:0x[0-9a-fA-F]+}", market),
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
    rows = [_market(exchange, one) for one in markets[start : start + _PAGE]]
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


def _clob_market(exchange: Exchange, market: Market) -> dict[str, object]:
    window, book = market.window, exchange.book(market)
    return {
        "c": window.condition_id,
        "t": [{"t": token, "o": outcome} for token, outcome in zip(window.token_ids, OUTCOMES, strict=True)],
        "mos": MIN_SIZE // ONE,
        "mts": book.tick / ONE,
        "nr": False,
        "fd": {"r": float(FEE_RATE), "e": FEE_EXPONENT, "to": True},
        "ao": market.accepts_orders(exchange.clock()),
        "itode": True,
        "gst": None,
        "mbf": 1000,
        "tbf": 1000,
    }


def _market(exchange: Exchange, market: Market) -> dict[str, object]:
    window, book = market.window, exchange.book(market)
    return {
        "condition_id": window.condition_id,
        "question_id": window.condition_id,
        "market_slug": window.slug,
        "enable_order_book": True,
        "active": True,
        "closed": market.winner is not None,
        "archived": False,
        "accepting_orders": market.accepts_orders(exchange.clock()),
        "minimum_order_size": MIN_SIZE // ONE,
        "minimum_tick_size": book.tick / ONE,
        "neg_risk": False,
        "maker_base_fee": 1000,
        "taker_base_fee": 1000,
        "seconds_delay": 0,
        "tokens": [
            {
                "token_id": token,
                "outcome": OUTCOMES[outcome],
                "price": int(market.winner == outcome)
                if market.winner is not None
                else sum(book.best(outcome)) / 2 / ONE,
                "winner": market.winner == outcome,
            }
            for outcome, token in enumerate(window.token_ids)
        ],
    }
