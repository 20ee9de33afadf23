"""polymarket-client, unmodified but for its host, through whole lives of orders."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import polymarket
import pytest
from eth_account import Account
from polymarket import PriceRequest
from polymarket.errors import RequestRejectedError
from polymarket.models.clob.order_response import AcceptedOrder
from polymarket.streams import MarketSpec

from paper.engine.offers import read_signed
from paper.engine.signing import deposit_wallets, order_id
from tests import patience

LIMIT_S = 30


def _accepted(answer: Any) -> AcceptedOrder:
    assert isinstance(answer, AcceptedOrder), answer
    return answer


def _id(signed: Any) -> str:
    """The id that the exchange must give a signed order, from the fields as the client sends them."""
    from polymarket._internal.actions.orders.post import build_post_order_request

    return order_id(read_signed(build_post_order_request(signed, owner_api_key="")[1]))


@pytest.mark.parametrize("deposit_wallet", [False, True], ids=["type 0", "type 3"])
async def test_order_id_is_the_clients_own_hash(quiet: Any, connect: Any, deposit_wallet: bool) -> None:
    """For an EOA and for a deposit wallet, the id that the exchange returns is the EIP-712 hash of the signed order."""
    account = Account.create()
    wallet = deposit_wallets(account.address)[0] if deposit_wallet else account.address
    client = await connect(quiet, private_key=account.key.hex(), wallet=wallet)
    token = quiet.market()["tokens"][0]
    signed = await client.create_limit_order(asset_id=token, price="0.02", size=50, side="BUY")
    domain = {
        "name": "Polymarket CTF Exchange",
        "version": "2",
        "chainId": 137,
        "verifyingContract": client._ctx.environment_config.standard_exchange,
    }
    from eth_account.messages import encode_typed_data
    from eth_utils.crypto import keccak
    from polymarket._internal.actions.orders.typed_data import _ORDER_FIELDS

    message = {
        "salt": signed.salt,
        "maker": signed.maker,
        "signer": signed.signer,
        "tokenId": int(signed.token_id),
        "makerAmount": signed.maker_amount,
        "takerAmount": signed.taker_amount,
        "side": 0,
        "signatureType": signed.signature_type,
        "timestamp": signed.timestamp,
        "metadata": signed.metadata,
        "builder": signed.builder,
    }
    encoded = encode_typed_data(domain, {"Order": _ORDER_FIELDS}, message)
    expected = "0x" + keccak(b"\x19" + encoded.version + encoded.header + encoded.body).hex()
    answer = _accepted(await client.post_order(signed))
    assert (answer.order_id, answer.status, signed.signature_type) == (expected, "live", 3 if deposit_wallet else 0)
    assert (await client.cancel_order(order_id=expected)).canceled == (expected,)


async def test_life_of_a_resting_order(quiet: Any, connect: Any) -> None:
    """A limit order rests, is found by id and in the list, and is gone from both after its cancel."""
    client = await connect(quiet)
    token = quiet.market()["tokens"][0]
    placed = _accepted(await client.place_limit_order(asset_id=token, price="0.10", size=20, side="BUY"))
    order = await client.get_order(order_id=placed.order_id)
    assert (order.price, order.original_size, order.status) == (Decimal("0.1"), Decimal(20), "LIVE")
    listed = [found.id async for page in client.list_open_orders() for found in page.items]
    assert listed == [placed.order_id]
    assert (await client.cancel_orders(order_ids=[placed.order_id])).canceled == (placed.order_id,)
    again = await client.cancel_order(order_id=placed.order_id)
    assert list(again.not_canceled) == [placed.order_id]
    assert [page.items async for page in client.list_open_orders()] == [()]
    with pytest.raises(polymarket.errors.UnexpectedResponseError):
        await client.get_order(order_id=placed.order_id)  # the venue answers null for a finished order


async def test_partial_fill_mints_a_set_and_charges_the_taker(quiet: Any, connect: Any, eventually: Any) -> None:
    """A BUY Up meets a smaller BUY Down: both get shares, the rest stays in the book, only the taker pays the fee."""
    maker, taker = await connect(quiet), await connect(quiet)
    up, down = quiet.market("eth")["tokens"]
    rested = _accepted(await maker.place_limit_order(asset_id=down, price="0.40", size=10, side="BUY"))
    crossed = _accepted(await taker.place_limit_order(asset_id=up, price="0.65", size=25, side="BUY"))
    assert (crossed.status, crossed.taking_amount, crossed.making_amount) == ("matched", Decimal(10), Decimal(6))
    left = await taker.get_order(order_id=crossed.order_id)
    assert (left.size_matched, left.associate_trades) == (Decimal(10), crossed.trade_ids)
    fee = Decimal("0.07") * 10 * Decimal("0.6") * Decimal("0.4")
    cash = await taker.get_balance_allowance(asset_type="COLLATERAL")
    assert cash.balance == 10_000_000_000 - 6_000_000 - int(fee * 1_000_000)
    assert (await maker.get_balance_allowance(asset_type="COLLATERAL")).balance == 10_000_000_000 - 4_000_000
    assert (await maker.get_balance_allowance(asset_type="CONDITIONAL", asset_id=down)).balance == 10_000_000
    mine = [trade async for page in maker.list_account_trades() for trade in page.items]
    assert [(one.trader_side, one.taker_order_id) for one in mine] == [("MAKER", crossed.order_id)]
    assert mine[0].maker_orders[0].order_id == rested.order_id
    assert await taker.wait_for_order_fill_settlement(crossed)


async def test_market_orders_fill_or_die(quiet: Any, connect: Any) -> None:
    """FAK takes what there is, FOK all or nothing; without a match both are refused in the venue's words."""
    maker, taker = await connect(quiet), await connect(quiet)
    up, down = quiet.market("sol")["tokens"]
    await maker.place_limit_order(asset_id=down, price="0.50", size=10, side="BUY")
    with pytest.raises(RequestRejectedError, match="FOK orders are fully filled or killed") as refused:
        await taker.place_market_order(asset_id=up, side="BUY", amount=50, max_price="0.50", order_type="FOK")
    assert refused.value.status == 400
    taken = _accepted(await taker.place_market_order(asset_id=up, side="BUY", amount=50, max_price="0.50"))
    assert taken.taking_amount == Decimal(10)
    with pytest.raises(RequestRejectedError, match="no orders found to match with FAK order"):
        await taker.place_market_order(asset_id=up, side="BUY", amount=50, max_price="0.50")
    await maker.place_limit_order(asset_id=up, price="0.45", size=10, side="BUY")
    sold = _accepted(await taker.place_market_order(asset_id=up, side="SELL", shares=10, min_price="0.45"))
    assert (sold.making_amount, sold.taking_amount) == (Decimal(10), Decimal("4.5"))


async def test_refusals_reach_the_client(quiet: Any, connect: Any) -> None:
    """Repeats, sizes, balances, crossing post-only orders and unknown tokens are refused with the venue's text."""
    client = await connect(quiet)
    up, down = quiet.market("xrp")["tokens"]
    signed = await client.create_limit_order(asset_id=up, price="0.30", size=10, side="BUY")
    _accepted(await client.post_order(signed))
    with pytest.raises(RequestRejectedError, match=r"order 0x\w{64} is invalid. Duplicated.$"):
        await client.post_order(signed)
    with pytest.raises(RequestRejectedError, match="lower than the minimum: 5"):
        await client.place_limit_order(asset_id=up, price="0.30", size=4, side="BUY")
    with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
        await client.place_limit_order(asset_id=up, price="0.50", size=30_000, side="BUY")
    with pytest.raises(RequestRejectedError, match="not enough balance / allowance"):
        await client.place_limit_order(asset_id=up, price="0.50", size=10, side="SELL")
    with pytest.raises(RequestRejectedError, match="order crosses book"):
        await client.place_limit_order(asset_id=down, price="0.80", size=10, side="BUY", post_only=True)
    await client.cancel_all()
    _accepted(await client.place_limit_order(asset_id=down, price="0.90", size=20, side="BUY"))
    with pytest.raises(RequestRejectedError, match="min size: \\$1"):
        await client.place_limit_order(asset_id=up, price="0.10", size=5, side="BUY")


async def test_batch_answers_each_order(quiet: Any, connect: Any) -> None:
    """A batch places the good orders and says what is wrong with the bad one."""
    client = await connect(quiet)
    token = quiet.market("doge")["tokens"][0]
    good = await client.create_limit_order(asset_id=token, price="0.20", size=10, side="BUY")
    bad = await client.create_limit_order(asset_id=token, price="0.20", size=1, side="BUY")
    answers = await client.post_orders([good, bad])
    assert [answer.ok for answer in answers] == [True, False]
    assert (await client.cancel_all()).canceled == (_id(good),)


async def test_gtd_order_is_accepted_with_its_expiry(quiet: Any, connect: Any) -> None:
    """A GTD order carries its expiration; the unsigned field does not change its id."""
    client = await connect(quiet)
    market = quiet.market("bnb")
    expires = int(time.time()) + 400
    signed = await client.create_limit_order(
        asset_id=market["tokens"][1], price="0.20", size=10, side="BUY", expiration=expires
    )
    placed = _accepted(await client.post_order(signed))
    order = await client.get_order(order_id=placed.order_id)
    assert (order.order_type, int(order.expires_at.timestamp())) == ("GTD", expires)
    assert (await client.cancel_market_orders(market=market["conditionId"])).canceled == (_id(signed),)


async def test_credentials_are_derived_and_a_new_key_ends_the_old(quiet: Any, connect: Any) -> None:
    """Creating a client twice gives the same credentials; a key of another nonce ends the first one."""
    key = Account.create().key.hex()
    first = await connect(quiet, private_key=key)
    second = await connect(quiet, private_key=key)
    assert first._ctx.credentials == second._ctx.credentials
    await connect(quiet, private_key=key, nonce=7)
    with pytest.raises(RequestRejectedError) as refused:
        await first.get_balance_allowance(asset_type="COLLATERAL")
    assert refused.value.status == 401


async def test_heartbeat_chain_and_dead_mans_switch(start_paper: Any, connect: Any, eventually: Any) -> None:
    """A stale heartbeat names the expected id; when heartbeats stop, all open orders of the key are cancelled."""
    paper = start_paper(house="off", heartbeat_timeout=1)
    client = await connect(paper)
    await client.place_limit_order(asset_id=paper.market()["tokens"][0], price="0.10", size=20, side="BUY")
    first = await client.send_order_heartbeat()
    second = await client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
    with pytest.raises(polymarket.errors.OrderHeartbeatMismatchError) as stale:
        await client.send_order_heartbeat(heartbeat_id=first.heartbeat_id)
    assert stale.value.heartbeat_id == second.heartbeat_id

    async def all_cancelled() -> bool:
        return bool(paper.get("/paper/record")["orders"][0]["status"] == "CANCELED")

    await eventually(all_cancelled)


async def test_window_resolves_and_pays(start_paper: Any, connect: Any, eventually: Any) -> None:
    """At a window's end the market closes, its winner is announced and shown everywhere, and each winning share pays ONE."""
    paper = start_paper(timeframes="5s", resolution_delay=0.1, resolution_spread=0, taker_delay=0)
    client = await connect(paper)
    slug = paper.window()
    market = await client.get_market(slug=slug)
    tokens = [market.outcomes.yes.token_id, market.outcomes.no.token_id]
    async with await client.subscribe(MarketSpec(token_ids=tokens, custom_feature_enabled=True)) as stream:
        bought = [
            _accepted(await client.place_market_order(asset_id=token, side="BUY", amount=10, max_price="0.90"))
            for token in tokens
        ]
        before = (await client.get_balance_allowance(asset_type="COLLATERAL")).balance
        async with patience.timeout(LIMIT_S):
            async for announced in stream:
                if announced.type == "market_resolved":
                    break
    event = await client.get_event(slug=slug)
    assert event.state.closed
    prices = event.metadata
    winner = 0 if prices["finalPrice"] >= prices["priceToBeat"] else 1
    assert announced.payload.winning_asset_id == tokens[winner]
    outcomes = event.markets[0].outcomes
    assert (outcomes.yes.price, outcomes.no.price) == ((1, 0) if winner == 0 else (0, 1))
    clob = paper.get(f"/markets/{market.condition_id}")
    assert [token["winner"] for token in clob["tokens"]] == [winner == 0, winner == 1]
    after = (await client.get_balance_allowance(asset_type="COLLATERAL")).balance
    assert after - before == int(bought[winner].taking_amount * 1_000_000)
    with pytest.raises(RequestRejectedError, match="market is closed"):
        await client.place_limit_order(asset_id=tokens[0], price="0.50", size=10, side="BUY")


async def test_markets_are_listed(quiet: Any, connect: Any) -> None:
    """Gamma's lists page through all markets, filter by slug and condition, and agree with the look-up by id."""
    client = await connect(quiet)
    market = quiet.market("btc")
    (found,) = (await client.list_markets(condition_ids=[market["conditionId"]]).first_page()).items
    assert (found.slug, found.condition_id) == (market["slug"], market["conditionId"])
    assert (await client.get_market(id=found.id)).slug == found.slug
    pages = [page.items async for page in client.list_markets(page_size=20, closed=False)]
    slugs = [one.slug for page in pages for one in page]
    assert len(slugs) == len(set(slugs)) > 20
    assert market["slug"] in slugs
    (event,) = (await client.list_events(slug=[market["slug"]]).first_page()).items
    assert event.markets[0].condition_id == market["conditionId"]


async def test_prices_agree_with_the_book(quiet: Any, connect: Any) -> None:
    """Best prices, midpoint, spread and last trade of both tokens are those of their one book, singly and in batches."""
    maker, taker = await connect(quiet), await connect(quiet)
    up, down = quiet.market("doge")["tokens"]
    assert await taker.get_last_trade_price(asset_id=up) is None
    await maker.place_limit_order(asset_id=up, price="0.41", size=30, side="BUY")
    await maker.place_limit_order(asset_id=down, price="0.55", size=30, side="BUY")
    await taker.place_market_order(asset_id=up, side="BUY", amount=4.5, max_price="0.45")
    assert await taker.get_midpoints(asset_ids=[up, down]) == {up: Decimal("0.43"), down: Decimal("0.57")}
    assert await taker.get_midpoint(asset_id=up) == Decimal("0.43")
    assert await taker.get_spreads(asset_ids=[up, down]) == {up: Decimal("0.04"), down: Decimal("0.04")}
    assert await taker.get_spread(asset_id=down) == Decimal("0.04")
    best = {"BUY": Decimal("0.55"), "SELL": Decimal("0.59")}
    asked = [PriceRequest(asset_id=down, side=side) for side in ("BUY", "SELL")]
    assert await taker.get_prices(requests=asked) == {down: best}
    assert await taker.get_price(asset_id=down, side="SELL") == best["SELL"]
    last = await taker.get_last_trade_prices(asset_ids=[up, down])
    assert [(one.price, one.side) for one in last] == [(Decimal("0.45"), "BUY"), (Decimal("0.55"), "SELL")]
    books = await taker.get_order_books(asset_ids=[up, down])
    assert [(book.bids[-1].price, book.asks[-1].price) for book in books] == [
        (Decimal("0.41"), Decimal("0.45")),
        (Decimal("0.55"), Decimal("0.59")),
    ]
