"""The venue's price streams through polymarket-client's own subscriptions: RTDS (older) and PolyBolt."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import websockets
from polymarket.errors import RequestRejectedError
from polymarket.streams import CryptoPricesChainlinkTwapSpec, CryptoPriceSpec, CryptoPricesSpec, CryptoTwapPriceSpec

from tests import patience

LIMIT_S = 30


async def _take(stream: Any, count: int) -> list[Any]:
    found: list[Any] = []
    async with patience.timeout(LIMIT_S):
        async for event in stream:
            found.append(event)
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


async def test_polybolt_brings_a_snapshot_and_each_second(quiet: Any, connect: Any) -> None:
    """The 60 s average comes as a snapshot of the last two minutes, then once a second, exactly and in order."""
    client = await connect(quiet)
    async with await client.subscribe(CryptoTwapPriceSpec(symbols=["btcusd", "ethusd"])) as stream:
        events = await _take(stream, 8)
    snapshots = {event.payload.symbol for event in events if event.type == "subscribe"}
    assert snapshots == {"btcusd", "ethusd"}
    updates = [event.payload for event in events if event.type == "update" and event.payload.symbol == "btcusd"]
    assert [one.timestamp for one in updates] == sorted(one.timestamp for one in updates)
    settlement = quiet.get("/paper/state")["settlement"]["BTC"]
    assert float(updates[-1].value) == pytest.approx(settlement, rel=0.01)
    assert {event.payload.source for event in events} == {"chainlink"}


async def test_polybolt_spot_comes_from_the_provider_asked_for(quiet: Any, connect: Any) -> None:
    """Pyth, the default, shows the lead price with Binance's decimals; Chainlink the settlement price with all of its own."""
    client = await connect(quiet)
    exact: dict[str, list[bool]] = {}
    for provider in ("pyth", "chainlink"):
        async with await client.subscribe(CryptoPriceSpec(symbols=["solusd"], provider=provider)) as stream:
            events = await _take(stream, 2)
        assert [event.type for event in events] == ["subscribe", "update"]
        assert events[1].payload.source == provider
        values = [*(point.value for point in events[0].payload.data), events[1].payload.value][-6:]
        exact[provider] = [value == round(value, 2) for value in values]
    assert all(exact["pyth"])
    assert not all(exact["chainlink"])


async def test_polybolt_refuses_strangers_and_unknown_symbols(quiet: Any, connect: Any) -> None:
    """Without credentials nothing is sent; a symbol that does not exist is refused by its code."""
    async with websockets.connect(quiet.ws_url + "/polybolt") as socket:
        await socket.send(json.dumps({"op": "subscribe", "rid": "1", "subscriptions": [{"channel": "price.crypto"}]}))
        assert json.loads(await patience.wait_for(socket.recv(), LIMIT_S))["code"] == "auth_required"
        for _ in range(3):
            await socket.send(json.dumps({"op": "auth", "rid": "2", "auth": {"apiKey": "x"}}))
        for _ in range(2):
            assert json.loads(await patience.wait_for(socket.recv(), LIMIT_S))["code"] == "auth_invalid"
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await patience.wait_for(socket.recv(), LIMIT_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    client = await connect(quiet)
    with pytest.raises(RequestRejectedError) as refused:
        await client.subscribe(CryptoPriceSpec(symbols=["ltcusd"]))
    assert refused.value.code == "bad_filter"


async def test_rtds_brings_both_prices_and_the_average(quiet: Any, connect: Any) -> None:
    """The older stream carries Binance's price, Chainlink's, and Chainlink's average over 60 s."""
    client = await connect(quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        specs = [
            CryptoPricesSpec(topic="prices.crypto.binance", symbols=["btcusdt"]),
            CryptoPricesSpec(topic="prices.crypto.chainlink", symbols=["btc/usd"]),
            CryptoPricesChainlinkTwapSpec(window_seconds=60, symbols=["btc/usd"]),
        ]
    async with await client.subscribe(specs) as stream:
        events = await _take(stream, 9)
    state = quiet.get("/paper/state")
    seen = {event.topic: event.payload for event in events}
    assert set(seen) == {"prices.crypto.binance", "prices.crypto.chainlink", "prices.crypto.chainlink.twap"}
    assert seen["prices.crypto.chainlink.twap"].window_seconds == 60
    assert float(seen["prices.crypto.chainlink"].value) == pytest.approx(state["settlement"]["BTC"], rel=0.01)
