"""python-binance and ccxt, unmodified but for their host, ask paper's Binance for what a price feed needs."""

from __future__ import annotations

import itertools
from typing import Any

import ccxt
import pytest
from binance import AsyncClient, BinanceSocketManager
from binance.client import Client
from binance.exceptions import BinanceAPIException

from paper.engine.prices import ASSETS
from tests import patience

LIMIT_S = 30
MINUTE_MS = 60_000


def _python_binance(url: str) -> Client:
    client = Client(ping=False, requests_params={"timeout": LIMIT_S})
    client.API_URL = url + "/api"
    return client


def _ccxt(url: str) -> Any:
    """With its spot markets alone: paper has no futures."""
    exchange = ccxt.binance(
        {"timeout": LIMIT_S * 1000, "options": {"fetchMarkets": ["spot"], "fetchCurrencies": False}}
    )
    exchange.urls["api"]["public"] = url + "/api/v3"
    return exchange


def test_python_binance_reads_prices_candles_and_what_is_listed(quiet: Any) -> None:
    """Its own helpers page through candles of a time; a symbol that is not listed is its own error."""
    client = _python_binance(quiet.url)
    assert client.ping() == {}
    now_ms = client.get_server_time()["serverTime"]
    assert {one["symbol"] for one in client.get_exchange_info()["symbols"]} == {f"{asset}USDT" for asset in ASSETS}
    info = client.get_symbol_info("BTCUSDT")
    assert info is not None
    assert info["status"] == "TRADING"
    start_ms = now_ms - now_ms % MINUTE_MS - 20 * MINUTE_MS
    rows = client.get_historical_klines("BTCUSDT", "1m", start_ms, start_ms + 9 * MINUTE_MS)
    assert [row[0] for row in rows] == [start_ms + n * MINUTE_MS for n in range(10)]
    best = client.get_orderbook_ticker(symbol="ETHUSDT")
    depth = client.get_order_book(symbol="ETHUSDT", limit=5)
    assert len(depth["bids"]) == len(depth["asks"]) == 5
    assert float(best["bidPrice"]) < float(best["askPrice"])
    assert {one["symbol"] for one in client.get_all_tickers()} == {f"{asset}USDT" for asset in ASSETS}
    assert len(client.get_recent_trades(symbol="SOLUSDT", limit=3)) == 3
    trades = list(itertools.islice(client.aggregate_trade_iter("SOLUSDT", start_str=now_ms - 4_000), 3))
    assert [trade["a"] - trades[0]["a"] for trade in trades] == [0, 1, 2]
    assert trades[0]["T"] >= now_ms - 4_000
    assert float(client.get_avg_price(symbol="BTCUSDT")["price"]) > 0
    assert client.get_ticker(symbol="BTCUSDT")["symbol"] == "BTCUSDT"
    with pytest.raises(BinanceAPIException, match="Invalid symbol") as refused:
        client.get_klines(symbol="NOUSDT", interval="1m")
    assert (refused.value.status_code, refused.value.code) == (400, -1121)


async def test_python_binance_follows_prices(quiet: Any) -> None:
    """Its socket manager subscribes by path and by stream names; best prices, trades and candles are read."""
    client = AsyncClient()
    sockets = BinanceSocketManager(client)
    sockets.STREAM_URL = sockets.VSTREAM_URL = quiet.ws_url + "/"
    try:
        async with sockets.multiplex_socket(["btcusdt@bookTicker", "ethusdt@aggTrade"]) as stream:
            streams: set[str] = set()
            async with patience.timeout(LIMIT_S):
                while len(streams) < 2:
                    streams.add((await stream.recv())["stream"])
        async with sockets.kline_socket("SOLUSDT", interval="1m") as stream, patience.timeout(LIMIT_S):
            told = await stream.recv()
        assert (told["e"], told["s"], told["k"]["i"]) == ("kline", "SOLUSDT", "1m")
    finally:
        await client.close_connection()


def test_ccxt_loads_markets_and_reads_prices(quiet: Any) -> None:
    """What `load_markets` makes of the list has limits and steps; candles, books, tickers, trades are read by its symbols."""
    exchange = _ccxt(quiet.url)
    markets = exchange.load_markets()
    assert set(markets) == {f"{asset}/USDT" for asset in ASSETS}
    market = markets["BTC/USDT"]
    assert (market["spot"], market["active"], market["quote"]) == (True, True, "USDT")
    assert market["limits"]["cost"]["min"] == 5
    assert 0 < market["precision"]["price"] < 1
    now_ms = exchange.fetch_time()
    candles = exchange.fetch_ohlcv("BTC/USDT", "1m", since=now_ms - now_ms % MINUTE_MS - 10 * MINUTE_MS, limit=5)
    assert [candle[0] - candles[0][0] for candle in candles] == [n * MINUTE_MS for n in range(5)]
    book = exchange.fetch_order_book("ETH/USDT", limit=5)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert exchange.fetch_ticker("SOL/USDT")["last"] > 0
    assert set(exchange.fetch_tickers()) == set(markets)
    assert len(exchange.fetch_trades("SOL/USDT", limit=3)) == 3
    with pytest.raises(ccxt.BadSymbol):
        exchange.fetch_ticker("NO/USDT")
