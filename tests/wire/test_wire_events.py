"""Stream events that come twice, or out of order, or not for long: what a client must live with."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import websockets
from polymarket.streams import MarketSpec


async def _read(socket: websockets.ClientConnection, count: int) -> list[Any]:
    async with asyncio.timeout(15):
        return [json.loads(await socket.recv()) for _ in range(count)]


async def _read_past(socket: websockets.ClientConnection, *, repeated: bool) -> None:
    """Read what was under way before a fault began or ended: up to a pair of messages that are the same, or are not."""
    while True:
        first, second = await _read(socket, 2)
        if (first == second) == repeated:
            return
        if repeated:
            (third,) = await _read(socket, 1)
            if second == third:
                return


async def _read_on(socket: websockets.ClientConnection, found: list[tuple[float, Any]]) -> None:
    """Read until the connection ends: when, and what."""
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 5))
        found.append((time.monotonic(), message))


async def test_events_may_come_twice(quiet: Any) -> None:
    """Under the fault each event arrives twice, byte for byte; after it once."""
    async with websockets.connect(quiet.ws_url + "/ws/btcusdt@trade") as socket:
        await _read(socket, 1)
        quiet.fault(kind="duplicate_events", seconds=60, path="/ws/btcusdt")
        await _read_past(socket, repeated=True)
        numbers = [message["t"] for message in await _read(socket, 20)]
        assert numbers[::2] == numbers[1::2] == sorted(set(numbers))
        quiet.clear_faults()
        await _read_past(socket, repeated=False)
        numbers = [message["t"] for message in await _read(socket, 10)]
        assert len(set(numbers)) == 10


async def test_events_may_come_out_of_order(quiet: Any) -> None:
    """Under the fault some events overtake others, but none is lost and none is made up."""
    async with websockets.connect(quiet.ws_url + "/ws/ethusdt@trade") as socket:
        await _read(socket, 1)
        quiet.fault(kind="reorder_events", seconds=60, path="/ws/ethusdt")
        messages = await _read(socket, 40)
        quiet.clear_faults()
        messages += await _read(socket, 10)
    numbers = [message["t"] for message in messages]
    assert numbers != sorted(numbers)
    # Six assets share the count.
    assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1, 6))


async def test_new_markets_are_announced(start_paper: Any, connect: Any) -> None:
    """Whoever asked for custom features hears of each market as it is listed, with the ids that it will trade by."""
    paper = start_paper(timeframes="5s", house="off")
    client = await connect(paper)
    async with (
        await client.subscribe(MarketSpec(token_ids=paper.market()["tokens"], custom_feature_enabled=True)) as stream,
        asyncio.timeout(15),
    ):
        async for event in stream:
            if event.type == "new_market":
                break
    market = await client.get_market(slug=event.payload.slug)
    assert event.payload.condition_id == market.condition_id
    assert event.payload.asset_ids == (market.outcomes.yes.token_id, market.outcomes.no.token_id)


async def test_tick_becomes_finer_at_the_edge(quiet: Any, connect: Any) -> None:
    """Beyond 0.96 a market's tick becomes 0.001: subscribers are told, look-ups say so, and finer orders are taken."""
    client, other = await connect(quiet), await connect(quiet)
    up, down = quiet.market("btc")["tokens"]
    async with await client.subscribe(MarketSpec(token_ids=[up, down])) as stream:
        await client.place_limit_order(asset_id=up, price="0.97", size=10, side="BUY")
        await other.place_limit_order(asset_id=down, price="0.01", size=200, side="BUY")
        changed: set[str] = set()
        async with asyncio.timeout(10):
            async for event in stream:
                if event.type == "tick_size_change":
                    assert (str(event.payload.old_tick_size), str(event.payload.new_tick_size)) == ("0.01", "0.001")
                    changed.add(event.payload.asset_id)
                    if changed == {up, down}:
                        break
    assert quiet.get(f"/tick-size?token_id={up}") == {"minimum_tick_size": 0.001}
    third = await connect(quiet)
    assert (await third.place_limit_order(asset_id=up, price="0.975", size=10, side="BUY")).status == "live"


async def test_binance_announces_its_end_and_pings(start_paper: Any) -> None:
    """A connection is told of its end by serverShutdown and closed at its age, though it answered every ping."""
    paper = start_paper(house="off", binance_lifetime=2, binance_notice=1, binance_ping=0.3)
    started = time.monotonic()
    events: list[tuple[float, Any]] = []
    async with websockets.connect(paper.ws_url + "/ws/btcusdt@kline_1m") as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await _read_on(socket, events)
    (announced,) = [at for at, event in events if event["e"] == "serverShutdown"]
    assert announced - started >= 1
    assert time.monotonic() - announced >= 0.9
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


async def test_binance_limits_what_a_client_sends(quiet: Any) -> None:
    """More than five messages in a second end the connection; pongs and pings count."""
    async with websockets.connect(quiet.ws_url + "/ws/btcusdt@kline_1m") as socket:
        for number in range(6):
            await socket.ping(str(number))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await _read_on(socket, [])
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
