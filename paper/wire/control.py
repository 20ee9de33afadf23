"""The exchange's own control: state, record, faults, and the page that shows them."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from paper.engine.book import format_units
from paper.engine.exchange import Exchange
from paper.engine.faults import KINDS, FaultOrder
from paper.engine.market_maker import HOUSE
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import CASH
from paper.engine.prices import ASSETS, DECIMALS
from paper.engine.record import Record, Value
from paper.errors import RefusedError
from paper.streams.sockets import Sockets
from paper.wire.body import read_count
from paper.wire.forms import by_match, mean_price, status_of

# What the page and ``python -m paper show`` show: prices, books, flow, users' orders, faults.


_BOOKS, _LEVELS, _ORDERS, _REQUESTS = 60, 3, 100, 15


def view(exchange: Exchange) -> dict[str, object]:
    """Return the state as people want to see it; amounts and prices as decimal texts."""
    now = exchange.clock()
    exchange.faults.drop_ended(now)
    markets = sorted(
        exchange.markets.by_condition.values(), key=lambda market: (market.window.end_ms, market.window.slug)
    )
    lead, settlement = exchange.feed.lead, exchange.feed.settlement
    open_now = [market for market in markets if market.winner is None and market.window.start_ms <= now]
    return {
        "now_ms": now,
        "shown_ms": exchange.shown_ms(),
        "seed": exchange.settings.seed,
        "tape": list(exchange.settings.tape),
        "prices": [
            {
                "asset": asset,
                "lead": f"{lead[asset]:.{DECIMALS[asset]}f}" if asset in lead else "-",
                "settlement": f"{settlement[asset]:.{DECIMALS[asset] + 2}f}" if asset in settlement else "-",
            }
            for asset in ASSETS
        ],
        "mirror": exchange.mirrors,
        "books": [_book(exchange, market, now) for market in open_now[:_BOOKS]],
        "flow": _aged(exchange.orders.flow, now),
        "users_flow": _aged(exchange.orders.users_flow, now),
        "orders": _orders(exchange),
        "requests": exchange.record.query_dicts(
            "SELECT time_ms, method, path, status, order_id FROM requests ORDER BY seq DESC LIMIT ?", [_REQUESTS]
        ),
        "balances": [
            {
                "wallet": wallet,
                "pUSD": format_units(held.get("pUSD", 0)),
                "tokens": sum(1 for n in held.values() if n) - 1,
            }
            for wallet, held in exchange.engine.balances.items()
            if wallet not in HOUSE
        ],
        "faults": [fault.body for fault in exchange.faults.armed],
    }


def _aged(flow: Iterable[dict[str, object]], now: int) -> list[dict[str, object]]:
    return [trade | {"age_s": (now - int(str(trade["time_ms"]))) // 1000} for trade in flow]


def _book(exchange: Exchange, market: Market, now: int) -> dict[str, object]:
    window, book = market.window, exchange.book(market)
    bids, asks = book.levels(0)
    return {
        "slug": window.slug,
        "left_s": round((window.end_ms - now) / 1000, 1),
        "reference": market.reference,
        "bids": _levels(bids),
        "asks": _levels(asks),
        "last": "" if book.last_price is None else format_units(book.last_price),
        "tick": format_units(book.tick),
        "users": sum(order.wallet not in HOUSE for order in book.orders()),
    }


def _levels(levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(format_units(price), format_units(size)) for price, size in [*levels][:_LEVELS]]


def _orders(exchange: Exchange) -> list[dict[str, object]]:
    mine = [order for order in exchange.engine.orders.values() if order.wallet not in HOUSE]
    orders: list[dict[str, object]] = []
    for order in mine[-_ORDERS:]:
        market = exchange.markets.by_condition.get(order.condition_id)
        orders.append(
            {
                "order_id": order.order_id,
                "wallet": order.wallet,
                "slug": market.window.slug if market is not None else "",
                "outcome": OUTCOMES[order.outcome],
                "side": order.side,
                "type": order.order_type,
                "price": format_units(order.price),
                "size": format_units(order.size),
                "filled": format_units(order.filled),
            }
        )
    return orders


# The record as others read it: over HTTP (``/paper/record``) and as JSON lines (``python -m paper record``).


_WINNERS = (*OUTCOMES, "void")  # the last: a half for each share
_Rows = list[dict[str, Value]]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the record; docs/reference/paper.md describes the fields. Money and shares are base units.

    Attributes:
        resolutions: of the markets of these trades, as far as they are resolved.
        next: the ``after`` of the page that follows, or None if this is the last.
        positions, balance: of all wallets, as they are now.
    """

    orders: _Rows
    trades: _Rows
    requests: _Rows
    resolutions: _Rows
    positions: _Rows
    balance: dict[str, Value]
    next: int | None

    @property
    def body(self) -> dict[str, object]:
        """As JSON shows it."""
        return asdict(self)


def read_record(record: Record, after: int, limit: int, now_ms: int) -> Page:
    """Return the rows of each kind whose number is in (after, after + limit]; trades with their status at ``now_ms``."""
    until = after + limit
    tables = {
        table: record.query_dicts(f"SELECT * FROM {table} WHERE seq > ? AND seq <= ? ORDER BY seq", [after, until])
        for table in ("orders", "requests")
    }
    trades = record.query_dicts(
        "SELECT * FROM trades WHERE match_id IN (SELECT match_id FROM trades WHERE seq > ? AND seq <= ?) ORDER BY seq",
        [after, until],
    )
    more = any(record.query(f"SELECT 1 FROM {table} WHERE seq > ? LIMIT 1", [until]) for table in (*tables, "trades"))
    resolutions = record.query_dicts(
        "SELECT condition_id, slug, reference, final, winner, resolved_ms FROM markets WHERE winner IS NOT NULL "
        "AND condition_id IN (SELECT condition_id FROM trades WHERE seq > ? AND seq <= ?) ORDER BY end_ms, slug",
        [after, until],
    )
    sums = record.query("SELECT wallet, asset, SUM(amount) FROM ledger GROUP BY wallet, asset HAVING SUM(amount) != 0")
    return Page(
        orders=[_order(row) for row in tables["orders"]],
        # A trade of several makers is on the page of its first row.
        trades=[part for rows in by_match(trades) if _int(rows[0]["seq"]) > after for part in _parts(rows, now_ms)],
        requests=[_request(row) for row in tables["requests"]],
        resolutions=[row | {"winner": _WINNERS[_int(row["winner"])]} for row in resolutions],
        positions=[{"wallet": who, "token_id": asset, "size": size} for who, asset, size in sums if asset != CASH],
        balance={str(wallet): amount for wallet, asset, amount in sums if asset == CASH},
        next=until if more else None,
    )


def _order(row: dict[str, Value]) -> dict[str, Value]:
    outcome, post_only = row.pop("outcome"), row.pop("post_only")
    row.pop("api_key")
    return row | {"outcome": OUTCOMES[int(outcome == 1)], "post_only": bool(post_only)}


def _parts(rows: _Rows, now_ms: int) -> _Rows:
    """One row for the taker of a trade and one for each maker, as far as they are users."""
    taker = _part("taker", rows[0], now_ms)
    taker |= {
        "size": sum(_int(row["size"]) for row in rows),
        "fee": sum(_int(row["fee"]) for row in rows),
        "price": mean_price(rows),
    }
    parts = [taker, *(_part("maker", row, now_ms) | {"fee": 0} for row in rows)]
    return [part for part in parts if part["wallet"] not in HOUSE]


def _part(role: str, row: dict[str, Value], now_ms: int) -> dict[str, Value]:
    shared = {name: row[name] for name in ("seq", "condition_id", "slug", "time_ms", "size")}
    return shared | {
        "trade_id": row["match_id"],
        "role": role,
        "order_id": row[f"{role}_order_id"],
        "wallet": row[f"{role}_wallet"],
        "token_id": row[f"{role}_token"],
        "outcome": OUTCOMES[int(row[f"{role}_outcome"] == 1)],
        "side": row[f"{role}_side"],
        "price": row[f"{role}_price"],
        "status": status_of(row, now_ms),
    }


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value


def _request(row: dict[str, Value]) -> dict[str, Value]:
    body = row["body"]
    return row | {"body": body.decode("utf-8", "replace") if isinstance(body, bytes) else body}


# The exchange's own control: state, record, faults, and the page that shows them.


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
                "mirror": exchange.mirrors,
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
