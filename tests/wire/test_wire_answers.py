"""Orders as the venue was recorded to take them: late fills, money that is spent, several makers, sentences, old balances."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
import websockets
from eth_account import Account
from polymarket.errors import RequestRejectedError, UnexpectedResponseError
from polymarket.models.clob.order_response import AcceptedOrder, RejectedOrder

from tests import patience

LIMIT_S = 30
DELAY_S = 0.3
EXCHANGE = {"house": "off", "taker_delay": 0, "settle_time": 0.4, "rate_tier": "none"}


async def _follow(paper: Any, client: Any) -> websockets.ClientConnection:
    """The user channel of a client, from when it is subscribed."""
    socket = await websockets.connect(paper.ws_url + "/ws/user")
    keys = client._ctx.credentials
    auth = {"apiKey": keys.key, "secret": keys.secret, "passphrase": keys.passphrase}
    await socket.send(json.dumps({"type": "user", "auth": auth}))
    await socket.send("PING")
    async with patience.timeout(LIMIT_S):
        while await socket.recv() != "PONG":
            pass
    return socket


async def _event(socket: Any, kind: str) -> dict[str, Any]:
    async with patience.timeout(LIMIT_S):
        while True:
            message = json.loads(await socket.recv())
            if message["event_type"] == kind:
                found: dict[str, Any] = message
                return found


async def _trades(client: Any) -> list[Any]:
    return [one async for page in client.list_account_trades() for one in page.items]


async def _cash(client: Any) -> int:
    return int((await client.get_balance_allowance(asset_type="COLLATERAL")).balance)


async def _early(paper: Any, connect: Any) -> tuple[Any, AcceptedOrder, Any]:
    """A taker whose order is answered before it is matched: the taker, the answer, and its user channel."""
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market("eth")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=20, side="BUY")
    socket = await _follow(paper, taker)
    answer = await taker.place_market_order(asset_id=up, side="BUY", amount=5, max_price="0.50")
    assert isinstance(answer, AcceptedOrder)
    assert answer.status in ("delayed", "live")
    assert (answer.making_amount, answer.taking_amount, answer.trade_ids) == (Decimal(0), Decimal(0), ())
    return taker, answer, socket


async def test_an_order_answered_without_amounts_is_filled_after_the_delay(start_paper: Any, connect: Any) -> None:
    """The answer says delayed or live, zero or nothing, no trade; the fill comes after the market's delay."""
    paper = start_paper(**EXCHANGE | {"taker_delay": DELAY_S, "delayed_answers": 1})
    taker, answer, socket = await _early(paper, connect)
    assert await _trades(taker) == []
    with contextlib.suppress(UnexpectedResponseError):  # null: for about half of the orders
        assert (await taker.get_order(order_id=answer.order_id)).status == "DELAYED"
    trade = await _event(socket, "trade")
    assert (trade["taker_order_id"], trade["size"]) == (answer.order_id, "10")
    assert [one.taker_order_id for one in await _trades(taker)] == [answer.order_id]
    await socket.close()


async def test_a_delayed_order_may_end_unmatched(start_paper: Any, connect: Any, eventually: Any) -> None:
    """It met a maker when it came, and is UNMATCHED all the same; its money is free again."""
    paper = start_paper(**EXCHANGE | {"taker_delay": DELAY_S, "delayed_answers": 1, "unmatched_delays": 1})
    taker, answer, socket = await _early(paper, connect)
    ended = await _event(socket, "order")
    assert (ended["id"], ended["type"], ended["status"]) == (answer.order_id, "CANCELLATION", "UNMATCHED")
    assert (await _trades(taker), await _cash(taker)) == ([], 10_000_000_000)
    (recorded,) = [one for one in paper.get("/paper/record")["orders"] if one["order_id"] == answer.order_id]
    assert (recorded["status"], recorded["size_matched"]) == ("UNMATCHED", 0)
    await socket.close()


async def test_a_delayed_order_may_vanish(start_paper: Any, connect: Any, eventually: Any) -> None:
    """Nothing is ever seen of it: no event, no order, no trade; but its bytes stay used."""
    paper = start_paper(**EXCHANGE | {"taker_delay": DELAY_S, "delayed_answers": 1, "vanished_delays": 1})
    taker, answer, socket = await _early(paper, connect)

    async def let_go() -> bool:
        return bool(paper.get("/paper/state")["held_orders"] == 0)

    await eventually(let_go)
    with pytest.raises(UnexpectedResponseError):
        await taker.get_order(order_id=answer.order_id)
    assert (await _trades(taker), await _cash(taker)) == ([], 10_000_000_000)
    up = paper.market("eth")["tokens"][0]
    await taker.place_limit_order(asset_id=up, price="0.10", size=5, side="BUY")
    assert (await _event(socket, "order"))["id"] != answer.order_id, "the first event is the next order's"
    await socket.close()


async def test_a_market_buy_spends_its_money(start_paper: Any, connect: Any) -> None:
    """nautilus_trader issue 3747: 5 pUSD at a limit of 0.999 brought 25 shares at 0.20. Here 5 at 0.99, and at 0.20."""
    paper = start_paper(**EXCHANGE | {"market_buys": "money"})
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market("sol")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.80", size=100, side="BUY")
    bought = await taker.place_market_order(asset_id=up, side="BUY", amount=5, max_price="0.99", order_type="FOK")
    assert isinstance(bought, AcceptedOrder)
    assert (bought.making_amount, bought.taking_amount) == (Decimal(5), Decimal(25))
    fee = 25 * 70_000 * 20 * 80 // 10_000
    assert await _cash(taker) == 10_000_000_000 - 5_000_000 - fee
    with pytest.raises(RequestRejectedError, match="FOK orders are fully filled or killed"):
        await taker.place_market_order(asset_id=up, side="BUY", amount=50, max_price="0.99", order_type="FOK")


@pytest.mark.parametrize("form", ["limit", "average"])
async def test_one_trade_has_several_makers(start_paper: Any, connect: Any, form: str) -> None:
    """An order that meets three makers at two prices makes one trade; each maker's amount and price are in it."""
    paper = start_paper(**EXCHANGE | {"trades": "joint", "trade_price": form})
    first, second, taker = await connect(paper), await connect(paper), await connect(paper)
    up, down = paper.market("btc")["tokens"]
    for maker, price in ((first, "0.60"), (second, "0.60"), (second, "0.50")):
        await maker.place_limit_order(asset_id=down, price=price, size=10, side="BUY")
    taken = await taker.place_limit_order(asset_id=up, price="0.55", size=30, side="BUY")
    assert isinstance(taken, AcceptedOrder)
    assert (len(taken.trade_ids), taken.making_amount, taken.taking_amount) == (1, Decimal(13), Decimal(30))
    (trade,) = await _trades(taker)
    assert (trade.id, trade.size) == (taken.trade_ids[0], 30)
    assert trade.price == (Decimal("0.55") if form == "limit" else Decimal("0.433333"))
    assert [(one.price, one.matched_amount) for one in trade.maker_orders] == [
        (Decimal("0.6"), 10),
        (Decimal("0.6"), 10),
        (Decimal("0.5"), 10),
    ]
    assert len((await _trades(second))[0].maker_orders) == 3, "a maker sees the others too"
    rows = [one for one in paper.get("/paper/record")["trades"] if one["role"] == "taker"]
    assert [(one["trade_id"], one["size"], one["price"]) for one in rows] == [(trade.id, 30_000_000, 433_333)]


async def test_a_killed_order_is_a_cancellation_with_a_sentence(start_paper: Any, connect: Any) -> None:
    """The refused FOK's owner hears of it on the user channel, its texts empty, its size the money that it would spend."""
    paper = start_paper(**EXCHANGE | {"market_buys": "money"})
    client = await connect(paper)
    up = paper.market()["tokens"][0]
    socket = await _follow(paper, client)
    with pytest.raises(RequestRejectedError, match="FOK orders are fully filled or killed"):
        await client.place_market_order(asset_id=up, side="BUY", amount=5, max_price="0.50", order_type="FOK")
    event = await _event(socket, "order")
    assert event["status"] == "CANCELED_order couldn't be fully filled. FOK orders are fully filled or killed."
    assert (event["type"], event["original_size"], event["order_type"]) == ("CANCELLATION", "5", "FOK")
    assert [event[name] for name in ("size_matched", "outcome", "created_at", "associate_trades")] == ["", "", "", []]
    await socket.close()


async def test_statuses_may_carry_a_prefix(start_paper: Any, connect: Any) -> None:
    """TRADE_STATUS_MATCHED and what follows it, on the user channel and in the list."""
    paper = start_paper(**EXCHANGE | {"prefixed_statuses": 1})
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market()["tokens"]
    socket = await _follow(paper, taker)
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    heard = [(await _event(socket, "trade"))["status"] for _ in range(3)]
    assert heard == ["TRADE_STATUS_MATCHED", "TRADE_STATUS_MINED", "TRADE_STATUS_CONFIRMED"]
    await socket.close()


async def test_shares_are_there_once_they_are_mined(start_paper: Any, connect: Any, eventually: Any) -> None:
    """Within the settlement a sale of what was just bought is refused for its balance; then it is taken."""
    paper = start_paper(**EXCHANGE | {"fresh_shares": "mined", "settle_time": 2})
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market()["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    with pytest.raises(RequestRejectedError, match="balance: 0, order amount: 10000000"):
        await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="SELL")

    async def sold() -> bool:
        with contextlib.suppress(RequestRejectedError):
            return bool((await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="SELL")).ok)
        return False

    await eventually(sold)
    assert (await _trades(taker))[0].status != "MATCHED"


async def test_a_balance_is_old_until_it_is_asked_to_be_read_anew(start_paper: Any, connect: Any) -> None:
    """What was bought shows as 0 and cannot be sold before /balance-allowance/update."""
    paper = start_paper(**EXCHANGE | {"stale_balances": 1})
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market()["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    assert (await taker.get_balance_allowance(asset_type="CONDITIONAL", asset_id=up)).balance == 0
    with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
        await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="SELL")
    await taker._ctx.secure_clob.get_json(
        "/balance-allowance/update", params={"asset_type": "CONDITIONAL", "token_id": up, "signature_type": 3}
    )
    assert (await taker.get_balance_allowance(asset_type="CONDITIONAL", asset_id=up)).balance == 10_000_000
    assert (await taker.place_limit_order(asset_id=up, price="0.60", size=10, side="SELL")).ok


async def test_shares_need_an_allowance_of_their_own(start_paper: Any, connect: Any) -> None:
    """Who approved pUSD alone can buy and never sell (py-clob-client issue 265); both allowances are shown."""
    paper = start_paper(**EXCHANGE | {"approvals": "collateral"})
    account = Account.create()
    maker, taker = await connect(paper), await connect(paper, private_key=account.key.hex(), wallet=account.address)
    up, down = paper.market()["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    allowed = [
        set((await taker.get_balance_allowance(**kind)).allowances.values())
        for kind in ({"asset_type": "COLLATERAL"}, {"asset_type": "CONDITIONAL", "asset_id": up})
    ]
    assert allowed == [{(1 << 256) - 1}, {0}]
    signed = await taker.create_limit_order(asset_id=up, price="0.60", size=10, side="SELL")
    with pytest.raises(RequestRejectedError, match="the allowance is not enough -> spender: 0xE1"):
        await taker.post_order(signed)
    paper.approve(account.address)
    assert (await taker.post_order(signed)).ok


async def test_an_official_client_approves_through_the_relayer(start_paper: Any, connect: Any) -> None:
    """polymarket-client finds its deposit wallet without an allowance, approves, and sends the order again."""
    from polymarket.auth import RelayerApiKey

    from paper.engine.signing import deposit_wallets

    paper = start_paper(**EXCHANGE | {"approvals": "none"})
    account = Account.create()
    client = await connect(
        paper,
        private_key=account.key.hex(),
        wallet=deposit_wallets(account.address)[0],
        api_key=RelayerApiKey(key="any", address=account.address),
    )
    placed = await client.place_limit_order(asset_id=paper.market()["tokens"][0], price="0.10", size=10, side="BUY")
    assert placed.ok


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("context_canceled", 400, "context canceled"),
        ("not_found", 404, "order not found"),
        ("timed_out", 500, "order timed out"),
        ("origin_error", 520, "520"),
    ],
)
@pytest.mark.parametrize("applied", [True, False])
async def test_an_answer_may_hide_what_happened(
    quiet: Any, connect: Any, kind: str, status: int, text: str, applied: bool
) -> None:
    """The order is there or not, whatever the answer says: documented rewriting of statuses, timeouts, Cloudflare."""
    client = await connect(quiet)
    signed = await client.create_limit_order(asset_id=quiet.market()["tokens"][0], price="0.10", size=10, side="BUY")
    quiet.fault(kind=kind, path="/order", method="POST", applied=applied)
    with pytest.raises(Exception, match=text) as wrong:
        await client.post_order(signed)
    assert getattr(wrong.value, "status", status) == status
    listed = [one async for page in client.list_open_orders() for one in page.items]
    assert len(listed) == applied


async def test_a_refused_leg_of_a_batch_says_success(quiet: Any, connect: Any) -> None:
    """As recorded: success true, no order id, and the text of the refusal; the other leg rests."""
    client = await connect(quiet)
    token = quiet.market()["tokens"][0]
    good = await client.create_limit_order(asset_id=token, price="0.10", size=10, side="BUY")
    poor = await client.create_limit_order(asset_id=token, price="0.10", size=10, side="SELL")
    first, second = await client.post_orders([good, poor])
    assert isinstance(first, AcceptedOrder)
    assert isinstance(second, RejectedOrder)
    assert "not enough balance / allowance" in second.message


async def test_a_closed_venue_says_when_to_come_again(quiet: Any, connect: Any) -> None:
    """503 with Retry-After, in the documented words."""
    client = await connect(quiet)
    signed = await client.create_limit_order(asset_id=quiet.market()["tokens"][0], price="0.10", size=10, side="BUY")
    for kind, text in (
        ("disabled", "Trading is currently disabled. Check polymarket.com for updates"),
        ("cancel_only", "Trading is currently cancel-only"),
        ("post_only", "post-only mode"),
        ("unavailable", "Service Unavailable"),
    ):
        quiet.fault(kind=kind, path="/order")
        with pytest.raises(RequestRejectedError, match=text) as refused:
            await client.post_order(signed)
        assert (refused.value.status, refused.value.retry_after is not None) == (503, True)
        quiet.clear_faults()


async def test_a_share_of_settlements_fails(start_paper: Any, connect: Any) -> None:
    """With --failed-trades a match may come to nothing without any fault that was armed."""
    paper = start_paper(**EXCHANGE | {"failed_trades": 1})
    maker, taker = await connect(paper), await connect(paper)
    up, down = paper.market()["tokens"]
    socket = await _follow(paper, taker)
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    await taker.place_limit_order(asset_id=up, price="0.50", size=10, side="BUY")
    heard = [(await _event(socket, "trade"))["status"] for _ in range(3)]
    assert heard == ["MATCHED", "RETRYING", "FAILED"]
    await socket.close()
