"""The WebSocket channels, through polymarket-client's own subscriptions and a plain client for Binance's."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import websockets
from polymarket.streams import MarketSpec, UserSpec

from tests import patience

LIMIT_S = 30


async def _next(stream: Any, wanted: Callable[[Any], bool]) -> Any:
    """The next event that is wanted; others are passed over, for LIMIT_S at most."""

    async def find() -> Any:
        async for event in stream:
            if wanted(event):
                return event
        raise AssertionError("the stream ended")

    return await patience.wait_for(find(), LIMIT_S)


async def test_market_channel_shows_book_changes_and_trades(quiet: Any, connect: Any) -> None:
    """A subscriber gets the book, then each change of a level with its absolute size, then the trade's price."""
    maker, taker = await connect(quiet), await connect(quiet)
    up, down = quiet.market("bnb")["tokens"]
    async with await maker.subscribe(MarketSpec(token_ids=[up], custom_feature_enabled=True)) as stream:
        book = await _next(stream, lambda event: event.type == "book")
        assert (book.payload.asset_id, book.payload.bids, book.payload.asks) == (up, (), ())
        await maker.place_limit_order(asset_id=down, price="0.30", size=12, side="BUY")
        change = (await _next(stream, lambda event: event.type == "price_change")).payload.price_changes[0]
        assert (change.side, change.price, change.size) == ("SELL", Decimal("0.7"), Decimal(12))
        best = await _next(stream, lambda event: event.type == "best_bid_ask")
        assert best.payload.best_ask == Decimal("0.7")
        await taker.place_limit_order(asset_id=up, price="0.70", size=12, side="BUY")
        trade = await _next(stream, lambda event: event.type == "last_trade_price")
        assert (trade.payload.price, trade.payload.size, trade.payload.side) == (Decimal("0.7"), Decimal(12), "BUY")


async def test_change_of_a_book_comes_once_for_both_tokens(quiet: Any, connect: Any) -> None:
    """Whoever follows both tokens of a market gets one event a change, in which each token shows it from its own side."""
    client = await connect(quiet)
    up, down = quiet.market("sol")["tokens"]
    async with websockets.connect(quiet.ws_url + "/ws/market") as socket:
        await socket.send(json.dumps({"type": "market", "assets_ids": [up, down]}))
        books = json.loads(await patience.wait_for(socket.recv(), LIMIT_S))
        assert [book["asset_id"] for book in books] == [up, down], "one frame, an array of both books"
        placed = await client.place_limit_order(asset_id=up, price="0.07", size=11, side="BUY")
        event = json.loads(await patience.wait_for(socket.recv(), LIMIT_S))
        await client.cancel_order(order_id=placed.order_id)
        gone = json.loads(await patience.wait_for(socket.recv(), LIMIT_S))
    shown = [(one["asset_id"], one["side"], one["price"], one["size"]) for one in event["price_changes"]]
    assert shown == [(up, "BUY", "0.07", "11"), (down, "SELL", "0.93", "11")]
    assert [one["size"] for one in gone["price_changes"]] == ["0", "0"]


async def test_user_channel_shows_own_orders_and_trades(quiet: Any, connect: Any) -> None:
    """Placement, trade (matched, mined, confirmed), update and cancellation arrive, and nobody else's do."""
    maker, taker = await connect(quiet), await connect(quiet)
    market = quiet.market("doge")
    up, down = market["tokens"]
    async with await maker.subscribe(UserSpec(markets=[market["conditionId"]])) as stream:
        await taker.place_limit_order(asset_id=up, price="0.10", size=15, side="BUY")
        rested = await maker.place_limit_order(asset_id=down, price="0.30", size=20, side="BUY")
        placed = await _next(stream, lambda event: event.type == "order")
        assert (placed.payload.id, placed.payload.order_event_type) == (rested.order_id, "PLACEMENT")
        await taker.place_limit_order(asset_id=up, price="0.70", size=12, side="BUY")
        statuses: list[str] = []
        while statuses[-1:] != ["CONFIRMED"]:
            event = await _next(stream, lambda event: event.type == "trade")
            assert event.payload.maker_orders[0].order_id == rested.order_id
            statuses.append(event.payload.status)
        assert statuses == ["MATCHED", "MINED", "CONFIRMED"]
        await maker.cancel_order(order_id=rested.order_id)
        ended = await _next(stream, lambda e: e.type == "order" and e.payload.order_event_type == "CANCELLATION")
        assert ended.payload.size_matched == Decimal(12)


async def test_nothing_is_replayed_after_a_reconnect(quiet: Any, connect: Any) -> None:
    """What happened while nobody listened is never sent: after a reconnect the first event is of what happens then."""
    client = await connect(quiet)
    token = quiet.market("xrp")["tokens"][0]
    keys = client._ctx.credentials
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    heard: list[str] = []
    placed: list[str] = []
    for price in ("0.03", "0.05"):
        async with websockets.connect(quiet.ws_url + "/ws/user") as socket:
            await socket.send(json.dumps({"type": "user", "auth": auth}))
            await socket.send("PING")
            assert await patience.wait_for(socket.recv(), LIMIT_S) == "PONG"
            placed.append((await client.place_limit_order(asset_id=token, price=price, size=10, side="BUY")).order_id)
            heard.append(json.loads(await patience.wait_for(socket.recv(), LIMIT_S))["id"])
        await client.place_limit_order(asset_id=token, price="0.04", size=10, side="BUY")
    assert heard == placed


@pytest.mark.parametrize("path", ["/ws/market", "/ws/user"])
async def test_ping_is_answered_after_the_first_subscription_only(quiet: Any, path: str) -> None:
    """PING before subscribing closes the connection with 1008 (venue.md 3)."""
    async with websockets.connect(quiet.ws_url + path) as socket:
        await socket.send("PING")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await patience.wait_for(socket.recv(), LIMIT_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    if path == "/ws/market":
        async with websockets.connect(quiet.ws_url + path) as socket:
            await socket.send(json.dumps({"type": "market", "assets_ids": []}))
            await socket.send("PING")
            assert await patience.wait_for(socket.recv(), LIMIT_S) == "PONG"


async def test_binance_streams_agree_with_the_klines(quiet: Any) -> None:
    """bookTicker, trade, aggTrade and both klines arrive wrapped; a closed second is what REST shows for it."""
    names = ["btcusdt@bookTicker", "ethusdt@trade", "solusdt@aggTrade", "btcusdt@kline_1s", "btcusdt@kline_1m"]
    seen: dict[str, Any] = {}
    async with websockets.connect(f"{quiet.ws_url}/stream?streams={'/'.join(names)}") as socket:
        while set(seen) != set(names):
            message = json.loads(await patience.wait_for(socket.recv(), LIMIT_S))
            seen[message["stream"]] = message["data"]
    assert float(seen["btcusdt@bookTicker"]["b"]) < float(seen["btcusdt@bookTicker"]["a"])
    assert (seen["ethusdt@trade"]["e"], seen["solusdt@aggTrade"]["s"]) == ("trade", "SOLUSDT")
    kline = seen["btcusdt@kline_1s"]["k"]
    rows = {row[0]: row for row in quiet.get("/api/v3/klines?symbol=BTCUSDT&interval=1s&limit=1000")}
    assert kline["x"] is True
    assert rows[kline["t"]][1:5] == [kline["o"], kline["h"], kline["l"], kline["c"]]


async def test_binance_raw_stream_takes_subscriptions(quiet: Any) -> None:
    """A raw connection sends events as they are, and takes SUBSCRIBE and UNSUBSCRIBE."""
    async with websockets.connect(f"{quiet.ws_url}/ws/btcusdt@trade") as socket:
        assert json.loads(await patience.wait_for(socket.recv(), LIMIT_S))["s"] == "BTCUSDT"
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": ["ethusdt@trade"], "id": 1}))
        seen: set[object] = set()
        while not {"ETHUSDT", 1} <= seen:
            message = json.loads(await patience.wait_for(socket.recv(), LIMIT_S))
            seen.add(message.get("s", message.get("id")))
