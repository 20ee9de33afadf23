"""What becomes of trades and windows after the match, from the client's side."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from polymarket.errors import RequestRejectedError
from polymarket.streams import UserSpec

from tests import patience

LIMIT_S = 30


async def _statuses(stream: Any, last: str) -> list[str]:
    found: list[str] = []
    async with patience.timeout(LIMIT_S):
        async for event in stream:
            if event.type == "trade":
                found.append(event.payload.status)
                if found[-1] == last:
                    return found
    raise AssertionError("the stream ended")


async def _cash(client: Any) -> int:
    return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)


async def test_failed_trade_moves_nothing_in_the_end(
    start_paper: Any, connect: Any, eventually: Any, tmp_path: Any
) -> None:
    """A trade that fails goes MATCHED, RETRYING, FAILED; what it brought cannot be sold meanwhile, and is taken back."""
    paper = start_paper(data=tmp_path, house="off", taker_delay=0, settle_time=2)
    maker, taker = await connect(paper), await connect(paper)
    market = paper.market("eth")
    up, down = market["tokens"]
    before = [await _cash(one) for one in (maker, taker)]
    async with await taker.subscribe(UserSpec(markets=[market["conditionId"]])) as stream:
        await maker.place_limit_order(asset_id=down, price="0.40", size=10, side="BUY")
        paper.fault(kind="failing_trades")
        taken = await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="BUY")
        assert (taken.status, await _cash(taker)) == ("matched", before[1] - 6_000_000 - 168_000)
        with pytest.raises(RequestRejectedError, match="not enough balance"):
            await taker.place_limit_order(asset_id=up, price="0.70", size=10, side="SELL")
        assert await _statuses(stream, "FAILED") == ["MATCHED", "RETRYING", "FAILED"]

    async def undone() -> bool:
        return [await _cash(one) for one in (maker, taker)] == before

    await eventually(undone)
    trades = [one async for page in taker.list_account_trades() for one in page.items]
    assert [one.status for one in trades] == ["FAILED"]
    record = paper.get("/paper/record")
    assert {one["status"] for one in record["trades"]} == {"FAILED"}
    assert record["positions"] == []


async def test_failure_is_remembered_over_a_kill(
    start_paper: Any, connect: Any, eventually: Any, tmp_path: Any
) -> None:
    """An exchange that is killed before a trade failed takes it back after its restart."""
    paper = start_paper(data=tmp_path, house="off", taker_delay=0, settle_time=2)
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market("sol")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.40", size=10, side="BUY")
    paper.fault(kind="failing_trades")
    await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="BUY")
    paper.process.kill()
    paper.process.wait(timeout=5)
    again = start_paper(data=tmp_path, house="off", settle_time=2)

    async def undone() -> bool:
        record = again.get("/paper/record")
        return not record["positions"] and set(record["balance"].values()) == {10_000_000_000}

    await eventually(undone)


async def test_retried_trade_is_confirmed_later(quiet: Any, connect: Any) -> None:
    """A trade that is retried goes MATCHED, RETRYING, MINED, CONFIRMED, and keeps what it moved."""
    maker, taker = await connect(quiet), await connect(quiet)
    market = quiet.market("doge")
    up, down = market["tokens"]
    async with await taker.subscribe(UserSpec(markets=[market["conditionId"]])) as stream:
        await maker.place_limit_order(asset_id=down, price="0.45", size=10, side="BUY")
        quiet.fault(kind="retried_trades")
        await taker.place_limit_order(asset_id=up, price="0.55", size=10, side="BUY")
        assert await _statuses(stream, "CONFIRMED") == ["MATCHED", "RETRYING", "MINED", "CONFIRMED"]
    held = await taker.get_balance_allowance(asset_type="CONDITIONAL", asset_id=up)
    assert held.balance == 10_000_000


async def test_resolution_may_be_late(start_paper: Any, connect: Any, eventually: Any) -> None:
    """A late window takes no more orders after its end, and stays without an outcome until its delay has passed."""
    paper = start_paper(timeframes="5s", resolution_delay=0.1, resolution_spread=0, taker_delay=0, house="off")
    client = await connect(paper)
    paper.fault(kind="late_resolution", seconds=2, count=100)
    slug = f"btc-updown-5s-{paper.get('/paper/state')['now_ms'] // 5_000 * 5}"

    async def entry_closed() -> bool:
        return not (await client.get_market(slug=slug)).state.accepting_orders

    await eventually(entry_closed)
    token = (await client.get_market(slug=slug)).outcomes.yes.token_id
    with pytest.raises(RequestRejectedError, match="market is closed"):
        await client.place_limit_order(asset_id=token, price="0.50", size=10, side="BUY")

    async def resolved() -> bool:
        return bool((await client.get_market(slug=slug)).state.closed)

    await eventually(resolved)
    shown = paper.get(f"/markets/slug/{slug}")
    closed, ended = (datetime.fromisoformat(shown[name]) for name in ("closedTime", "endDate"))
    assert (closed - ended).total_seconds() >= 2


async def test_funds_are_bound_while_a_taker_is_held(start_paper: Any, connect: Any, eventually: Any) -> None:
    """During the taker's hold all its money is bound: a second order is refused, and taken once the hold is over."""
    paper = start_paper(house="off", taker_delay=2)
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market("bnb")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    first = await taker.create_limit_order(asset_id=down, price="0.40", size=10_000, side="BUY", post_only=True)
    taking = taker.place_market_order(asset_id=up, amount=7_500, max_price="0.50", side="BUY", order_type="FAK")
    held = asyncio.create_task(taking)

    async def is_held() -> bool:
        return bool(paper.get("/paper/state")["held_orders"])

    await eventually(is_held)
    with pytest.raises(RequestRejectedError, match="not enough balance"):
        await taker.post_order(first)
    assert (await held).status == "matched"
    assert (await taker.post_order(first)).status == "live"
    assert await _cash(taker) == 10_000_000_000 - 5_000_000 - 175_000
