"""Stream events that come twice, or out of order, or not for long: what a client must live with."""

from __future__ import annotations

import json
import time
from typing import Any

import websockets
from polymarket.streams import MarketSpec

from tests import patience

LIMIT_S = 30


async def _read(socket: websockets.ClientConnection, count: int) -> list[Any]:
    async with patience.timeout(LIMIT_S):
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


async def _read_on(socket: websockets.ClientConnection) -> list[Any]:
    """What comes until the connection ends."""
    found: list[Any] = []
    async with patience.timeout(LIMIT_S):
        try:
            while True:
                found.append(json.loads(await socket.recv()))
        except websockets.ConnectionClosed:
            return found


async def test_events_may_come_twice(quiet: Any) -> None:
    """Under the fault each event arrives twice, byte for byte; after it once."""
    async with websockets.connect(quiet.ws_url + "/ws/btcusdt@trade") as socket:
        await _read(socket, 1)
        quiet.fault(kind="duplicate_events", seconds=60, path="/ws/btcusdt")
        await _read_past(socket, repeated=True)
        numbers = [message["t"] for message in await _read(socket, 8)]
        assert numbers[::2] == numbers[1::2] == sorted(set(numbers))
        quiet.clear_faults()
        await _read_past(socket, repeated=False)
        numbers = [message["t"] for message in await _read(socket, 5)]
        assert len(set(numbers)) == 5


async def test_events_may_come_out_of_order(quiet: Any) -> None:
    """Under the fault some events overtake others, but none is lost and none is made up."""
    async with websockets.connect(quiet.ws_url + "/ws/ethusdt@trade") as socket:
        await _read(socket, 1)
        quiet.fault(kind="reorder_events", seconds=60, path="/ws/ethusdt")
        messages = await _read(socket, 15)
        quiet.clear_faults()
        cleared_ms = quiet.get("/paper/state")["now_ms"]
        while messages[-1]["T"] <= cleared_ms:  # what was under way is out of order still
            messages += await _read(socket, 1)
        messages += await _read(socket, 1)  # what had been overtaken last comes right behind
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
        patience.timeout(LIMIT_S),
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
        async with patience.timeout(LIMIT_S):
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
    paper = start_paper(house="off", binance_lifetime=2, binance_notice=1.5, binance_ping=0.3)
    async with websockets.connect(paper.ws_url + "/ws/btcusdt@kline_1m") as socket:
        opened_ms = time.time() * 1000
        events = await _read_on(socket)
        closed_ms = time.time() * 1000
    (announced,) = [event for event in events if event["e"] == "serverShutdown"]
    # By the exchange's clock: half a second after it was opened, 1.5 s before its end, which a busy machine may shorten.
    assert announced["E"] - opened_ms >= 400
    assert closed_ms - announced["E"] >= 500
    assert socket.close_code == 1000


async def test_binance_limits_what_a_client_sends(quiet: Any) -> None:
    """More than five messages in a second end the connection; pongs and pings count."""
    async with websockets.connect(quiet.ws_url + "/ws/btcusdt@kline_1m") as socket:
        for number in range(20):
            await socket.ping(str(number))
        await _read_on(socket)
    assert socket.close_code == 1008
