"""The venue's WebSockets: the market and the user channel."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paper.engine.book import BASE_FEE, FEE_EXPONENT, FEE_RATE, ONE, REBATE_RATE, Book, format_units
from paper.engine.markets import OUTCOMES, Market, Window
from paper.engine.matching import Fill
from paper.engine.record import Value
from paper.errors import RefusedError
from paper.streams.sockets import POLICY, Broadcaster, Listener, Sockets, strings
from paper.wire.forms import TradeForm, book_event, book_json, open_order_json, trade_json, transaction_hash

if TYPE_CHECKING:  # the exchange makes the streams
    from paper.engine.exchange import Exchange

# The venue's market channel (venue.md 3): books, price changes, trades, ticks, new and resolved markets.
#
# Topics: ``token:ID`` for what every subscriber of a token gets, ``custom:ID`` for what must be asked for, and ``markets``
# for news of markets nobody can have subscribed to yet.


NEW_MARKETS = "markets"
# The user channel's events as documented in mid 2026, in that order.
_ORDER_FIELDS = (
    *("event_type", "id", "owner", "market", "asset_id", "side", "order_owner", "original_size", "size_matched"),
    *("price", "associate_trades", "outcome", "type", "created_at", "expiration", "order_type", "status"),
    *("maker_address", "timestamp"),
)
_TRADE_FIELDS = (
    *("event_type", "type", "id", "taker_order_id", "market", "asset_id", "side", "size", "fee_rate_bps", "price"),
    *("status", "match_time", "last_update", "outcome", "owner", "trade_owner", "maker_address", "transaction_hash"),
    *("bucket_index", "maker_orders", "trader_side", "timestamp"),
)

_Level = tuple[bool, int]  # is it a bid, and its price in terms of Up


class _Shown:
    """What of a book was shown so far: shares at each level."""

    def __init__(self, book: Book) -> None:
        bids, asks = book.levels(0)
        self.bids, self.asks = dict(bids), dict(asks)

    def size(self, level: _Level) -> int:
        is_bid, price = level
        return (self.bids if is_bid else self.asks).get(price, 0)

    def set(self, level: _Level, size: int) -> None:
        is_bid, price = level
        side = self.bids if is_bid else self.asks
        if size:
            side[price] = size
        else:
            side.pop(price, None)

    def levels(self, outcome: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(bids, asks) of one token, best first, as ``Book.levels``."""
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        if outcome == 0:
            return bids, asks
        return [(ONE - p, s) for p, s in asks], [(ONE - p, s) for p, s in bids]

    def best(self, outcome: int) -> tuple[int, int]:
        """Best bid and ask of one token; 0 and ONE where there is none."""
        bid, ask = max(self.bids, default=0), min(self.asks, default=ONE)
        return (bid, ask) if outcome == 0 else (ONE - ask, ONE - bid)


class MarketStreams:
    """Sends how books changed since they were last shown. A market has one book, so a change shows in both tokens.

    Each changed level is a frame of its own, with the best prices and the book's hash as they are once it is applied
    (recorded: 3,420 such frames in 60 s of one BTC window).
    """

    def __init__(self, hub: Broadcaster) -> None:
        self._hub = hub
        self._shown: dict[str, _Shown] = {}  # of books that somebody follows
        self._best: dict[str, tuple[int, int]] = {}

    def snapshot(self, book: Book, outcome: int, now_ms: int) -> dict[str, object]:
        """Return the book event for a new subscriber; from now on changes count from here."""
        self.publish_changes(book, now_ms)
        book.take_changes()
        self._shown[book.condition_id] = _Shown(book)
        self._best[book.condition_id] = book.best(0)
        return book_event(book, outcome, now_ms, with_tick=True)

    def follows(self, book: Book) -> bool:
        """Whether changes of this book are sent to anybody."""
        return book.condition_id in self._shown

    def publish_changes(self, book: Book, now_ms: int) -> None:
        """Send the levels of both tokens that are not as they were shown."""
        shown = self._shown.get(book.condition_id)
        if shown is None:
            return
        topics = _topics("token", book)
        if not self._hub.wanted(*topics):
            self.forget(book)
            return
        changed = [
            ((is_bid, price), size)
            for is_bid, price, size in book.take_changes()
            if shown.size((is_bid, price)) != size
        ]
        # What goes, goes first: no book is crossed on the way.
        for level, size in sorted(changed, key=lambda change: (change[1] > 0, change[0])):
            shown.set(level, size)
            changes = [_change(book, shown, outcome, level, size, now_ms) for outcome in (0, 1)]
            event = {
                "market": book.condition_id,
                "price_changes": changes,
                "timestamp": str(now_ms),
                "event_type": "price_change",
            }
            self._hub.publish(json.dumps(event), *topics)
        if changed:
            self._publish_best(book, now_ms)

    def publish_trade(self, book: Book, fill: Fill, now_ms: int) -> None:
        """Send the price of a trade, after what it changed and both books as they are now, without their tick."""
        if self.follows(book):
            self.publish_changes(book, now_ms)
        for outcome, token in enumerate(book.token_ids):
            if self._hub.wanted(f"token:{token}"):
                event = book_event(book, outcome, now_ms, with_tick=False)
                self._hub.publish(json.dumps(event), f"token:{token}")
        token = fill.taker.token_id
        if self._hub.wanted(f"token:{token}"):
            event = {
                "market": book.condition_id,
                "asset_id": token,
                "price": format_units(fill.taker_price),
                "size": format_units(fill.size),
                "fee_rate_bps": "0",
                "side": fill.taker.side,
                "timestamp": str(now_ms),
                "event_type": "last_trade_price",
                "transaction_hash": transaction_hash(fill.ref),
            }
            self._hub.publish(json.dumps(event), f"token:{token}")

    def publish_print(
        self, book: Book, outcome: int, side: str, price: int, size: int, transaction: str, now_ms: int
    ) -> None:
        """Send the price of a trade of others."""
        token = book.token_ids[outcome]
        event = {
            "market": book.condition_id,
            "asset_id": token,
            "price": format_units(price),
            "size": format_units(size),
            "fee_rate_bps": "0",
            "side": side,
            "timestamp": str(now_ms),
            "event_type": "last_trade_price",
            "transaction_hash": transaction,
        }
        self._hub.publish(json.dumps(event), f"token:{token}")

    def publish_tick(self, book: Book, old_tick: int, now_ms: int) -> None:
        """Send that a market's tick changed."""
        for token in book.token_ids:
            event = {
                "event_type": "tick_size_change",
                "asset_id": token,
                "market": book.condition_id,
                "old_tick_size": format_units(old_tick),
                "new_tick_size": format_units(book.tick),
                "timestamp": str(now_ms),
            }
            self._hub.publish(json.dumps(event), f"token:{token}")

    def publish_new(self, window: Window, tick: int, now_ms: int) -> None:
        """Send that a market came to be, to everybody who asked for custom features."""
        if self._hub.wanted(NEW_MARKETS):
            event = {
                "id": str(window.number),
                "question": window.title,
                "market": window.condition_id,
                "slug": window.slug,
                "description": window.title,
                "assets_ids": list(window.token_ids),
                "outcomes": list(OUTCOMES),
                "event_message": {
                    "id": str(window.number),
                    "ticker": window.slug,
                    "slug": window.slug,
                    "title": window.title,
                    "description": window.title,
                },
                "timestamp": str(now_ms),
                "event_type": "new_market",
                "tags": [],
                "condition_id": window.condition_id,
                "active": True,
                "clob_token_ids": list(window.token_ids),
                "sports_market_type": "",
                "line": "",
                "game_start_time": "",
                "order_price_min_tick_size": format_units(tick),
                "group_item_title": "",
                "taker_base_fee": str(BASE_FEE),
                "fees_enabled": True,
                "fee_schedule": {
                    "exponent": str(FEE_EXPONENT),
                    "rate": str(FEE_RATE),
                    "taker_only": True,
                    "rebate_rate": str(REBATE_RATE),
                },
            }
            self._hub.publish(json.dumps(event), NEW_MARKETS)

    def publish_resolved(self, market: Market, book: Book, now_ms: int) -> None:
        """Send the outcome, to whoever asked for custom features."""
        self.forget(book)
        winner = None if market.is_void else market.winner
        event = {
            "id": str(market.window.number),
            "market": book.condition_id,
            "assets_ids": list(book.token_ids),
            "winning_asset_id": "" if winner is None else book.token_ids[winner],
            "winning_outcome": "" if winner is None else OUTCOMES[winner],
            "timestamp": str(now_ms),
            "event_type": "market_resolved",
            "tags": [],
        }
        self._hub.publish(json.dumps(event), *_topics("custom", book))

    def forget(self, book: Book) -> None:
        """Drop what was shown of a book."""
        self._shown.pop(book.condition_id, None)
        self._best.pop(book.condition_id, None)

    def _publish_best(self, book: Book, now_ms: int) -> None:
        if self._best.get(book.condition_id) == book.best(0):
            return
        self._best[book.condition_id] = book.best(0)
        for outcome, token in enumerate(book.token_ids):
            if self._hub.wanted(f"custom:{token}"):
                best_bid, best_ask = book.best(outcome)
                event = {
                    "market": book.condition_id,
                    "asset_id": token,
                    "best_bid": format_units(best_bid),
                    "best_ask": format_units(best_ask),
                    "spread": format_units(best_ask - best_bid),
                    "timestamp": str(now_ms),
                    "event_type": "best_bid_ask",
                }
                self._hub.publish(json.dumps(event), f"custom:{token}")


def _topics(kind: str, book: Book) -> list[str]:
    return [f"{kind}:{token}" for token in book.token_ids]


def _change(book: Book, shown: _Shown, outcome: int, level: _Level, size: int, now_ms: int) -> dict[str, str]:
    """A changed level as one token shows it: an offer to sell Up at p is a bid for Down at 1 - p."""
    is_bid, up_price = level
    best_bid, best_ask = shown.best(outcome)
    return {
        "asset_id": book.token_ids[outcome],
        "price": format_units(up_price if outcome == 0 else ONE - up_price),
        "size": format_units(size),
        "side": "BUY" if is_bid == (outcome == 0) else "SELL",
        "hash": str(book_json(book, outcome, now_ms, shown.levels(outcome))["hash"]),
        "best_bid": format_units(best_bid),
        "best_ask": format_units(best_ask),
    }


# The venue's user channel: own orders and trades. Topics: ``user:ADDRESS`` and ``user:ADDRESS:MARKET``.


class UserStreams:
    """Sends events to those whose orders they concern."""

    def __init__(self, hub: Broadcaster, form: TradeForm) -> None:
        self._hub = hub
        self._form = form

    def listens(self, owner: str, condition_id: str) -> bool:
        """Whether this address hears of this market."""
        return self._hub.wanted(*_user_topics(owner, condition_id))

    def publish_order(self, row: dict[str, Value], event: str, now_ms: int) -> None:
        """Send a PLACEMENT, UPDATE or CANCELLATION to the order's owner."""
        self._send_order(row, event, now_ms)

    def publish_killed(self, row: dict[str, Value], budget: int | None, now_ms: int) -> None:
        """Send the CANCELLATION of a FAK or FOK that met nothing, as recorded: texts empty, the size of a BUY its money.

        (nautilus_trader issue 3987 and its fixture of a FOK whose original_size is pUSD.)
        """
        empty = {"size_matched": "", "outcome": "", "created_at": "", "associate_trades": []}
        money = {} if budget is None else {"original_size": format_units(budget)}
        self._send_order(row, "CANCELLATION", now_ms, **empty, **money)

    def _send_order(self, row: dict[str, Value], event: str, now_ms: int, **other: object) -> None:
        message = open_order_json(row) | {"event_type": "order", "type": event, "timestamp": str(now_ms)}
        message |= {"order_owner": row["api_key"], "created_at": str(message["created_at"]), "associate_trades": None}
        message = {name: message[name] for name in _ORDER_FIELDS}
        topics = _user_topics(str(row["owner"]), str(row["condition_id"]))
        self._hub.publish(json.dumps(message | other), *topics)

    def publish_trade(self, rows: Sequence[dict[str, Value]], clock: Callable[[], int]) -> None:
        """Send a trade with the status that it has now to all its owners.

        Args:
            rows: of one match, a row for each maker.
        """
        now, condition = clock(), str(rows[0]["condition_id"])
        for owner in {str(row[f"{role}_owner"]) for row in rows for role in ("taker", "maker")}:
            if self.listens(owner, condition):
                message = trade_json(rows, owner, now, self._form)
                mine = next((row for row in rows if row["maker_owner"] == owner), rows[0])
                extra = {
                    "event_type": "trade",
                    "type": "TRADE",
                    "trade_owner": mine["taker_key" if rows[0]["taker_owner"] == owner else "maker_key"],
                    "transaction_hash": message["transaction_hash"] or None,
                    "timestamp": str(now),
                }
                message |= extra
                self._hub.publish(
                    json.dumps({name: message[name] for name in _TRADE_FIELDS}), *_user_topics(owner, condition)
                )


def _user_topics(owner: str, condition_id: str) -> tuple[str, str]:
    return f"user:{owner}", f"user:{owner}:{condition_id.lower()}"


# The venue's WebSockets: the market and the user channel.


def routes(exchange: Exchange, sockets: Sockets) -> list[web.RouteDef]:
    """Return the routes of both channels."""
    hub = exchange.hub

    def follow(listener: Listener, token: str, *, custom: bool) -> list[dict[str, object]]:
        """Subscribe to a token; return its book if that is new."""
        market = exchange.markets.of_token(token, exchange.clock())
        if market is None:
            return []
        if custom:
            hub.subscribe(listener, f"custom:{token}")
        if f"token:{token}" in listener.topics:
            return []
        hub.subscribe(listener, f"token:{token}")
        outcome = market.window.token_ids.index(token)
        return [exchange.market_streams.snapshot(exchange.book(market), outcome, exchange.clock())]

    async def market(request: web.Request) -> web.StreamResponse:
        """Subscribe by asset ids; the books of the new ones come in one frame, an array (nautilus_trader's captures)."""
        async with sockets.open(request) as connection:
            listener = connection.listener
            began, custom = False, False

            async def on_message(message: Any) -> None:
                nonlocal began, custom
                if not isinstance(message, dict):
                    raise RefusedError(POLICY, "invalid message")
                began, custom = True, bool(message.get("custom_feature_enabled", custom))
                if custom:
                    hub.subscribe(listener, NEW_MARKETS)
                books: list[dict[str, object]] = []
                for token in strings(message.get("assets_ids")):
                    if message.get("operation") == "unsubscribe":
                        hub.unsubscribe(listener, f"token:{token}")
                        hub.unsubscribe(listener, f"custom:{token}")
                    else:
                        books += follow(listener, token, custom=custom)
                if books:
                    listener.say(json.dumps(books))

            try:
                await sockets.talk(connection, on_message, lambda: began)
            finally:
                hub.leave(listener)
        return connection.socket

    async def user(request: web.Request) -> web.StreamResponse:
        """The first message authenticates; ``markets`` limits what is sent."""
        async with sockets.open(request) as connection:
            listener = connection.listener
            address = ""

            async def on_message(message: Any) -> None:
                nonlocal address
                if not isinstance(message, dict):
                    raise RefusedError(POLICY, "invalid message")
                if "auth" in message:
                    address = _authenticate(exchange, message["auth"])
                if not address:
                    raise RefusedError(POLICY, "authenticate first")
                topics = {f"user:{address}:{one.lower()}" for one in strings(message.get("markets"))}
                if message.get("operation") == "unsubscribe":
                    for topic in topics:
                        hub.unsubscribe(listener, topic)
                elif topics:
                    hub.unsubscribe(listener, f"user:{address}")
                    for topic in topics:
                        hub.subscribe(listener, topic)
                elif not listener.topics:
                    hub.subscribe(listener, f"user:{address}")

            try:
                await sockets.talk(connection, on_message, lambda: address != "")
            finally:
                hub.leave(listener)
        return connection.socket

    return [web.get("/ws/market", market), web.get("/ws/user", user)]


def _authenticate(exchange: Exchange, auth: object) -> str:
    """Return the address of the credentials.

    Raises:
        RefusedError: 1008, they are no active API key's.
    """
    given = auth if isinstance(auth, dict) else {}
    key = exchange.keys.check_credentials(given.get("apiKey"), given.get("secret"), given.get("passphrase"))
    if key is None:
        raise RefusedError(POLICY, "authentication failed")
    return key.address
