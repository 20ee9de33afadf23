"""The Data API's part of the wire: positions, trades and activity of a wallet, in both of its forms.

The older form is a list with ``offset``; whether it ends, sources disagree (``--data-v1``). The newer one, ``/v2``, is an
envelope in snake_case with a cursor, a thousand rows a page at most (recorded 2026-09-28, pb data_v2_*.json).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from paper.engine.book import ONE
from paper.engine.exchange import Exchange
from paper.engine.markets import OUTCOMES, Market
from paper.engine.record import Value
from paper.engine.signing import checksum, is_address
from paper.errors import RefusedError
from paper.wire.body import read_count
from paper.wire.forms import transaction_hash

__all__ = ["routes"]

_MOST = 1000
_USUAL = 100
_OFFSETS = 10_000  # as far as the older form goes
_V1_ENDS = {"off": 404, "gone": 410}
_ROWS = """SELECT * FROM trades WHERE (taker_wallet = ? OR maker_wallet = ?)
    AND reversed_ms IS NULL ORDER BY time_ms, seq"""
_Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(slots=True)
class _Fill:
    """One fill of a wallet; ``value`` and ``fee`` in base units of pUSD."""

    token_id: str
    condition_id: str
    slug: str
    outcome: int
    side: str
    size: int
    value: int
    fee: int
    time_ms: int
    match_id: str


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the Data API's routes."""

    def v1(handler: _Handler) -> _Handler:
        async def answer(request: web.Request) -> web.Response:
            ended = _V1_ENDS.get(exchange.settings.data_v1)
            if ended is not None:
                raise RefusedError(ended, "This endpoint is no longer available, use /v2")
            return await handler(request)

        return answer

    async def positions(request: web.Request) -> web.Response:
        rows = await _positions(exchange, _user(request))
        return web.json_response([_old_position(row) for row in _part(request, rows)])

    async def positions_v2(request: web.Request) -> web.Response:
        wanted = request.query.get("status", "OPEN")
        rows = await _positions(exchange, _user(request))
        shown = [row for row in rows if row["status"] == wanted or (wanted == "MERGEABLE" and row["mergeable"])]
        return web.json_response(_page(request, shown))

    async def activity(request: web.Request) -> web.Response:
        rows = [_old_names(row) for row in await _activity(exchange, _user(request))]
        return web.json_response(_part(request, rows))

    async def activity_v2(request: web.Request) -> web.Response:
        kinds = request.query.getall("type", [])
        rows = await _activity(exchange, _user(request))
        return web.json_response(_page(request, [row for row in rows if not kinds or row["type"] in ",".join(kinds)]))

    async def trades_v2(request: web.Request) -> web.Response:
        rows = [row for row in await _activity(exchange, _user(request)) if row["type"] == "TRADE"]
        return web.json_response(
            _page(request, [{k: v for k, v in row.items() if k not in ("type", "usdc_size")} for row in rows])
        )

    async def value_v2(request: web.Request) -> web.Response:
        user = _user(request)
        total = sum(row["current_value"] for row in await _positions(exchange, user))
        return web.json_response({"data": {"user": user, "value": round(total, 4)}})

    async def status(_request: web.Request) -> web.Response:
        return web.json_response({"data": {"status": "ok", "lag_seconds": 0}})

    return [
        web.get("/positions", v1(positions)),
        web.get("/activity", v1(activity)),
        web.get("/v2/positions", positions_v2),
        web.get("/v2/activity", activity_v2),
        web.get("/v2/trades", trades_v2),
        web.get("/v2/value", value_v2),
        web.get("/v2/status", status),
    ]


def _user(request: web.Request) -> str:
    user = request.query.get("user", "")
    if not is_address(user):
        raise RefusedError(
            400,
            "Failed to deserialize query string: user: expected an address",
            code="invalid_request",
            retryable=False,
            trace_id="0" * 32,
        )
    return checksum(user)


async def _fills(exchange: Exchange, wallet: str) -> list[_Fill]:
    """A wallet's fills that were not undone, oldest first; the taker's of one match in one."""
    await exchange.record.durable()
    fills: dict[tuple[str, str], _Fill] = {}
    for row in exchange.record.query_dicts(_ROWS, [wallet, wallet]):
        for role in ("taker", "maker"):
            if row[f"{role}_wallet"] == wallet:
                _add(fills, row, role)
    return [*fills.values()]


def _add(fills: dict[tuple[str, str], _Fill], row: dict[str, Value], role: str) -> None:
    size, price = _int(row["size"]), _int(row[f"{role}_price"])
    fill = fills.setdefault(
        (str(row["match_id"]), str(row[f"{role}_order_id"])),
        _Fill(
            token_id=str(row[f"{role}_token"]),
            condition_id=str(row["condition_id"]),
            slug=str(row["slug"]),
            outcome=_int(row[f"{role}_outcome"]),
            side=str(row[f"{role}_side"]),
            size=0,
            value=0,
            fee=0,
            time_ms=_int(row["time_ms"]),
            match_id=str(row["match_id"]),
        ),
    )
    fill.size += size
    fill.value += size * price // ONE
    fill.fee += _int(row["fee"]) if role == "taker" else 0


async def _positions(exchange: Exchange, wallet: str) -> list[dict[str, Any]]:
    """What a wallet holds, in the newer form, dearest first."""
    fills = await _fills(exchange, wallet)
    rows: list[dict[str, Any]] = []
    for token_id in dict.fromkeys(fill.token_id for fill in fills):
        held = exchange.engine.balance(wallet, token_id)
        market = exchange.markets.of_token(token_id, exchange.clock())
        if held and market is not None:
            rows.append(_position(exchange, wallet, market, [one for one in fills if one.token_id == token_id], held))
    return sorted(rows, key=lambda row: -float(row["current_value"]))


def _position(exchange: Exchange, wallet: str, market: Market, fills: list[_Fill], held: int) -> dict[str, Any]:
    window, outcome, resolved = market.window, fills[0].outcome, market.winner is not None
    other = window.token_ids[1 - outcome]
    bought = [fill for fill in fills if fill.side == "BUY"]
    shares, value, fees = (sum(getattr(fill, name) for fill in bought) for name in ("size", "value", "fee"))
    price = market.payout(outcome) if resolved else sum(exchange.book(market).best(outcome)) // 2
    average = value / shares if shares else 0.0
    cost, worth = held / ONE * average, held / ONE * price / ONE
    percent = round((worth - cost) / cost * 100, 4) if cost else 0.0
    status = "OPEN" if not resolved else "REDEEMABLE" if price else "REDEEMABLE_LOST"
    return {
        "proxy_wallet": wallet.lower(),
        "token_id": fills[0].token_id,
        "condition_id": window.condition_id,
        "current_size": held / ONE,
        "avg_price": round(average, 4),
        "entry_cost_usdc": round(cost, 4),
        "entry_fees_usdc": round(fees / ONE, 5),
        "total_cost_usdc": round(cost + fees / ONE, 5),
        "current_price": price / ONE,
        "current_value": round(worth, 4),
        "total_size": shares / ONE,
        "realized_pnl": 0.0,
        "unrealized_pnl": round(worth - cost, 4),
        "total_pnl": round(worth - cost, 4),
        "percent_pnl": percent,
        "percent_realized_pnl": percent,
        "status": status,
        "redeemable": resolved,
        "mergeable": exchange.engine.balance(wallet, other) > 0,
        "negative_risk": False,
        "archived": False,
        "title": window.title,
        "slug": window.slug,
        "icon": "",
        "event_id": str(window.number),
        "event_slug": window.slug,
        "outcome": OUTCOMES[outcome],
        "outcome_index": outcome,
        "opposite_outcome": OUTCOMES[1 - outcome],
        "opposite_token_id": other,
        "end_date": datetime.fromtimestamp(window.end_ms / 1000, tz=UTC).strftime("%Y-%m-%d"),
        "last_event_at": max(fill.time_ms for fill in fills) // 1000,
        "name": "",
        "profile_image": "",
        "verified": False,
    }


def _old_position(row: dict[str, Any]) -> dict[str, object]:
    """A position as the older form has it (recorded 2026-09-28, pb data_v1_positions)."""
    return {
        "proxyWallet": row["proxy_wallet"],
        "asset": row["token_id"],
        "conditionId": row["condition_id"],
        "size": row["current_size"],
        "avgPrice": row["avg_price"],
        "initialValue": row["entry_cost_usdc"],
        "grossInitialValue": row["total_cost_usdc"],
        "entryFeesUsdc": row["entry_fees_usdc"],
        "currentValue": row["current_value"],
        "cashPnl": row["unrealized_pnl"],
        "percentPnl": row["percent_pnl"],
        "totalBought": row["total_size"],
        "realizedPnl": row["realized_pnl"],
        "percentRealizedPnl": row["percent_realized_pnl"],
        "curPrice": row["current_price"],
        "redeemable": row["redeemable"],
        "mergeable": row["mergeable"],
        "title": row["title"],
        "slug": row["slug"],
        "icon": row["icon"],
        "eventId": row["event_id"],
        "eventSlug": row["event_slug"],
        "outcome": row["outcome"],
        "outcomeIndex": row["outcome_index"],
        "oppositeOutcome": row["opposite_outcome"],
        "oppositeAsset": row["opposite_token_id"],
        "endDate": row["end_date"],
        "negativeRisk": row["negative_risk"],
    }


async def _activity(exchange: Exchange, wallet: str) -> list[dict[str, Any]]:
    """A wallet's trades, in the newer form, newest first."""
    return [
        {
            "proxy_wallet": wallet.lower(),
            "timestamp": fill.time_ms // 1000,
            "condition_id": fill.condition_id,
            "type": "TRADE",
            "size": fill.size / ONE,
            "usdc_size": fill.value / ONE,
            "transaction_hash": transaction_hash(fill.match_id),
            "price": round(fill.value / fill.size, 10),
            "token_id": fill.token_id,
            "side": fill.side,
            "outcome_index": fill.outcome,
            "title": fill.slug,
            "slug": fill.slug,
            "icon": "",
            "event_slug": fill.slug,
            "outcome": OUTCOMES[fill.outcome],
            "name": "",
            "pseudonym": "",
            "bio": "",
            "profile_image": "",
            "profile_image_optimized": "",
        }
        for fill in reversed(await _fills(exchange, wallet))
    ]


def _old_names(row: dict[str, Any]) -> dict[str, object]:
    names = {"token_id": "asset"}
    return {names.get(name) or _camel(name): value for name, value in row.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _part(request: web.Request, rows: list[Any]) -> list[Any]:
    """A part of a list in the older form."""
    limit = read_count(request, "limit", _USUAL, 0, _MOST)
    offset = read_count(request, "offset", 0, 0, _OFFSETS)
    return rows[offset : offset + limit]


def _page(request: web.Request, rows: list[dict[str, Any]]) -> dict[str, object]:
    """A page in the newer form; the cursor says where it begins."""
    text = request.query.get("limit", str(_USUAL))
    if not text.isascii() or not text.isdecimal() or int(text[:9]) > _MOST:
        raise RefusedError(
            400,
            f"Failed to deserialize query string: limit: limit must be between 0 and {_MOST}",
            code="invalid_request",
            retryable=False,
            trace_id="0" * 32,
        )
    limit = int(text)
    try:
        start = int(base64.urlsafe_b64decode(request.query.get("cursor") or "MA=="))
    except (ValueError, binascii.Error) as error:
        raise RefusedError(400, "invalid cursor", code="invalid_request", retryable=False) from error
    end = max(0, start) + limit
    more = end < len(rows)
    pagination = {
        "limit": limit,
        "offset": 0,
        "has_more": more,
        "next_cursor": base64.urlsafe_b64encode(str(end).encode()).decode() if more else None,
    }
    return {"data": rows[max(0, start) : end], "pagination": pagination}


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value
