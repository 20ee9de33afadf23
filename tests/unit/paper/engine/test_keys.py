"""Signatures and authentication: what is true passes, whatever is changed fails."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from polymarket._internal.actions.orders.typed_data import build_order_signature, build_order_typed_data
from polymarket._internal.actions.orders.types import BYTES32_ZERO, UnsignedOrder
from polymarket._internal.environment import PRODUCTION_CONFIG
from polymarket._internal.l1_auth import sign_api_key_auth
from polymarket._internal.wallet import derive_beacon_deposit_wallet_address, derive_uups_deposit_wallet_address
from polymarket.models.types import TokenId
from polymarket.types import EvmAddress, HexString

from paper.engine.keys import ApiKey, Keys
from paper.engine.record import Record
from paper.engine.signing import SignedOrder, deposit_wallets, order_id, order_signer
from paper.errors import RefusedError

NOW_S = 1_795_000_000
OWNER = Account.from_key("0x" + "11" * 32)


@given(key=st.integers(1, 2**200))
def test_deposit_wallets_are_the_clients(key: int) -> None:
    """Both kinds of deposit wallet come out as polymarket-client derives them."""
    owner = Account.from_key(key.to_bytes(32, "big")).address
    config = PRODUCTION_CONFIG.wallet_derivation
    expected = derive_beacon_deposit_wallet_address(owner, config), derive_uups_deposit_wallet_address(owner, config)
    assert deposit_wallets(owner) == expected


def test_order_id_follows_from_the_signed_fields() -> None:
    """The id follows from the eleven fields alone: neither signature nor anything else enters."""
    order = SignedOrder(1, OWNER.address, OWNER.address, 2, 3, 4, True, 0, 5, bytes(32), bytes(32), b"")
    assert order_id(order) == order_id(dataclasses.replace(order, signature=b"x"))
    others = [
        dataclasses.replace(order, salt=9),
        dataclasses.replace(order, token_id=9),
        dataclasses.replace(order, maker_amount=9),
        dataclasses.replace(order, timestamp=9),
    ]
    ids = {order_id(other) for other in others}
    assert len(ids | {order_id(order)}) == 5


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_deposit_wallet_signature_needs_its_whole_trailer(protocol: Any) -> None:
    """A type 3 signature passes as the client makes it, and not with any byte of its ERC-7739 trailer changed or lost.

    Position ids, whose reserved bits are zero, are signed for another contract, version 3 (polymarket-client 0.14).
    """
    token = 1 << 254 | (1 << 50 if protocol == "2" else 0)
    contract = PRODUCTION_CONFIG.standard_exchange if protocol == "2" else PRODUCTION_CONFIG.exchange_v3
    wallet = deposit_wallets(OWNER.address)[0]
    unsigned = UnsignedOrder(
        builder=BYTES32_ZERO,
        chain_id=137,
        exchange_address=EvmAddress(contract),
        expiration=0,
        maker=EvmAddress(wallet),
        maker_amount=3,
        metadata=BYTES32_ZERO,
        order_type="GTC",
        salt=1,
        side="BUY",
        signature_type=3,
        signer=EvmAddress(wallet),
        taker_amount=4,
        timestamp=5,
        token_id=TokenId(str(token)),
        protocol_version=protocol,
    )
    raw = OWNER.sign_typed_data(full_message=build_order_typed_data(unsigned)).signature.hex()
    signature = bytes.fromhex(build_order_signature(unsigned, HexString("0x" + raw.removeprefix("0x")))[2:])
    order = SignedOrder(1, wallet, wallet, token, 3, 4, False, 3, 5, bytes(32), bytes(32), signature)
    assert order_signer(order) == OWNER.address
    for place in (65, 100, 150, len(signature) - 1):
        changed = bytearray(signature)
        changed[place] ^= 1
        assert order_signer(dataclasses.replace(order, signature=bytes(changed))) is None
    assert order_signer(dataclasses.replace(order, signature=signature[:65])) is None


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=0, max_size=500))
def test_garbage_is_no_signature(data: bytes) -> None:
    """Arbitrary bytes never pass as this owner's signature, of either type, and never raise."""
    for kind in (0, 3):
        order = SignedOrder(1, OWNER.address, OWNER.address, 2, 3, 4, False, kind, 5, bytes(32), bytes(32), data)
        assert order_signer(order) != OWNER.address


@pytest.fixture
def keys(tmp_path: Path) -> Any:
    record = Record(tmp_path)
    yield Keys(record, lambda: NOW_S * 1000)
    record.close()


def _level1(nonce: int = 0, at: int = NOW_S) -> dict[str, str]:
    signed = sign_api_key_auth(OWNER, chain_id=137, timestamp=at, nonce=nonce)
    return {
        "POLY_ADDRESS": OWNER.address,
        "POLY_NONCE": str(nonce),
        "POLY_SIGNATURE": signed.signature,
        "POLY_TIMESTAMP": str(at),
    }


def _level2(key: ApiKey, body: bytes = b"{}", at: int = NOW_S) -> dict[str, str]:
    digest = hmac.new(base64.urlsafe_b64decode(key.secret), f"{at}POST/order".encode() + body, hashlib.sha256).digest()
    return {
        "POLY_ADDRESS": key.address,
        "POLY_API_KEY": key.key,
        "POLY_PASSPHRASE": key.passphrase,
        "POLY_SIGNATURE": base64.urlsafe_b64encode(digest).decode(),
        "POLY_TIMESTAMP": str(at),
    }


def test_key_is_created_once_and_derived_again(keys: Keys) -> None:
    """A nonce's key is made once; deriving gives the same; a new nonce ends it."""
    first = keys.create(_level1())
    assert keys.derive(_level1()) == first
    with pytest.raises(RefusedError, match="Could not create api key"):
        keys.create(_level1())
    second = keys.create(_level1(nonce=1))
    assert keys.active(OWNER.address) == [second.key]
    with pytest.raises(RefusedError, match="Could not derive"):
        keys.derive(_level1())


@pytest.mark.parametrize(
    "change",
    [
        {"POLY_NONCE": "1"},
        {"POLY_TIMESTAMP": str(NOW_S + 1)},
        {"POLY_ADDRESS": "0x" + "22" * 20},
        {"POLY_SIGNATURE": "0x00"},
    ],
)
def test_changed_level1_is_refused(keys: Keys, change: dict[str, str]) -> None:
    """A changed header breaks the signature."""
    with pytest.raises(RefusedError, match="Invalid L1"):
        keys.create(_level1() | change)


def test_stale_timestamps_are_refused(keys: Keys) -> None:
    """Both levels refuse timestamps more than 300 s off."""
    key = keys.create(_level1())
    assert keys.check(_level2(key, at=NOW_S - 300), "POST", "/order", b"{}") == key
    for headers in (_level2(key, at=NOW_S - 301), _level2(key, at=NOW_S + 301)):
        with pytest.raises(RefusedError, match="Invalid api key"):
            keys.check(headers, "POST", "/order", b"{}")
    with pytest.raises(RefusedError, match="Invalid L1"):
        keys.derive(_level1(at=NOW_S - 301))


@pytest.mark.parametrize(
    ("method", "path", "body", "change"),
    [
        ("GET", "/order", b"{}", {}),
        ("POST", "/orders", b"{}", {}),
        ("POST", "/order", b"{} ", {}),
        ("POST", "/order", b"{}", {"POLY_PASSPHRASE": "x"}),
        ("POST", "/order", b"{}", {"POLY_API_KEY": "x"}),
        ("POST", "/order", b"{}", {"POLY_ADDRESS": "0x" + "22" * 20}),
    ],
)
def test_level2_covers_method_path_body_and_key(
    keys: Keys, method: str, path: str, body: bytes, change: dict[str, str]
) -> None:
    """The HMAC holds for exactly one method, path and body, and with exactly these credentials."""
    key = keys.create(_level1())
    with pytest.raises(RefusedError) as refused:
        keys.check(_level2(key) | change, method, path, body)
    assert refused.value.status == 401
