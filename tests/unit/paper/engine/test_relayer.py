"""Batches for the relayer, as polymarket-client signs them for each kind of wallet."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from polymarket._internal.actions.relayer import gasless
from polymarket._internal.actions.relayer.calls import TransactionCall, encode_proxy_call
from polymarket._internal.actions.relayer.signing.deposit_wallet import sign_deposit_wallet_batch
from polymarket._internal.actions.relayer.signing.proxy import build_proxy_transaction_hash, sign_proxy_message
from polymarket._internal.actions.relayer.signing.safe import sign_safe_transaction

from paper.engine.relayer import Batch, Call, read_batch
from paper.engine.signing import PROXY_FACTORY, checksum, deposit_wallets, proxy_wallet, safe_wallet
from paper.errors import RefusedError

OWNER = Account.from_key("0x" + "11" * 32)
TARGET, RELAY, HUB = (checksum("0x" + digit * 40) for digit in "abc")
ONE: Any = TransactionCall(to=TARGET, data="0x01020304" + "ff" * 37)  # type: ignore[arg-type]  # strings by another name
TWO: Any = TransactionCall(to=RELAY, data="0x", value=7)  # type: ignore[arg-type]  # the same


def _wallet() -> Any:
    wallet: Any = deposit_wallets(OWNER.address)[0]
    signature = sign_deposit_wallet_batch(
        OWNER, wallet=wallet, calls=[ONE, TWO], nonce="3", deadline="1800000000", chain_id=137
    )
    return gasless.build_deposit_wallet_payload(
        signer_address=OWNER.address,
        deposit_wallet_factory=TARGET,
        wallet=wallet,
        calls=[ONE, TWO],
        nonce="3",
        deadline="1800000000",
        signature=signature,
        metadata="",
    )


def _safe() -> Any:
    wallet: Any = safe_wallet(OWNER.address)
    call: Any = {"data": ONE.data, "value": 0, "operation": 0, "nonce": "3"}
    signature = sign_safe_transaction(OWNER, safe_address=wallet, to=ONE.to, chain_id=137, **call)
    return gasless.build_safe_payload(
        signer_address=OWNER.address, wallet=wallet, target=ONE.to, signature=signature, metadata="", **call
    )


def _proxy() -> Any:
    data = encode_proxy_call([ONE, TWO])
    wallet: Any = proxy_wallet(OWNER.address)
    factory: Any = PROXY_FACTORY
    fees: Any = {"relayer_fee": "0", "gas_price": "0", "relay_hub": HUB, "relay": RELAY}
    digest = build_proxy_transaction_hash(
        from_address=OWNER.address, to=factory, data=data, gas_limit="200000", nonce="3", **fees
    )
    return gasless.build_proxy_payload(
        signer_address=OWNER.address,
        proxy_factory=factory,
        wallet=wallet,
        data=data,
        nonce="3",
        signature=sign_proxy_message(OWNER, digest),
        gas_limit="200000",
        relay=fees["relay"],
        relay_hub=HUB,
        metadata="",
    )


CALLS = (Call(TARGET, 0, bytes.fromhex("01020304" + "ff" * 37)), Call(RELAY, 7, b""))
KINDS = {
    "WALLET": (_wallet, Batch(deposit_wallets(OWNER.address)[0], 3, 1_800_000_000, CALLS)),
    "SAFE": (_safe, Batch(safe_wallet(OWNER.address), 3, None, CALLS[:1])),
    "PROXY": (_proxy, Batch(proxy_wallet(OWNER.address), 3, None, CALLS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_as_it_was_signed(kind: str) -> None:
    """The wallet, the nonce, the deadline and the calls of a batch are those that the client signed."""
    build, expected = KINDS[kind]
    assert read_batch(build()) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["nonce", "from", "to", "data", "proxyWallet", "depositWallet", "target", "gasLimit"])
def test_nothing_that_is_signed_can_be_changed(kind: str, name: str) -> None:
    """A batch of which any signed part was changed afterwards is refused."""
    payload = dict(KINDS[kind][0]())
    params = payload.get("depositWalletParams") or payload["signatureParams"]
    inner = params["calls"][0] if "calls" in params else {}
    holder = next((one for one in (inner, params, payload) if name in one), None)
    if holder is None or (kind == "WALLET" and name == "to"):
        return  # this kind has no such part, or does not sign it
    changed = {"nonce": "4", "gasLimit": "1", "data": holder[name] + "00" if name == "data" else ""}
    holder[name] = changed.get(name, HUB)
    with pytest.raises(RefusedError) as refused:
        read_batch(payload)
    assert refused.value.status == 400


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rubbish", [None, float("inf"), -1, 1 << 70, "٣", "0x", [], {}, "x" * 200])
def test_rubbish_in_any_part_is_refused(kind: str, rubbish: object) -> None:
    """Whatever stands in a part of a batch, the answer is a refusal."""
    build = KINDS[kind][0]
    for name in build():
        if name not in ("metadata",) and not (kind == "WALLET" and name == "to"):
            with pytest.raises(RefusedError):
                read_batch(dict(build()) | {name: rubbish})
    with pytest.raises(RefusedError):
        read_batch(rubbish)
