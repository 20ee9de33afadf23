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

from tests import patience

LIMIT_S = 30


async def _sign(paper: Any, client: Any, asset: str = "xrp", **more: Any) -> Any:
    token = paper.market(asset)["tokens"][0]
    return await client.create_limit_order(asset_id=token, price="0.12", size=10, side="BUY", **more)


async def test_restart_is_followed_by_post_only_time(quiet: Any, connect: Any) -> None:
    """A restart answers 425 to orders and cancels; after it, for a while, post-only orders alone are taken."""
    client = await connect(quiet)
    signed, passive = await _sign(quiet, client), await _sign(quiet, client, post_only=True)
    quiet.fault(kind="restart", seconds=60)
    for request in (client.post_order(signed), client.cancel_all()):
        with pytest.raises(RequestRejectedError) as refused:
            await request
        assert (refused.value.status, refused.value.restriction) == (425, "restarting")
    quiet.clear_faults()
    quiet.fault(kind="restart", seconds=0.1, post_only_seconds=300)
    deadline = patience.now() + LIMIT_S
    while True:
        with pytest.raises(RequestRejectedError) as refused:
            await client.post_order(signed)
        if refused.value.restriction != "restarting":
            break
        assert patience.now() < deadline, "the restart does not end"
        await asyncio.sleep(0.05)
    assert (refused.value.status, refused.value.code, refused.value.restriction) == (503, "post_only_mode", "post_only")
    assert 200 < (refused.value.retry_after or 0) <= 300
    assert (await client.post_order(passive)).status == "live"
    quiet.clear_faults()
    assert (await client.post_order(signed)).status == "live"


async def test_cancel_only_takes_cancels(quiet: Any, connect: Any) -> None:
    """In cancel-only mode orders are refused and cancels are not."""
    client = await connect(quiet)
    rested = await client.post_order(await _sign(quiet, client))
    signed = await _sign(quiet, client)
    quiet.fault(kind="cancel_only", seconds=300)
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
    quiet.fault(kind="disabled", seconds=300)
    for request in (client.post_order(signed), client.cancel_order(order_id=rested.order_id)):
        with pytest.raises(RequestRejectedError, match="disabled") as refused:
            await request
        assert refused.value.status == 503
    quiet.clear_faults()
    assert [one.id for one in (await client.list_open_orders().first_page()).items] == [rested.order_id]


async def test_rate_limited_request_says_when_to_come_back(quiet: Any, connect: Any) -> None:
    """A 429 arrives as the client's own error, with the seconds of Retry-After."""
    client = await connect(quiet)
    quiet.fault(kind="rate_limited", seconds=300, path="/data/orders")
    with pytest.raises(RateLimitError) as limited:
        await client.list_open_orders().first_page()
    assert 200 <= (limited.value.retry_after or 0) <= 300
    quiet.clear_faults()
    assert (await client.list_open_orders().first_page()).items == ()


async def test_signers_have_their_rate_limit(start_paper: Any, connect: Any) -> None:
    """Each answer's headers tell a Standard signer what is left of its burst; what is more than that is a 429."""
    paper = start_paper(house="off", taker_delay=0)
    seen: list[Any] = []
    client = await connect(paper, on_rate_limit_update=seen.append)
    await client.post_order(await _sign(paper, client))
    assert [(update.tier, update.remaining) for update in seen] == [("standard", 59)]
    # More cancels than a whole burst, so that it does not matter how many flow back meanwhile.
    with pytest.raises(RateLimitError) as limited:
        await client.cancel_orders(order_ids=["0x" + f"{number:064x}" for number in range(121)])
    assert (limited.value.retry_after or 0) >= 1
    assert limited.value.rate_limit is not None
    assert (limited.value.rate_limit.tier, limited.value.rate_limit.remaining) == ("standard", 120)
    assert (await client.cancel_all()).canceled != ()


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
    quiet.fault(kind="wrong_clock", seconds=300, offset=-400)
    assert -430 <= quiet.get("/time") - time.time() <= -398
    assert -430 <= quiet.get("/api/v3/time")["serverTime"] / 1000 - time.time() <= -398
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
    log = [json.loads(line) for line in paper.log.read_text().splitlines()]
    assert {one["kind"] for one in log if one["event"] == "fault armed"} == {"cancel_only"}


def test_requests_that_faults_broke_are_in_the_record(quiet: Any) -> None:
    """The record holds what was answered instead, so that nothing that arrived is missing from it."""
    address = Account.create().address
    quiet.fault(kind="error", path="/auth", method="POST")
    answer = httpx.post(quiet.url + "/auth/api-key", headers={"POLY_ADDRESS": address}, timeout=LIMIT_S)
    assert answer.status_code == 500
    requests: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = quiet.get(f"/paper/record?after={after}")
        requests += page["requests"]
        after = page["next"]
    assert [one["status"] for one in requests if one["address"] == address] == [500]
