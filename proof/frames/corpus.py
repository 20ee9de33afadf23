"""Frames in the shape that was recorded of the venues (October 2026), ids and amounts replaced; more of a file, and of paper."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

Frame = tuple[str, bytes]
"""The door that a frame comes in by, and the frame."""

START_S, RECORD_S, LIMIT_S = 1_799_999_700, 4.0, 30.0
SLUG = f"btc-updown-5m-{START_S}"
CONDITION = "0x" + "11" * 32
ORDER, KEY = "0x" + "22" * 32, "our-key"
UP, DOWN = "7" * 77, "8" * 77


def _levels(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"price": price, "size": size} for price, size in rows]


def _book(token: str) -> dict[str, Any]:
    return {
        "market": CONDITION,
        "asset_id": token,
        "timestamp": str(START_S * 1000),
        "hash": "bc87",
        "bids": _levels(("0.45", "20"), ("0.46", "171")),
        "asks": _levels(("0.99", "2856.23"), ("0.55", "205.1")),
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": False,
        "last_trade_price": "0.490",
        "event_type": "book",
    }


def _change(token: str, price: str, size: str, side: str) -> dict[str, str]:
    best = {"best_bid": "0.46", "best_ask": "0.55"}
    return {"asset_id": token, "price": price, "size": size, "side": side, "hash": "a912", **best}


_MAKER = {
    "order_id": ORDER,
    "owner": KEY,
    "maker_address": "0x" + "33" * 20,
    "matched_amount": "10",
    "price": "0.52",
    "fee_rate_bps": "0",
    "asset_id": UP,
    "outcome": "Up",
    "side": "SELL",
}
_ORDER = {
    "id": ORDER,
    "owner": KEY,
    "market": CONDITION,
    "asset_id": UP,
    "side": "BUY",
    "original_size": "10",
    "size_matched": "2.5",
    "price": "0.52",
    "associate_trades": None,
    "outcome": "Up",
    "created_at": "1782753357",
    "expiration": "0",
    "order_type": "FAK",
    "status": "ORDER_STATUS_LIVE",
    "maker_address": "0x" + "33" * 20,
}
_TRADE = {
    "id": "t1",
    "taker_order_id": ORDER,
    "market": CONDITION,
    "asset_id": UP,
    "side": "BUY",
    "size": "10",
    "fee_rate_bps": "0",
    "price": "0.52",
    "status": "TRADE_STATUS_MATCHED",
    "match_time": "1782753357",
    "last_update": "1782753357",
    "outcome": "Up",
    "owner": KEY,
    "maker_address": "0x" + "33" * 20,
    "transaction_hash": None,
    "bucket_index": 0,
    "maker_orders": [_MAKER, _MAKER | {"price": "0.48"}],
    "trader_side": "TAKER",
}
_EVENT = {
    "slug": SLUG,
    "active": True,
    "closed": False,
    "eventMetadata": {"finalPrice": 83901.4134409019, "priceToBeat": 83972.53784826923},
    "markets": [
        {
            "slug": SLUG,
            "conditionId": CONDITION,
            "outcomes": '["Up", "Down"]',
            "outcomePrices": '["0", "1"]',
            "clobTokenIds": json.dumps([UP, DOWN]),
            "active": True,
            "closed": True,
            "acceptingOrders": True,
            "feeSchedule": {"exponent": 1, "rate": 0.07, "takerOnly": True, "rebateRate": 0.2},
            "cryptoMarketConfig": {"id": "btc-5m-twap-60", "twapEnabled": True, "twapLookbackSeconds": 60},
            "version": "v1",
        }
    ],
    "tags": [{"id": "102127"}],
}
_CLOB = {
    "c": CONDITION,
    "t": [{"t": UP, "o": "Up"}, {"t": DOWN, "o": "Down"}],
    "mos": 5,
    "mts": 0.01,
    "mbf": 1000,
    "tbf": 1000,
    "ao": True,
    "itode": True,
    "fd": {"r": 0.07, "e": 1, "to": True},
    "v": "v1",
}
_KLINES = [
    [(START_S + n) * 1000, "83970", "83990", "83960", f"{83_970 + n % 7}.5", "10", (START_S + n) * 1000 + 999]
    for n in range(60)
]
_WRITTEN: tuple[tuple[str, Any], ...] = (
    ("market", [_book(UP), _book(DOWN)]),
    ("market", _book(UP)),
    (
        "market",
        {
            "market": CONDITION,
            "price_changes": [_change(UP, "0.46", "0", "BUY"), _change(DOWN, "0.54", "7", "SELL")],
            "timestamp": str(START_S * 1000 + 1),
            "event_type": "price_change",
        },
    ),
    ("market", {"event_type": "tick_size_change", "asset_id": UP, "old_tick_size": "0.01", "new_tick_size": "0.001"}),
    ("market", {"event_type": "market_resolved", "market": CONDITION, "winning_outcome": "Up"}),
    ("user", {"event_type": "order", "type": "PLACEMENT", **_ORDER, "timestamp": "1782753357257"}),
    ("user", [{"event_type": "trade", "type": "TRADE", **_TRADE}]),
    (
        "rtds",
        {
            "payload": {
                "full_accuracy_value": "87459144230786980000",
                "symbol": "btc/usd",
                "timestamp": 1,
                "value": 87.459,
            },
            "topic": "crypto_prices_chainlink",
            "type": "update",
        },
    ),
    (
        "binance",
        {"stream": "btcusdt@bookTicker", "data": {"u": 1009383, "s": "BTCUSDT", "b": "83980.57", "a": "83980.58"}},
    ),
    (
        "binance",
        {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 6729028764, "p": "84740.58", "q": "0.0009", "T": 1790877850830},
    ),
    ("klines", _KLINES),
    ("gamma", _EVENT),
    ("clob", _CLOB),
    ("books", [_book(UP), _book(DOWN)]),
    ("order", _ORDER),
    ("trades", {"data": [_TRADE, _TRADE | {"id": "t2"}], "next_cursor": "LTE="}),
    ("balance", {"balance": "20000000", "allowances": {"0x" + "44" * 20: str(2**256 - 1)}}),
    ("positions", [{"asset": UP, "conditionId": CONDITION, "size": 2.5, "slug": SLUG}] * 2),
    ("time", START_S),
    (
        "answer",
        {
            "errorMsg": "",
            "orderID": ORDER,
            "takingAmount": "5.2",
            "makingAmount": "3",
            "status": "matched",
            "success": True,
        },
    ),
    ("answer", {"error": "not enough balance / allowance", "code": "x"}),
)
_HTTP: tuple[Frame, ...] = (
    ("http", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("http", b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
)
_KINDS = (  # How a recorded frame's name in the file begins, and its door.
    ("ws user", "user"),
    ("ws", "market"),
    ("rtds", "rtds"),
    ("binance", "binance"),
    ("GET /book", "books"),
    ("GET /clob-markets", "clob"),
    ("gamma event", "gamma"),
    ("gamma market", "gamma"),
)


def written() -> list[Frame]:
    """The hand-written ones."""
    return [(door, json.dumps(body).encode()) for door, body in _WRITTEN] + list(_HTTP)


def of_file(path: Path) -> list[Frame]:
    """Those of a JSON file: an object of what each frame is to the frame."""
    frames = []
    for name, body in json.loads(path.read_text()).items():
        for begin, door in _KINDS:
            if name.startswith(begin):
                whole = (
                    [body]
                    if door == "books"
                    else {"slug": body.get("slug"), "markets": [body]}
                    if "market" in name
                    else body
                )
                frames.append((door, json.dumps(whole if door in ("books", "gamma") else body).encode()))
                break
    return frames


@contextmanager
def paper() -> Iterator[str]:
    """A paper exchange of its own on this machine; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="never-sleeps-frames-") as folder:
        settings = {"PAPER_PORT": str(port), "PAPER_DATA": folder, "PAPER_SEED": "7"}
        process = subprocess.Popen(
            [sys.executable, "-m", "paper"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/time")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def of_paper(url: str) -> list[Frame]:
    """What a paper exchange sends for some seconds on its streams, and its answers about one window."""
    slug = f"btc-updown-5m-{int(time.time()) // 300 * 300}"
    event = _get(f"{url}/events/slug/{slug}")
    market = json.loads(event)["markets"][0]
    tokens = json.loads(market["clobTokenIds"])
    frames: list[Frame] = [("gamma", event), ("clob", _get(f"{url}/clob-markets/{market['conditionId']}"))]
    frames += [("books", b"[" + _get(f"{url}/book?token_id={token}") + b"]") for token in tokens]
    return frames + asyncio.run(_streams(url.replace("http", "ws", 1), tokens))


async def _streams(url: str, tokens: list[str]) -> list[Frame]:
    rtds = {"action": "subscribe", "subscriptions": [{"topic": "crypto_prices_chainlink", "type": "update"}]}
    market = {"type": "market", "assets_ids": tokens, "custom_feature_enabled": True}
    streams = ("/stream?streams=btcusdt@bookTicker/btcusdt@trade", "")
    parts = await asyncio.gather(
        _stream("market", f"{url}/ws/market", json.dumps(market)),
        _stream("rtds", f"{url}/rtds", json.dumps(rtds)),
        _stream("binance", f"{url}{streams[0]}", streams[1]),
    )
    return [frame for part in parts for frame in part]


async def _stream(door: str, url: str, hello: str) -> list[Frame]:
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(RECORD_S), connect(url) as stream:
            if hello:
                await stream.send(hello)
            while True:
                frames.append((door, bytes(await stream.recv(decode=False))))
    except TimeoutError:
        return frames


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        return bytes(answer.read())


def _wait(url: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            _get(url)
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # until a process of another program listens: nothing tells
        else:
            return
