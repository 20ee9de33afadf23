"""Order id, signature and amounts are the client's own, and equal arguments give equal bytes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from decimal import Decimal

import pytest
import structlog
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data
from hypothesis import assume, given
from hypothesis import strategies as st
from polymarket._internal.actions.orders import orders as library_orders
from polymarket._internal.actions.orders.limit import _compute_limit_order_amounts
from polymarket._internal.actions.orders.market import _compute_market_order_amounts
from polymarket._internal.actions.orders.typed_data import build_order_signature, build_order_typed_data
from polymarket._internal.actions.orders.types import OrderDraft
from polymarket._internal.wallet import derive_beacon_deposit_wallet_address, wrap_deposit_wallet_signature
from polymarket.models.types import TokenId
from polymarket.types import EvmAddress, HexString
from py_clob_client_v2.order_utils.exchange_order_builder_v2 import ExchangeOrderBuilderV2
from py_clob_client_v2.order_utils.model.order_data_v2 import OrderV2
from py_clob_client_v2.order_utils.model.side import Side as V2Side
from py_clob_client_v2.order_utils.model.signature_type_v2 import SignatureTypeV2 as V2SignatureType

from bot.venue.decoding import TICKS
from bot.venue.polymarket import Credentials, Hosts, Owner, PolymarketVenue
from bot.venue.polymarket.client import CONFIG, identify
from bot.venue.polymarket.signing import order_amounts
from bot.venue.types import BASE_UNITS, Market, OrderRequest
from ledger.values import Side

KEY = "0x" + "42" * 32
SIGNER = EthAccount.from_key(KEY).address
DEPOSIT_WALLET = derive_beacon_deposit_wallet_address(SIGNER, CONFIG.wallet_derivation)
SESSION_WALLET = "0x00000000000000000000000000000000DeaDBeef"
UP = str(int("ab" * 32, 16))
DOWN = str(int("cd" * 32, 16))
MARKET = Market(
    slug="btc-updown-5m-1792638000",
    condition_id="0x" + "11" * 32,
    up_token=UP,
    down_token=DOWN,
    tick=Decimal("0.01"),
    min_size=5 * BASE_UNITS,
    fee_rate=Decimal("0.07"),
    fee_exponent=1,
    neg_risk=False,
    accepting=True,
    closed=False,
    strike=None,
    winner=None,
)


def make_venue(wallet: str | None = None, signature_type: int = 0) -> PolymarketVenue:
    return PolymarketVenue(
        hosts=Hosts("http://127.0.0.1:9", "http://127.0.0.1:9"),
        private_key=KEY,
        credentials=Credentials("owner-key", "c2VjcmV0", "pass"),
        log=structlog.get_logger(),
        owner=Owner(wallet, signature_type),
    )


def library_signature(venue: PolymarketVenue, draft: OrderDraft, salt: int, timestamp_ms: int) -> tuple[str, str]:
    """Maker address and signature that the client itself makes of these fields."""
    identity = venue._identity
    unsigned = library_orders.create_unsigned_order(draft, wallet=identity.wallet, wallet_type=identity.wallet_type)
    unsigned = dataclasses.replace(unsigned, salt=salt, timestamp=timestamp_ms)
    message = encode_typed_data(full_message=build_order_typed_data(unsigned))
    signature = "0x" + identity.signer.sign_message(message).signature.hex()
    return unsigned.maker, wrap_deposit_wallet_signature(
        signer=identity.signer.address,
        signer_type=identity.signer_type,
        signature=build_order_signature(unsigned, HexString(signature)),
    )


@pytest.mark.parametrize("neg_risk", [False, True])
@pytest.mark.parametrize(
    ("wallet", "signature_type"), [(None, 0), (DEPOSIT_WALLET, 3), (SESSION_WALLET, 3)], ids=["eoa", "owner", "session"]
)
def test_signature_equals_the_clients_own(wallet: str | None, signature_type: int, neg_risk: bool) -> None:
    """For the same fields our hand-encoded signature is the client's, byte for byte, for each type of wallet."""
    venue = make_venue(wallet, signature_type)
    market = dataclasses.replace(MARKET, neg_risk=neg_risk)
    request = OrderRequest(UP, Side.SELL, Decimal("0.53"), 12_340_000)
    signed = venue.sign(request, market, salt=2**53 - 1, timestamp_ms=1_792_638_123_456)
    order = json.loads(signed.body)["order"]

    draft = OrderDraft(
        chain_id=137,
        exchange_address=EvmAddress(CONFIG.neg_risk_exchange if neg_risk else CONFIG.standard_exchange),
        expiration=0,
        funder_address=EvmAddress(venue.wallet),
        offered_amount=int(order["makerAmount"]),
        order_type="FAK",
        side="SELL",
        signer=EvmAddress(SIGNER),
        requested_amount=int(order["takerAmount"]),
        asset_id=TokenId(UP),
    )
    maker, signature = library_signature(venue, draft, 2**53 - 1, 1_792_638_123_456)
    assert (order["maker"], order["signature"]) == (maker, signature)


@pytest.mark.parametrize(("wallet", "signature_type"), [(None, 0), (DEPOSIT_WALLET, 3)])
def test_order_id_is_the_plain_digest_of_the_order(wallet: str | None, signature_type: int) -> None:
    """The order id is the EIP-712 digest of the 11 fields under the exchange's domain, also for a deposit wallet."""
    venue = make_venue(wallet, signature_type)
    signed = venue.sign(OrderRequest(DOWN, Side.BUY, Decimal("0.4"), 10_000_000), MARKET, 7, 1_000)
    order = json.loads(signed.body)["order"]
    builder = ExchangeOrderBuilderV2(CONFIG.standard_exchange, 137, None)
    fields = OrderV2(
        **{key: order[key] for key in ("maker", "tokenId", "makerAmount", "takerAmount", "timestamp", "signer")},
        salt=str(order["salt"]),
        side=V2Side.BUY,
        signatureType=V2SignatureType(signature_type),
        metadata=order["metadata"],
        builder=order["builder"],
        expiration="0",
    )
    assert signed.order_id == builder.build_order_hash(builder.build_order_typed_data(fields))


def test_equal_arguments_give_equal_bytes() -> None:
    """Signing is a function of its arguments: what is built again after a crash is what was made durable."""
    request = OrderRequest(UP, Side.BUY, Decimal("0.61"), 25_000_000)
    first, second = (make_venue().sign(request, MARKET, 99, 1_792_638_000_000) for _ in range(2))
    assert first == second
    assert make_venue().sign(request, MARKET, 100, 1_792_638_000_000).order_id != first.order_id


def test_body_carries_what_the_venue_asks_for() -> None:
    """The body is compact JSON with owner, order type, postOnly, deferExec, and the salt as a number."""
    request = OrderRequest(UP, Side.BUY, Decimal("0.61"), 25_000_000)
    signed = make_venue().sign(request, MARKET, 5, 1_000)
    body = json.loads(signed.body)
    assert json.dumps(body, separators=(",", ":")) == signed.body
    assert {key: body[key] for key in ("owner", "orderType", "postOnly", "deferExec")} == {
        "owner": "owner-key",
        "orderType": "FAK",
        "postOnly": False,
        "deferExec": False,
    }
    assert body["order"]["salt"] == 5
    assert (signed.maker_amount, signed.taker_amount) == (15_250_000, 25_000_000)


ticks = st.sampled_from(sorted(TICKS))
sizes = st.integers(min_value=5 * BASE_UNITS, max_value=100_000 * BASE_UNITS)


@st.composite
def orders(draw: st.DrawFn, side: Side) -> tuple[OrderRequest, Decimal]:
    tick = draw(ticks)
    price = tick * draw(st.integers(1, int(1 / tick) - 1))
    return OrderRequest(UP, side, price, draw(sizes)), tick


@given(orders(Side.BUY))
def test_killed_buys_keep_the_venues_precision_and_their_bounds(case: tuple[OrderRequest, Decimal]) -> None:
    """A buy gives at most price * size with 2 decimals, asks for at most size with 4, at the price or a hair above."""
    request, tick = case
    assume(request.price * request.size >= BASE_UNITS)  # The venue takes no such order below 1 pUSD (venue.md 2.3).
    maker, taker = order_amounts(request, tick)
    assert maker % 10_000 == 0
    assert taker % 100 == 0
    assert 0 < maker <= request.price * request.size
    assert 0 < taker <= request.size
    assert request.price <= Decimal(maker) / taker < request.price + Decimal("0.0001")


@given(orders(Side.SELL), st.sampled_from([1, 500]))
def test_sells_keep_the_venues_precision_and_their_bounds(case: tuple[OrderRequest, Decimal], part: int) -> None:
    """A sell gives at most its size with 2 decimals and asks with at most 4, at the price or by less than 0.0001 in all below."""
    request, tick = case
    request = replace(request, size=request.size // part)
    assume(request.price * (request.size // 10_000 * 10_000) >= 100)
    maker, taker = order_amounts(request, tick)
    assert maker % 10_000 == 0
    assert taker % 100 == 0
    assert request.size - 10_000 < maker <= request.size
    assert 0 <= request.price * maker - taker < 100


@given(orders(Side.SELL).filter(lambda case: case[1] in (Decimal("0.01"), Decimal("0.1"))))
def test_sells_on_coarse_ticks_are_exact_and_equal_the_clients(case: tuple[OrderRequest, Decimal]) -> None:
    """Where the client's precision is the venue's (ticks of 0.01 and more), the amounts are the client's."""
    request, tick = case
    maker, taker = order_amounts(request, tick)
    size = Decimal(request.size) / BASE_UNITS
    expected = _compute_limit_order_amounts(price=request.price, size=size, side=request.side.value, tick_size=tick)
    assert (maker, taker) == expected


def test_a_sell_that_is_worth_nothing_is_not_signed() -> None:
    """Less than 0.0001 pUSD cannot be asked for: said, and never signed as a gift."""
    with pytest.raises(ValueError, match="worth less than"):
        order_amounts(OrderRequest(UP, Side.SELL, Decimal("0.0001"), 10_000), Decimal("0.0001"))


@given(orders(Side.BUY).filter(lambda case: case[1] in (Decimal("0.01"), Decimal("0.1"))))
def test_killed_buys_on_coarse_ticks_equal_the_clients(case: tuple[OrderRequest, Decimal]) -> None:
    """Where the client's precision is the venue's (ticks of 0.01 and more), the amounts are the client's."""
    request, tick = case
    assume(request.price * request.size >= BASE_UNITS)
    spend = request.price * (request.size // 10_000) / 100
    expected = _compute_market_order_amounts(amount=spend, price=request.price, side="BUY", tick_size=Decimal("0.01"))
    assert order_amounts(request, tick) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": Decimal("0.605")}, "not a multiple of the tick"),
        ({"price": Decimal("0.001")}, "outside"),
        ({"price": Decimal(1)}, "outside"),
        ({"price": Decimal("NaN")}, "outside"),
        ({"size": 9_999}, "less than 0.01 shares"),
        ({"token_id": "123"}, "does not belong"),
    ],
)
def test_what_breaks_a_rule_is_not_signed(change: dict[str, object], message: str) -> None:
    """A price off the tick, an outside price, a size of nothing or a foreign token raises with a sentence."""
    request = OrderRequest(UP, Side.BUY, Decimal("0.61"), 25_000_000)
    with pytest.raises(ValueError, match=message):
        make_venue().sign(dataclasses.replace(request, **change), MARKET, 1, 1)  # type: ignore[arg-type]  # Parametrised.


def test_salt_must_fit_a_json_number() -> None:
    """A salt of more than 53 bits is refused, since JSON readers would round it."""
    request = OrderRequest(UP, Side.BUY, Decimal("0.61"), 25_000_000)
    with pytest.raises(ValueError, match="53 bits"):
        make_venue().sign(request, MARKET, 2**53, 1)


@pytest.mark.parametrize(
    ("wallet", "signature_type", "message"),
    [
        (None, 3, "give its address"),
        (DEPOSIT_WALLET, 0, "has signature type 3, not 0"),
        ("0x12", 3, "is not an address"),
    ],
)
def test_a_wallet_of_another_type_is_refused_at_the_start(
    wallet: str | None, signature_type: int, message: str
) -> None:
    """A wallet that the key cannot trade with that signature type never gets as far as an order."""
    with pytest.raises(ValueError, match=message):
        make_venue(wallet, signature_type)


def test_unreadable_credentials_are_refused_at_the_start_without_being_shown() -> None:
    """A secret that is no base64 stops the start in words that say what to do, and not the first order."""
    with pytest.raises(ValueError, match="ns credentials") as caught:
        PolymarketVenue(
            hosts=Hosts("http://127.0.0.1:9", "http://127.0.0.1:9"),
            private_key=KEY,
            credentials=Credentials("owner-key", "abcde", "pass"),
            log=structlog.get_logger(),
        )
    assert caught.value.__cause__ is None
    assert "abcde" not in str(caught.value)


def test_an_unreadable_key_is_refused_without_being_shown() -> None:
    """The error of a broken key holds no part of the key, not even in its cause."""
    with pytest.raises(ValueError, match="32 bytes of hex") as caught:
        identify("0xsecretsecret", Credentials("k", "c", "p"), None, 0)
    assert caught.value.__cause__ is None
    assert "secret" not in str(caught.value)
    assert "secret-value" not in repr(Credentials("k", "secret-value", "secret-value"))
