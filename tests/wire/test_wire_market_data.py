"""Market data as the venue was recorded to send it: array frames, books after trades, hashes, codes, late prices."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import httpx
import pytest
import websockets
from eth_account import Account
from py_clob_client_v2.utilities import generate_orderbook_summary_hash, parse_raw_orderbook_summary

from paper.engine.prices import ASSETS
from tests import patience

LIMIT_S = 30
EXCHANGE = {"house": "off", "taker_delay": 0, "settle_time": 0.4, "rate_tier": "none"}


async def _read(socket: Any) -> Any:
    async with patience.timeout(LIMIT_S):
        return json.loads(await socket.recv())


async def _until(socket: Any, wanted: Any) -> list[dict[str, Any]]:
    """What comes up to the first event that is wanted, it included."""
    found: list[dict[str, Any]] = []
    async with patience.timeout(LIMIT_S):
        while not found or not wanted(found[-1]):
            found.append(json.loads(await socket.recv()))
    return found


async def _follow(paper: Any, tokens: list[str]) -> tuple[Any, list[dict[str, Any]]]:
    socket = await websockets.connect(paper.ws_url + "/ws/market")
    await socket.send(json.dumps({"type": "market", "assets_ids": tokens, "custom_feature_enabled": True}))
    while not isinstance(first := await _read(socket), list):
        pass  # a new market's announcement may come before
    return socket, first


def _apply(books: dict[str, dict[str, dict[str, str]]], change: dict[str, str]) -> None:
    side = books[change["asset_id"]]["bids" if change["side"] == "BUY" else "asks"]
    if change["size"] == "0":
        side.pop(change["price"], None)
    else:
        side[change["price"]] = change["size"]


def _hash(book: dict[str, dict[str, str]], market: str, token: str, stamp: str, last: str) -> str:
    """The hash that py-clob-client-v2 computes of a book that was put together from frames."""
    raw = {
        "market": market,
        "asset_id": token,
        "timestamp": stamp,
        "hash": "",
        "bids": [{"price": p, "size": s} for p, s in sorted(book["bids"].items(), key=lambda one: float(one[0]))],
        "asks": [{"price": p, "size": s} for p, s in sorted(book["asks"].items(), key=lambda one: -float(one[0]))],
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": False,
        "last_trade_price": last,
    }
    return str(generate_orderbook_summary_hash(parse_raw_orderbook_summary(raw)))


async def test_frames_add_up_to_the_book_that_the_client_hashes(quiet: Any, connect: Any) -> None:
    """One array, then a frame a level; after each, the hash and the best prices are those of what was put together."""
    client = await connect(quiet)
    market = quiet.market("doge")
    up, down = market["tokens"]
    socket, first = await _follow(quiet, [up, down])
    assert [book["asset_id"] for book in first] == [up, down]
    books: dict[str, Any] = {token: {"bids": {}, "asks": {}} for token in (up, down)}

    async def take(frames: int) -> None:
        for _ in range(frames):
            (event,) = (await _until(socket, lambda one: one["event_type"] == "price_change"))[-1:]
            assert [one["asset_id"] for one in event["price_changes"]] == [up, down]
            for change in event["price_changes"]:
                _apply(books, change)
                book = books[change["asset_id"]]
                assert change["hash"] == _hash(book, market["conditionId"], change["asset_id"], event["timestamp"], "")
                best_bid, best_ask = max(map(float, book["bids"]), default=0), min(map(float, book["asks"]), default=1)
                assert (float(change["best_bid"]), float(change["best_ask"])) == (best_bid, best_ask)
                assert best_bid < best_ask

    for token, price, size in ((up, "0.40", 10), (up, "0.41", 7), (up, "0.39", 20), (down, "0.50", 8)):
        await client.place_limit_order(asset_id=token, price=price, size=size, side="BUY")
        await take(1)
    await client.cancel_all()
    await take(4)
    assert books == {token: {"bids": {}, "asks": {}} for token in (up, down)}
    await socket.close()


async def test_a_trade_is_followed_by_both_books_without_a_tick(quiet: Any, connect: Any) -> None:
    """The first books carry tick_size; after a trade both come again without it, then the trade's price with its hash."""
    maker, taker = await connect(quiet), await connect(quiet)
    up, down = quiet.market("xrp")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.45", size=10, side="BUY")
    socket, first = await _follow(quiet, [up, down])
    assert [book["tick_size"] for book in first] == ["0.01", "0.01"]
    await taker.place_limit_order(asset_id=up, price="0.55", size=6, side="BUY")
    events = await _until(socket, lambda one: one["event_type"] == "last_trade_price")
    *before, trade = [one for one in events if one["event_type"] != "best_bid_ask"]
    assert [one["event_type"] for one in before] == ["price_change", "book", "book"]
    assert [("tick_size" in one, one["last_trade_price"]) for one in before[1:]] == [(False, "0.550"), (False, "0.450")]
    assert before[1]["asks"] == [{"price": "0.55", "size": "4"}]
    assert (trade["size"], trade["transaction_hash"][:2]) == ("6", "0x")
    await socket.close()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/book", 400, "Invalid token id"),
        ("/book?token_id=123", 400, "Invalid token id"),
        ("/book?token_id=" + "7" * 77, 404, "No orderbook exists for the requested token id"),
        ("/price?token_id={token}", 400, "Invalid side"),
        ("/price?token_id={token}&side=buy", 400, "Invalid side"),
        ("/midpoint", 400, "Invalid token id"),
        ("/markets/0x12", 400, "Invalid market"),
        ("/markets/0x" + "ab" * 32, 404, "market not found"),
    ],
)
def test_codes_of_the_public_routes(quiet: Any, path: str, status: int, text: str) -> None:
    """As documented: what is no id is 400, an id of nothing 404."""
    answer = httpx.get(quiet.url + path.format(token=quiet.market()["tokens"][0]), timeout=LIMIT_S)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


async def test_a_market_of_protocol_v2_is_traded_by_the_official_client(start_paper: Any, connect: Any) -> None:
    """Gamma says version v2 and the position ids; polymarket-client signs them for the other contract, and it matches."""
    paper = start_paper(**EXCHANGE | {"v2_markets": 1})
    market = paper.market("eth")
    assert (market["version"], json.loads(market["positionIds"])) == ("v2", market["tokens"])
    assert paper.get("/clob-markets/" + market["conditionId"])["v"] == "v2"
    account = Account.create()
    maker, taker = await connect(paper), await connect(paper, private_key=account.key.hex(), wallet=account.address)
    up, down = market["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    taken = await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    assert (taken.ok, taken.status) == (True, "matched")


async def test_positions_come_in_pages_and_in_both_forms(start_paper: Any, connect: Any) -> None:
    """Five positions in pages of two by the newer routes, all by the older ones, until those end."""
    paper = start_paper(**EXCHANGE)
    account = Account.create()
    maker, taker = await connect(paper), await connect(paper, private_key=account.key.hex(), wallet=account.address)
    for asset in ASSETS[:5]:
        up, down = paper.market(asset.lower())["tokens"]
        await maker.place_limit_order(asset_id=down, price="0.40", size=10, side="BUY")
        await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="BUY")
    pages = [page async for page in taker.list_positions(user=account.address, page_size=2)]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    found = [one for page in pages for one in page.items]
    assert {(float(one.current_size), float(one.avg_price), one.status) for one in found} == {(10.0, 0.6, "OPEN")}
    assert sum(float(one.entry_fees_usdc) for one in found) == pytest.approx(5 * 0.168)
    old = paper.get(f"/positions?user={account.address}")
    assert {one["asset"] for one in old} == {one.asset_id for one in found}
    kinds = [one async for page in taker.list_activity(user=account.address) for one in page.items]
    assert [float(one.shares) for one in kinds] == [10.0] * 5
    assert len(paper.get(f"/activity?user={account.address}")) == 5


def test_a_page_of_positions_has_its_limit(quiet: Any) -> None:
    """More than a thousand rows are refused in the newer routes' own form."""
    path = f"/v2/positions?user={Account.create().address}&limit=1001"
    refused = httpx.get(quiet.url + path, timeout=LIMIT_S)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(("setting", "status"), [("off", 404), ("gone", 410)])
def test_the_older_positions_may_end(start_paper: Any, setting: str, status: int) -> None:
    """Where they end, their answer is no list, and the newer ones go on."""
    paper = start_paper(**EXCHANGE | {"data_v1": setting})
    user = Account.create().address
    assert httpx.get(f"{paper.url}/positions?user={user}", timeout=LIMIT_S).status_code == status
    assert paper.get(f"/v2/positions?user={user}")["data"] == []


async def test_settlement_prices_come_late_and_filters_matter(start_paper: Any) -> None:
    """Chainlink's prices come a second or two after what they say; Binance's do not. A list with commas brings nothing."""
    paper = start_paper(**EXCHANGE | {"stream_delay": 1.4})
    late: dict[str, list[float]] = {"crypto_prices": [], "crypto_prices_chainlink": []}
    async with websockets.connect(paper.ws_url + "/rtds") as socket:
        wanted = [
            {"topic": "crypto_prices", "type": "update", "filters": "btcusdt,ethusdt"},
            {"topic": "crypto_prices_chainlink", "type": "*", "filters": json.dumps({"symbol": "sol/usd"})},
            {"topic": "crypto_prices_twap_sixty", "type": "*", "filters": "btc/usd,eth/usd"},
        ]
        await socket.send(json.dumps({"action": "subscribe", "subscriptions": wanted}))
        await socket.send("ping")
        async with patience.timeout(LIMIT_S):
            assert await socket.recv() == "pong"
            while min(len(one) for one in late.values()) < 4:
                event = json.loads(await socket.recv())
                assert event["payload"]["symbol"] in ("btcusdt", "ethusdt", "sol/usd")
                late[event["topic"]].append(time.time() - event["payload"]["timestamp"] / 1000)
    assert all(0.9 < one < 4 for one in late["crypto_prices_chainlink"])
    assert min(late["crypto_prices"]) < 0.7


def test_binance_answers_as_it_does(quiet: Any) -> None:
    """Klines of a time, eight decimals, what is listed, a book, and errors with code and msg alone."""
    now_ms = quiet.get("/api/v3/time")["serverTime"]
    start = now_ms - now_ms % 60_000 - 600_000
    rows = quiet.get(f"/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={start}&endTime={start + 240_000}")
    assert [row[0] for row in rows] == [start + minute * 60_000 for minute in range(5)]
    assert all(len(text.partition(".")[2]) == 8 for row in rows for text in (*row[1:6], row[7]))
    wide = quiet.get("/api/v3/klines?symbol=BTCUSDT&interval=5m&limit=3")
    assert [row[0] % 300_000 for row in wide] == [0, 0, 0]
    listed = {one["symbol"]: one for one in quiet.get("/api/v3/exchangeInfo")["symbols"]}
    assert set(listed) == {f"{asset}USDT" for asset in ASSETS}
    assert {one["filterType"] for one in listed["BTCUSDT"]["filters"]} >= {"PRICE_FILTER", "LOT_SIZE", "NOTIONAL"}
    depth = quiet.get("/api/v3/depth?symbol=ETHUSDT&limit=5")
    assert (len(depth["bids"]), float(depth["bids"][0][0]) < float(depth["asks"][0][0])) == (5, True)
    day = quiet.get("/api/v3/ticker/24hr?symbol=SOLUSDT")
    assert float(day["lowPrice"]) <= float(day["lastPrice"]) <= float(day["highPrice"])
    assert quiet.get("/api/v3/aggTrades?symbol=SOLUSDT&limit=1")[0]["T"] <= now_ms + 60_000
    refused = httpx.get(quiet.url + "/api/v3/klines?symbol=NOUSDT&interval=1m", timeout=LIMIT_S)
    assert (refused.status_code, refused.json()) == (400, {"code": -1121, "msg": "Invalid symbol."})


async def test_the_private_odds_and_ends_answer(quiet: Any, connect: Any) -> None:
    """Order scoring, notifications, rewards: there, and empty."""
    client = await connect(quiet)
    placed = await client.place_limit_order(asset_id=quiet.market()["tokens"][0], price="0.02", size=50, side="BUY")
    assert await client.get_order_scoring(order_id=placed.order_id) is False
    assert await client.get_orders_scoring(order_ids=[placed.order_id]) == {placed.order_id: False}
    assert await client.get_notifications() == ()
    assert [page.items async for page in client.list_current_rewards()] == [()]


def test_prices_history_has_a_point_a_minute(start_paper: Any) -> None:
    """The middles of a market's book, for both of its tokens, which add up to one."""
    paper = start_paper(taker_delay=0)
    start = int(time.time()) // 300 * 300
    up, down = json.loads(paper.get(f"/events/slug/btc-updown-5m-{start}")["markets"][0]["clobTokenIds"])
    deadline = patience.now() + LIMIT_S
    while not (found := paper.get(f"/prices-history?market={up}&interval=1h&fidelity=1")["history"]):
        assert patience.now() < deadline, "a book that is quoted has a middle"
    other = paper.get(f"/prices-history?market={down}")["history"]
    assert found[0]["t"] % 60 == 0
    assert found[0]["p"] + other[0]["p"] == pytest.approx(1)


async def test_a_lost_event_makes_a_crossed_book(start_paper: Any, connect: Any) -> None:
    """Put together from what is left, the book is not that of the frames' own best prices (poly-websockets issue 25)."""
    paper = start_paper(**EXCHANGE)
    client = await connect(paper)
    up, down = paper.market("eth")["tokens"]
    socket, _ = await _follow(paper, [up, down])
    paper.fault(kind="lost_events", seconds=60, path="/ws/market")
    books: dict[str, Any] = {token: {"bids": {}, "asks": {}} for token in (up, down)}
    apart = False

    async def trade() -> None:
        """Quotes that come and go, for as long as none of what was lost has shown."""
        for number in itertools.count():
            await client.place_limit_order(asset_id=up, price=f"0.{20 + number % 30}", size=10, side="BUY")
            if number % 6 == 5:
                await client.cancel_all()

    trading = asyncio.create_task(trade())
    async with patience.timeout(LIMIT_S):
        while not apart:
            event = json.loads(await socket.recv())
            for change in event.get("price_changes", ()):
                _apply(books, change)
                apart |= max(map(float, books[change["asset_id"]]["bids"]), default=0) != float(change["best_bid"])
    trading.cancel()
    await socket.close()


async def test_an_odd_element_comes_beside_good_ones(start_paper: Any) -> None:
    """Each event is in a list with a text that is none; the event itself is whole."""
    paper = start_paper(**EXCHANGE)
    tokens = paper.market("eth")["tokens"]
    paper.fault(kind="odd_events", seconds=60, path="/ws/market")
    async with websockets.connect(paper.ws_url + "/ws/market") as socket:
        await socket.send(json.dumps({"type": "market", "assets_ids": tokens}))
        odd, *books = await _read(socket)
    assert (odd, [one["asset_id"] for one in books]) == ("odd", tokens)


def test_a_book_may_show_nothing_of_its_market(start_paper: Any) -> None:
    """Under the fault /book answers 0.01 and 0.99 though the market is quoted (py-clob-client issue 180)."""
    paper = start_paper(taker_delay=0)
    token = paper.market()["tokens"][0]
    paper.fault(kind="wide_books", seconds=60)
    book = paper.get(f"/book?token_id={token}")
    assert ([one["price"] for one in book["bids"]], [one["price"] for one in book["asks"]]) == (["0.01"], ["0.99"])
    paper.clear_faults()
    assert paper.get(f"/book?token_id={token}")["bids"] != book["bids"]
