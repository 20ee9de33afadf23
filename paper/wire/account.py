"""The order book's private part of the wire: API keys, orders, cancels, look-ups, trades, balances, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from paper.engine.exchange import Exchange
from paper.engine.journal import order_row
from paper.engine.keys import TIERS, ApiKey
from paper.engine.matching import CASH
from paper.engine.offers import read_offer
from paper.engine.record import Value
from paper.errors import RefusedError
from paper.wire.body import END_CURSOR, read_cursor, read_json, write_cursor
from paper.wire.forms import by_match, open_order_json, trade_json

__all__ = ["routes"]

_MAX_ORDERS = 15
_MAX_CANCELS = 3000
_PAGE = 100
_ALLOWANCE = str((1 << 256) - 1)
_SPENDERS = (
    "0xE111180000d2663C0091e4f400237545B87B996B",
    "0xe2222d279d744050d28e00520010520000310F59",
    "0xd91E80cF2E7be2e162c6513ceD06f1dD0dA35296",
)


class Account:
    """The private handlers. Every one authenticates first; those that change something are awaited until durable."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def _key(self, request: web.Request) -> ApiKey:
        key = self._exchange.keys.check(request.headers, request.method, request.path, await request.read())
        request["address"] = key.address
        return key

    async def create_key(self, request: web.Request) -> web.Response:
        return web.json_response(self._exchange.keys.create(request.headers).body)

    async def derive_key(self, request: web.Request) -> web.Response:
        return web.json_response(self._exchange.keys.derive(request.headers).body)

    async def list_keys(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        return web.json_response({"apiKeys": self._exchange.keys.active(key.address)})

    async def delete_key(self, request: web.Request) -> web.Response:
        self._exchange.keys.delete(await self._key(request))
        return web.json_response("OK")

    async def closed_only(self, request: web.Request) -> web.Response:
        await self._key(request)
        return web.json_response({"closed_only": False})

    async def post_order(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        headers = self._exchange.limits.take(key.address, "order", 1, self._exchange.clock())
        offer = read_offer(await read_json(request))
        request["order_ids"] = offer.order_id
        return web.json_response(await self._exchange.orders.post(key, offer), headers=headers)

    async def post_orders(self, request: web.Request) -> web.Response:
        """A batch: each order is answered for itself, but the rate limit takes all or none."""
        key = await self._key(request)
        payloads = await read_json(request)
        if not isinstance(payloads, list) or not 0 < len(payloads) <= _MAX_ORDERS:
            if isinstance(payloads, list) and payloads:
                text = f"Too many orders in payload: {len(payloads)}, max allowed: {_MAX_ORDERS}"
                raise RefusedError(400, text)
            raise RefusedError(400, "Invalid order payload")
        headers = self._exchange.limits.take(key.address, "order", len(payloads), self._exchange.clock())
        answers = [await self._one_of_many(key, payload) for payload in payloads]
        return web.json_response(answers, headers=headers)

    async def _one_of_many(self, key: ApiKey, payload: Any) -> dict[str, object]:
        try:
            return await self._exchange.orders.post(key, read_offer(payload))
        except RefusedError as refusal:
            # As recorded: a refused leg has success true, no id, and the text (nautilus_trader, http_batch_order_response).
            empty = {"orderID": "", "takingAmount": "", "makingAmount": "", "status": "", "transactionsHashes": []}
            return empty | {"errorMsg": refusal.text, "success": True}

    async def cancel_order(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        body = await read_json(request)
        oid = body.get("orderID") if isinstance(body, dict) else None
        if not isinstance(oid, str):
            raise RefusedError(400, "Invalid orderID")
        request["order_ids"] = oid
        return self._cancelled(key, 1, lambda: self._exchange.orders.cancel(key, [oid]))

    async def cancel_orders(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        ids = await read_json(request)
        if not isinstance(ids, list) or len(ids) > _MAX_CANCELS or not all(isinstance(oid, str) for oid in ids):
            raise RefusedError(400, f"Invalid payload: expected up to {_MAX_CANCELS} order ids")
        return self._cancelled(key, len(ids), lambda: self._exchange.orders.cancel(key, ids))

    async def cancel_all(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        mine = sum(order.owner == key.address for order in self._exchange.engine.orders.values())
        return self._cancelled(key, 1 + mine, lambda: self._exchange.orders.cancel_where(key), may_owe=True)

    async def cancel_market(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        body = await read_json(request)
        if not isinstance(body, dict) or not (body.get("market") or body.get("asset_id")):
            raise RefusedError(400, "Invalid payload: expected market or asset_id")
        market, token = body.get("market"), body.get("asset_id")
        return self._cancelled(key, 1, lambda: self._exchange.orders.cancel_where(key, market, token))

    def _cancelled(
        self, key: ApiKey, count: int, cancel: Callable[[], dict[str, object]], *, may_owe: bool = False
    ) -> web.Response:
        """Cancel within the rate limit, unless trading is disabled altogether."""
        exchange, now = self._exchange, self._exchange.clock()
        if exchange.faults.active("disabled", "/order", now):
            text = "Trading is currently disabled. Check polymarket.com for updates"
            raise RefusedError(503, text, headers={"Retry-After": "5"})
        headers = exchange.limits.take(key.address, "cancel", count, now, may_owe=may_owe)
        return web.json_response(cancel(), headers=headers)

    async def order(self, request: web.Request) -> web.Response:
        """One order; a finished one is ``null``, as users of the venue saw (venue.md 1.6), unless settings show it."""
        key = await self._key(request)
        now = self._exchange.clock()
        if self._exchange.faults.strike(("empty_order",), "GET", request.path, now):
            return web.json_response(None)
        held = self._exchange.orders.shows_delayed(request.match_info["order"])
        if held is not None and held.owner == key.address:
            return web.json_response(open_order_json(order_row(held, key.key, "DELAYED")))
        await self._exchange.record.durable()
        sql = "SELECT * FROM orders WHERE order_id = ? AND owner = ?"
        rows = self._exchange.record.query_dicts(sql, [request.match_info["order"], key.address])
        hidden = self._exchange.settings.finished_orders == "null"
        if not rows or (hidden and rows[0]["status"] != "LIVE"):
            return web.json_response(None)
        return web.json_response(self._shown(rows)[0])

    async def orders(self, request: web.Request) -> web.Response:
        """Open orders, oldest first."""
        key = await self._key(request)
        wanted = {"order_id": "id", "condition_id": "market", "token_id": "asset_id"}
        where, values = ["status = 'LIVE'", "owner = ?"], [key.address]
        for column, name in wanted.items():
            if name in request.query:
                where.append(f"{column} = ?")
                values.append(request.query[name])
        page = await self._page(request, f"SELECT * FROM orders WHERE {' AND '.join(where)} ORDER BY seq", values)
        return web.json_response(page | {"data": self._shown(page["data"])})

    def _shown(self, rows: list[dict[str, Value]]) -> list[dict[str, object]]:
        """Orders as the venue shows them, each with its trades."""
        ids = [row["order_id"] for row in rows]
        marks = ", ".join("?" * len(ids))
        sql = " UNION ALL ".join(
            f"SELECT DISTINCT {role}_order_id, match_id FROM trades WHERE {role}_order_id IN ({marks})"
            for role in ("taker", "maker")
        )
        trades: dict[Value, list[str]] = {}
        for order_id, match_id in self._exchange.record.query(sql, [*ids, *ids]):
            trades.setdefault(order_id, []).append(str(match_id))
        return [open_order_json(row, trades.get(row["order_id"], [])) for row in rows]

    async def trades(self, request: web.Request) -> web.Response:
        """Trades of this address, newest first; ``after`` and ``before`` are unix seconds, both included."""
        key = await self._key(request)
        where, values = ["(taker_owner = ? OR maker_owner = ?)"], [key.address] * 2
        columns = {
            "id": "match_id = ?",
            "market": "condition_id = ?",
            "asset_id": "(taker_token = ? OR maker_token = ?)",
            "maker_address": "(maker_wallet = ? OR taker_wallet = ?)",
            "after": "time_ms >= CAST(? AS INTEGER) * 1000",
            "before": "time_ms < (CAST(? AS INTEGER) + 1) * 1000",
        }
        for name, condition in columns.items():
            if name in request.query:
                where.append(condition)
                values.extend([request.query[name]] * condition.count("?"))
        chosen = f"SELECT match_id FROM trades WHERE {' AND '.join(where)} GROUP BY match_id ORDER BY MAX(seq) DESC"
        page = await self._page(request, chosen, values)
        names: list[Value] = [row["match_id"] for row in page["data"]]
        sql = f"SELECT * FROM trades WHERE match_id IN ({', '.join('?' * len(names))}) ORDER BY seq"
        trades = {rows[0]["match_id"]: rows for rows in by_match(self._exchange.record.query_dicts(sql, names))}
        now, form = self._exchange.clock(), self._exchange.settings.trade_form
        return web.json_response(page | {"data": [trade_json(trades[one], key.address, now, form) for one in names]})

    async def _page(self, request: web.Request, sql: str, values: list[str]) -> dict[str, Any]:
        await self._exchange.record.durable()
        start = read_cursor(request)
        limit: list[Value] = [*values, _PAGE + 1, start]
        rows = self._exchange.record.query_dicts(f"{sql} LIMIT ? OFFSET ?", limit)
        following = write_cursor(start + _PAGE) if len(rows) > _PAGE else END_CURSOR
        return {"data": rows[:_PAGE], "next_cursor": following, "limit": _PAGE, "count": len(rows[:_PAGE])}

    async def balance(self, request: web.Request) -> web.Response:
        """Balance in base units as the venue's cache has it, resting orders not deducted, and what is allowed."""
        wallet, asset = await self._held_asset(request)
        funds = self._exchange.funds
        allowance = _ALLOWANCE if funds.is_approved(wallet, "collateral" if asset == CASH else "shares") else "0"
        await self._exchange.record.durable()
        body = {"balance": str(funds.seen(wallet, asset)), "allowances": dict.fromkeys(_SPENDERS, allowance)}
        return web.json_response(body)

    async def update_balance(self, request: web.Request) -> web.Response:
        """Read a balance anew from the chain."""
        self._exchange.funds.refresh(*await self._held_asset(request))
        return web.json_response("")

    async def _held_asset(self, request: web.Request) -> tuple[str, str]:
        """The wallet and the asset that a request about a balance names.

        Raises:
            RefusedError: 400, it names none.
        """
        key = await self._key(request)
        kind = request.query.get("signature_type", "0")
        if kind not in ("0", "1", "2", "3"):
            raise RefusedError(400, "Invalid signature_type")
        wallet = self._exchange.accounts.wallet_of(key.address, int(kind), self._exchange.clock())
        asset = request.query.get("asset_type")
        if asset not in ("COLLATERAL", "CONDITIONAL"):
            raise RefusedError(400, "Invalid asset type")
        if asset == "COLLATERAL":
            return wallet, CASH
        if not request.query.get("token_id"):
            raise RefusedError(400, "assetAddress invalid params")
        return wallet, request.query["token_id"]

    async def heartbeat(self, request: web.Request) -> web.Response:
        key = await self._key(request)
        body = await read_json(request)
        heartbeat_id = body.get("heartbeat_id", "") if isinstance(body, dict) else None
        if heartbeat_id is not None and not isinstance(heartbeat_id, str):
            raise RefusedError(400, "Invalid payload")
        fresh = self._exchange.heartbeats.beat(key.key, heartbeat_id or "", self._exchange.clock())
        return web.json_response({"heartbeat_id": fresh})

    async def order_scoring(self, request: web.Request) -> web.Response:
        """Whether an order earns rewards: none does here."""
        await self._key(request)
        return web.json_response({"scoring": False})

    async def orders_scoring(self, request: web.Request) -> web.Response:
        await self._key(request)
        ids = await read_json(request)
        if not isinstance(ids, list) or len(ids) > _MAX_CANCELS or not all(isinstance(oid, str) for oid in ids):
            raise RefusedError(400, "Invalid payload")
        return web.json_response(dict.fromkeys(ids, False))

    async def notifications(self, request: web.Request) -> web.Response:
        await self._key(request)
        return web.json_response([])

    async def drop_notifications(self, request: web.Request) -> web.Response:
        await self._key(request)
        return web.json_response("OK")

    async def reward_list(self, request: web.Request) -> web.Response:
        """A page of rewards: the program is not here."""
        await self._key(request)
        return web.json_response({"data": [], "next_cursor": END_CURSOR, "limit": _PAGE, "count": 0})

    async def reward_totals(self, request: web.Request) -> web.Response:
        await self._key(request)
        return web.json_response([])

    async def reward_percentages(self, request: web.Request) -> web.Response:
        await self._key(request)
        return web.json_response({})

    async def rate_limit_tier(self, request: web.Request) -> web.Response:
        await self._key(request)
        tier = TIERS.get(self._exchange.limits.tier)
        return web.json_response({"tier": self._exchange.limits.tier} | (asdict(tier) if tier else {}))


async def no_rewards(_request: web.Request) -> web.Response:
    """Which markets have rewards: none; for everybody to see."""
    return web.json_response({"data": [], "next_cursor": END_CURSOR, "limit": _PAGE, "count": 0})


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Return the private routes of the CLOB."""
    account = Account(exchange)
    return [
        web.post("/auth/api-key", account.create_key),
        web.delete("/auth/api-key", account.delete_key),
        web.get("/auth/derive-api-key", account.derive_key),
        web.get("/auth/api-keys", account.list_keys),
        web.get("/auth/ban-status/closed-only", account.closed_only),
        web.post("/order", account.post_order),
        web.post("/orders", account.post_orders),
        web.delete("/order", account.cancel_order),
        web.delete("/orders", account.cancel_orders),
        web.delete("/cancel-all", account.cancel_all),
        web.delete("/cancel-market-orders", account.cancel_market),
        web.get("/data/order/{order}", account.order),
        web.get("/data/orders", account.orders),
        web.get("/data/trades", account.trades),
        web.get("/balance-allowance", account.balance),
        web.get("/balance-allowance/update", account.update_balance),
        web.post("/v1/heartbeats", account.heartbeat),
        web.get("/v1/user/rate-limit-tier", account.rate_limit_tier),
        web.get("/order-scoring", account.order_scoring),
        web.post("/orders-scoring", account.orders_scoring),
        web.get("/notifications", account.notifications),
        web.delete("/notifications", account.drop_notifications),
        web.get("/rewards/user", account.reward_list),
        web.get("/rewards/user/markets", account.reward_list),
        web.get("/rewards/user/total", account.reward_totals),
        web.get("/rewards/user/percentages", account.reward_percentages),
        web.get("/rewards/markets/current", no_rewards),
        web.get("/rewards/markets/{condition}", no_rewards),
    ]
