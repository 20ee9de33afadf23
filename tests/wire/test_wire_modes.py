"""What the venue's modes and broken answers look like to polymarket-client: restarts, 503s, 429, clocks, empty answers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from eth_account import Account
from polymarket.errors import RateLimitError, RequestRejectedError, UnexpectedResponseError


async def _sign(paper: Any, client: Any, asset: str = "xrp", **more: Any) -> Any:
    token = paper.market(asset)["tokens"][0]
    return await client.create_limit_order(asset_id=token, price="0.12", size=10, side="BUY", **more)


async def test_restart_is_followed_by_post_only_time(quiet: Any, connect: Any) -> None:
    """A restart answers 425 to orders and cancels; after it, for a while, post-only orders alone are taken."""
    client = await connect(quiet)
    signed, passive = await _sign(quiet, client), await _sign(quiet, client, post_only=True)
    quiet.fault(kind="restart", seconds=1.5, post_only_seconds=30)
    for request in (client.post_order(signed), client.cancel_all()):
        with pytest.raises(RequestRejectedError) as refused:
            await request
        assert (refused.value.status, refused.value.restriction) == (425, "restarting")
    deadline = time.monotonic() + 10
    while True:
        with pytest.raises(RequestRejectedError) as refused:
            await client.post_order(signed)
        if refused.value.restriction != "restarting":
            break
        assert time.monotonic() < deadline, "the restart does not end"
        await asyncio.sleep(0.05)
    assert (refused.value.status, refused.value.code, refused.value.restriction) == (503, "post_only_mode", "post_only")
    assert 0 < (refused.value.retry_after or 0) <= 30
    assert (await client.post_order(passive)).status == "live"
    quiet.clear_faults()
    assert (await client.post_order(signed)).status == "live"


async def test_cancel_only_takes_cancels(quiet: Any, connect: Any) -> None:
    """In cancel-only mode orders are refused and cancels are not."""
    client = await connect(quiet)
    rested = await client.post_order(await _sign(quiet, client))
    signed = await _sign(quiet, client)
    quiet.fault(kind="cancel_only", seconds=30)
    with pytest.raises(RequestRejectedError) as refused:
        await client.post_order(signed)
    assert (refused.value.status, refused.value.restriction) == (503, "cancel_only")
    assert (await client.cancel_order(order_id=rested.order_id)).canceled == (rested.order_id,)
    quiet.clear_faults()


async def test_disabled_takes_nothing(quiet: Any, connect: Any) -> None:
    """While trading is disabled neither orders nor cancels are taken, and nothing has changed after it."""
    client = await connect(quiet)
    rested = await client.post_order(await _sign(quiet, client))
    signed = await _sign(quiet, client)
    quiet.fault(kind="disabled", seconds=30)
    for request in (client.post_order(signed), client.cancel_order(order_id=rested.order_id)):
        with pytest.raises(RequestRejectedError, match="disabled") as refused:
            await request
        assert refused.value.status == 503
    quiet.clear_faults()
    assert [one.id for one in (await client.list_open_orders().first_page()).items] == [rested.order_id]


async def test_rate_limited_request_says_when_to_come_back(quiet: Any, connect: Any) -> None:
    """A 429 arrives as the client's own error, with the seconds of Retry-After."""
    client = await connect(quiet)
    quiet.fault(kind="rate_limited", seconds=7, path="/data/orders")
    with pytest.raises(RateLimitError) as limited:
        await client.list_open_orders().first_page()
    assert 6 <= (limited.value.retry_after or 0) <= 7
    quiet.clear_faults()
    assert (await client.list_open_orders().first_page()).items == ()


async def test_signers_have_their_rate_limit(start_paper: Any, connect: Any) -> None:
    """A Standard signer may burst 60 orders; the next is a 429, and each answer's headers told how many were left."""
    paper = start_paper(house="off", taker_delay=0)
    seen: list[Any] = []
    client = await connect(paper, on_rate_limit_update=seen.append)
    signed = [await _sign(paper, client) for _ in range(75)]
    answers = await asyncio.gather(*(client.post_order(one) for one in signed), return_exceptions=True)
    limited = [one for one in answers if isinstance(one, RateLimitError)]
    # 40 a second flow back while they are sent.
    assert 1 <= len(limited) <= 15, [one for one in answers if isinstance(one, Exception)]
    assert (limited[0].retry_after or 0) >= 1
    assert limited[0].rate_limit is not None
    assert (limited[0].rate_limit.tier, limited[0].rate_limit.remaining) == ("standard", 0)
    assert seen[0].tier == "standard"
    assert 50 <= max(update.remaining for update in seen) <= 59


async def test_live_order_may_look_absent(quiet: Any, connect: Any) -> None:
    """An empty answer to a look-up proves nothing: asked again, the order is there."""
    client = await connect(quiet)
    placed = await client.post_order(await _sign(quiet, client))
    quiet.fault(kind="empty_order")
    with pytest.raises(UnexpectedResponseError):
        await client.get_order(order_id=placed.order_id)
    assert (await client.get_order(order_id=placed.order_id)).status == "LIVE"


async def test_wrong_clock_is_shown_and_judged_by(quiet: Any, connect: Any) -> None:
    """A venue whose clock is off says so in its time, and refuses requests that its clock finds stale."""
    client = await connect(quiet)
    quiet.fault(kind="wrong_clock", seconds=30, offset=-400)
    assert -402 <= quiet.get("/time") - time.time() <= -398
    assert -402 <= quiet.get("/api/v3/time")["serverTime"] / 1000 - time.time() <= -398
    with pytest.raises(RequestRejectedError) as refused:
        await client.list_open_orders().first_page()
    assert refused.value.status == 401
    quiet.clear_faults()
    assert (await client.list_open_orders().first_page()).items == ()


async def test_faults_come_by_themselves(start_paper: Any, connect: Any, eventually: Any) -> None:
    """With --faults an exchange breaks on its own, now and then, and says in its log what it armed."""
    paper = start_paper(house="off", faults="cancel_only", fault_interval=0.2)
    client = await connect(paper)

    async def refused() -> bool:
        try:
            await client.place_limit_order(asset_id=paper.market()["tokens"][0], price="0.10", size=10, side="BUY")
        except RequestRejectedError as error:
            return error.restriction == "cancel_only"
        return False

    await eventually(refused)
    paper.stop()
    log = [json.loads(line) for line in paper.process.stdout.read().splitlines()]
    assert {one["kind"] for one in log if one["event"] == "fault armed"} == {"cancel_only"}


def test_requests_that_faults_broke_are_in_the_record(quiet: Any) -> None:
    """The record holds what was answered instead, so that nothing that arrived is missing from it."""
    address = Account.create().address
    quiet.fault(kind="error", path="/auth", method="POST")
    answer = httpx.post(quiet.url + "/auth/api-key", headers={"POLY_ADDRESS": address}, timeout=5)
    assert answer.status_code == 500
    requests: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = quiet.get(f"/paper/record?after={after}")
        requests += page["requests"]
        after = page["next"]
    assert [one["status"] for one in requests if one["address"] == address] == [500]
