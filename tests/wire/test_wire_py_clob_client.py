"""py-clob-client-v2, unmodified but for its host, through a whole life."""

from __future__ import annotations

import time
from typing import Any

import pytest
from eth_account import Account
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    AssetType,
    BalanceAllowanceParams,
    BookParams,
    MarketOrderArgsV2,
    OpenOrderParams,
    OrderArgsV2,
    OrderPayload,
    OrderType,
    TradeParams,
)
from py_clob_client_v2.exceptions import PolyApiException
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2

from paper.engine.signing import EXCHANGE, deposit_wallets

LIMIT_S = 30


def _client(paper: Any, *, deposit_wallet: bool = False) -> ClobClient:
    account = Account.create()
    funder = deposit_wallets(account.address)[0] if deposit_wallet else None
    kind = 3 if deposit_wallet else 0
    client = ClobClient(paper.url, 137, key=account.key.hex(), signature_type=kind, funder=funder)
    client.set_api_creds(client.create_or_derive_api_key())
    return client


def _hash(client: ClobClient, order: Any) -> str:
    builder = ExchangeOrderBuilderV2(EXCHANGE, 137, client.signer)
    return str(builder.build_order_hash(builder.build_order_typed_data(order)))


@pytest.mark.parametrize("deposit_wallet", [False, True], ids=["type 0", "type 3"])
def test_whole_life(quiet: Any, deposit_wallet: bool) -> None:
    """Look up, sign, place under the client's own hash, find, partly fill, cancel, read trades and balances."""
    maker, taker = _client(quiet, deposit_wallet=deposit_wallet), _client(quiet, deposit_wallet=deposit_wallet)
    up, down = quiet.market("btc" if deposit_wallet else "eth")["tokens"]
    assert (taker.get_tick_size(up), taker.get_neg_risk(up), taker.get_version()) == ("0.01", False, 2)

    signed = maker.create_order(OrderArgsV2(token_id=down, price=0.45, size=30, side="BUY"))
    placed = maker.post_order(signed)
    assert (placed["success"], placed["status"], placed["orderID"]) == (True, "live", _hash(maker, signed))
    assert maker.get_order(placed["orderID"])["price"] == "0.45"
    book = taker.get_order_book(up)
    assert book["asks"][-1] == {"price": "0.55", "size": "30"}
    assert taker.get_order_book_hash(dict(book)) == book["hash"]
    assert taker.get_price(up, "SELL") == {"price": "0.55"}
    assert [found["asset_id"] for found in taker.get_order_books([BookParams(up), BookParams(down)])] == [up, down]

    bought = taker.create_and_post_market_order(
        MarketOrderArgsV2(token_id=up, amount=5.5, side="BUY", price=0.55, order_type=OrderType.FAK),
        order_type=OrderType.FAK,
    )
    assert (bought["status"], bought["makingAmount"], bought["takingAmount"]) == ("matched", "5.5", "10")
    assert len(bought["transactionsHashes"]) == 1  # the client waits for the settlement
    assert maker.get_order(placed["orderID"])["size_matched"] == "10"
    assert [order["id"] for order in maker.get_open_orders(OpenOrderParams(asset_id=down))] == [placed["orderID"]]
    assert maker.cancel_order(OrderPayload(orderID=placed["orderID"]))["canceled"] == [placed["orderID"]]
    assert maker.get_order(placed["orderID"]) is None

    trades = taker.get_trades(TradeParams(asset_id=up))
    assert [(one["taker_order_id"], one["size"], one["price"]) for one in trades] == [(bought["orderID"], "10", "0.55")]
    assert taker.get_trades(TradeParams(before=1)) == []
    shares = taker.get_balance_allowance(BalanceAllowanceParams(AssetType.CONDITIONAL, up))
    assert shares["balance"] == "10000000"


def test_errors_and_heartbeats(quiet: Any) -> None:
    """A repeat is refused with the venue's text; a stale heartbeat id with the id that is expected."""
    client = _client(quiet)
    signed = client.create_order(
        OrderArgsV2(token_id=quiet.market("sol")["tokens"][0], price=0.02, size=50, side="BUY")
    )
    assert client.post_order(signed)["success"]
    with pytest.raises(PolyApiException) as repeated:
        client.post_order(signed)
    assert (repeated.value.status_code, "Duplicated" in repeated.value.error_msg["error"]) == (400, True)
    following = client.post_heartbeat("")["heartbeat_id"]
    with pytest.raises(PolyApiException) as stale:
        client.post_heartbeat("stale")
    assert (stale.value.status_code, stale.value.error_msg["heartbeat_id"]) == (400, following)
    assert client.cancel_all()["canceled"] == [_hash(client, signed)]


def test_parameters_and_keys(quiet: Any) -> None:
    """A market's parameters are found by condition and by token; a key that was deleted is refused."""
    client, market = _client(quiet), quiet.market("bnb")
    info = client.get_clob_market_info(market["conditionId"])
    assert [one["t"] for one in info["t"]] == market["tokens"]
    assert (info["mos"], info["mts"], info["fd"], info["itode"]) == (5, 0.01, {"r": 0.07, "e": 1, "to": True}, False)
    assert client.get_fee_rate_bps(market["tokens"][0]) == 1000
    assert abs(client.get_server_time() - time.time()) < LIMIT_S
    assert client.get_api_keys() == {"apiKeys": [client.creds.api_key]}
    assert client.get_closed_only_mode() == {"closed_only": False}
    client.delete_api_key()
    with pytest.raises(PolyApiException) as refused:
        client.get_api_keys()
    assert refused.value.status_code == 401


def test_clob_lists_its_markets(quiet: Any) -> None:
    """The CLOB's four lists name the same markets, though one shares its path with Gamma's."""
    client, market = _client(quiet), quiet.market("xrp")
    for listed in (
        client.get_markets(),
        client.get_simplified_markets(),
        client.get_sampling_markets(),
        client.get_sampling_simplified_markets(),
    ):
        (found,) = [one for one in listed["data"] if one["condition_id"] == market["conditionId"]]
        assert [token["token_id"] for token in found["tokens"]] == market["tokens"]
        assert listed["next_cursor"] == "LTE="
