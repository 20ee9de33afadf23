"""Every fault, from the client's side; and what survives a kill."""

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
from polymarket.errors import RequestRejectedError, TransportError
from polymarket.streams import MarketSpec

from tests import patience

LIMIT_S = 30


async def _order(paper: Any, client: Any) -> Any:
    token = paper.market("xrp")["tokens"][0]
    return await client.create_limit_order(asset_id=token, price="0.11", size=10, side="BUY")


async def test_reply_lost_before_the_order_took_effect(quiet: Any, connect: Any) -> None:
    """The client sees a broken connection, and the order is not there; the same bytes are accepted later."""
    client = await connect(quiet)
    signed = await _order(quiet, client)
    quiet.fault(kind="lost_before", path="/order", method="POST")
    with pytest.raises(TransportError):
        await client.post_order(signed)
    assert [page.items async for page in client.list_open_orders()] == [()]
    assert (await client.post_order(signed)).status == "live"


async def test_reply_lost_after_the_order_took_effect(quiet: Any, connect: Any) -> None:
    """The client sees the same broken connection, but the order is there, and the same bytes are a duplicate."""
    client = await connect(quiet)
    signed = await _order(quiet, client)
    quiet.fault(kind="lost_after", path="/order", method="POST")
    with pytest.raises(TransportError):
        await client.post_order(signed)
    assert [len(page.items) async for page in client.list_open_orders()] == [1]
    with pytest.raises(RequestRejectedError, match="Duplicated"):
        await client.post_order(signed)


async def test_slow_reply_still_takes_effect(quiet: Any, connect: Any) -> None:
    """A slow answer arrives after its delay; the order is placed."""
    client = await connect(quiet)
    signed = await _order(quiet, client)
    quiet.fault(kind="slow", seconds=0.4, path="/order", method="POST")
    started = time.monotonic()
    assert (await client.post_order(signed)).status == "live"
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize(("kind", "status", "restriction"), [("error", 500, None), ("restarting", 425, "restarting")])
async def test_server_errors_map_to_the_clients_own(
    quiet: Any, connect: Any, kind: str, status: int, restriction: str | None
) -> None:
    """A 5xx and the restart's 425 arrive as the client's typed errors, as often as asked for, and end."""
    client = await connect(quiet)
    quiet.fault(kind=kind, count=2, path="/data/orders")
    for _ in range(2):
        with pytest.raises(RequestRejectedError) as refused:
            await client.list_open_orders().first_page()
        assert (refused.value.status, refused.value.restriction) == (status, restriction)
    assert (await client.list_open_orders().first_page()).items == ()


async def _until_silent(socket: websockets.ClientConnection) -> None:
    """Pass over what was under way before a fault, until nothing has come for half a second."""
    deadline = patience.now() + LIMIT_S
    while patience.now() < deadline:
        try:
            await patience.wait_for(socket.recv(), 0.5)
        except TimeoutError:
            return
    raise AssertionError("the stream does not fall silent")


async def test_frozen_stream_still_answers_ping(quiet: Any) -> None:
    """While streams are frozen nothing arrives but PONG; after the fault is cleared events come again."""
    client_url = quiet.ws_url + "/ws/btcusdt@trade"
    async with websockets.connect(client_url) as binance, websockets.connect(quiet.ws_url + "/ws/market") as venue:
        await patience.wait_for(binance.recv(), LIMIT_S)
        await venue.send(json.dumps({"type": "market", "assets_ids": []}))
        quiet.fault(kind="freeze_streams", seconds=30, path="/ws")
        await venue.send("PING")
        assert await patience.wait_for(venue.recv(), LIMIT_S) == "PONG"
        await _until_silent(binance)
        quiet.clear_faults()
        assert json.loads(await patience.wait_for(binance.recv(), LIMIT_S))["s"] == "BTCUSDT"


async def test_dropped_stream_is_connected_again_by_the_client(quiet: Any, connect: Any) -> None:
    """A dropped connection ends without a word; polymarket-client reconnects and gets the book anew."""
    client = await connect(quiet)
    token = quiet.market("sol")["tokens"][1]
    async with await client.subscribe(MarketSpec(token_ids=[token])) as stream:

        async def book() -> Any:
            async for event in stream:
                if event.type == "book":
                    return event
            raise AssertionError("the stream ended")

        await patience.wait_for(book(), LIMIT_S)
        quiet.fault(kind="drop_streams", path="/ws/market")
        assert (await patience.wait_for(book(), LIMIT_S)).payload.asset_id == token


def test_bad_fault_is_refused(quiet: Any) -> None:
    """An unknown kind is refused with the list of kinds."""
    answer = httpx.post(quiet.url + "/paper/faults", json={"kind": "gremlins"}, timeout=LIMIT_S)
    assert answer.status_code == 400
    assert "lost_before" in answer.json()["error"]


@pytest.mark.parametrize("rounds", [3])
async def test_sigkill_loses_no_acknowledged_order(start_paper: Any, connect: Any, tmp_path: Any, rounds: int) -> None:
    """Killed at an arbitrary moment under load, the exchange comes back with every order that it acknowledged."""
    acknowledged: list[str] = []
    for number in range(rounds):
        paper = start_paper(data=tmp_path, house="off")
        client = await connect(paper)
        token = paper.market()["tokens"][0]
        signed = [await client.create_limit_order(asset_id=token, price="0.10", size=5, side="BUY") for _ in range(40)]

        async def post(one: Any, client: Any = client) -> None:
            try:
                acknowledged.append((await client.post_order(one)).order_id)
            except TransportError:
                return  # in doubt: the exchange died before it answered

        tasks = [asyncio.create_task(post(one)) for one in signed]
        for answered in itertools.islice(asyncio.as_completed(tasks), 5 + 10 * number):
            await answered
        paper.process.kill()
        await asyncio.gather(*tasks)
        paper.process.wait(LIMIT_S)
    paper = start_paper(data=tmp_path, house="off")
    orders = {order["order_id"]: order for order in paper.get("/paper/record")["orders"]}
    assert set(acknowledged) <= set(orders)
    assert {orders[oid]["status"] for oid in acknowledged} == {"LIVE"}
    # They rest in the book, too, with their money reserved.
    assert paper.get("/paper/state")["open_orders"] == len(orders)


async def test_window_that_ended_while_down_is_settled(
    start_paper: Any, connect: Any, eventually: Any, tmp_path: Any
) -> None:
    """Shares bought before a kill are paid after the restart, though the window ended in between."""
    options = {"data": tmp_path, "timeframes": "5s", "resolution_delay": 0.1, "taker_delay": 0}
    paper = start_paper(**options)
    key = Account.create().key.hex()
    client = await connect(paper, private_key=key)
    slug = paper.window()
    market = await client.get_market(slug=slug)
    for token in (market.outcomes.yes.token_id, market.outcomes.no.token_id):
        await client.place_market_order(asset_id=token, side="BUY", amount=10, max_price="0.90")
    before = paper.get("/paper/record")
    paper.process.kill()
    ends = int(slug.rpartition("-")[2]) + 5
    await asyncio.sleep(max(0.0, ends - time.time()))  # the event awaited is the clock itself
    paper = start_paper(**options)

    async def paid() -> Any:
        record = paper.get("/paper/record")
        return record if record["resolutions"] and not record["positions"] else None

    after = await eventually(paid)
    winner = after["resolutions"][0]["winner"]
    won = sum(one["size"] for one in before["trades"] if one["outcome"] == winner)
    wallet = after["orders"][0]["wallet"]
    assert after["balance"][wallet] - before["balance"][wallet] == won > 0
