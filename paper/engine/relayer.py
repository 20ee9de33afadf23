"""The venue's relayer, as far as it runs without a chain: redemption from a wallet that is a contract (venue.md 2.2).

A wallet's owner signs a batch of contract calls with a nonce (``paper.engine.relayer``); the relayer executes it. Here two kinds
of call have an effect: ``redeemPositions`` of the collateral adapter, and what lets the exchange take pUSD and shares.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from paper.engine.funds import Accounts, Funds
from paper.engine.journal import Journal
from paper.engine.markets import Market, Markets
from paper.engine.matching import Engine
from paper.engine.record import Record, Value
from paper.engine.signing import CHAIN_ID, EXCHANGE, PROXY_FACTORY, checksum, digest_signer, is_address, wallets, words
from paper.errors import RefusedError

# What the relayer is asked to execute: calls of contracts, signed by the owner of a wallet. Pure.
#
# Each kind of wallet is asked in a form of its own, as polymarket-client 0.14.0 signs them:
#
#     WALLET  a deposit wallet: EIP-712 ``Batch`` of several calls, with a deadline
#     SAFE    a Safe: EIP-712 ``SafeTx`` of one call, its digest signed as a message
#     PROXY   a proxy wallet: calls packed for the proxy factory, a hash of all signed as a message


_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_WALLET_DOMAIN = keccak(b"DepositWallet"), keccak(b"1")
_CALL = b"Call(address target,uint256 value,bytes data)"
_BATCH_TYPE = keccak(b"Batch(address wallet,uint256 nonce,uint256 deadline,Call[] calls)" + _CALL)
_CALL_TYPE = keccak(_CALL)
_SAFE_DOMAIN_TYPE = keccak(b"EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TYPE = keccak(
    b"SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,uint256 gasPrice,"
    b"address gasToken,address refundReceiver,uint256 nonce)"
)
_PROXY = keccak(b"proxy((uint8,address,uint256,bytes)[])")[:4]
_MESSAGE = b"\x19Ethereum Signed Message:\n32"
_SAFE_MARK = 4  # a Safe's way to say that a message was signed
_SIGNATURE_TYPES = {"PROXY": 1, "SAFE": 2, "WALLET": 3}
_MAX_CALLS = 20
_MAX_NUMBER = 1 << 64
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a contract: its address (checksum form), base units of the chain's coin, and the call itself."""

    target: str
    value: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that the owner of ``wallet`` signed; ``deadline`` is in unix seconds, or None where the form has none."""

    wallet: str
    nonce: int
    deadline: int | None
    calls: tuple[Call, ...]


def read_batch(payload: Any) -> Batch:
    """Read the body of ``POST /submit`` and verify that the wallet's owner signed it.

    Raises:
        RefusedError: 400, it is malformed, of another kind, or not signed by the owner of the wallet.
    """
    kind = payload.get("type") if isinstance(payload, dict) else None
    if not isinstance(kind, str) or kind not in _SIGNATURE_TYPES:
        raise RefusedError(400, f"expected a transaction of type {', '.join(_SIGNATURE_TYPES)}")
    try:
        owner, nonce = _address(payload["from"]), _number(payload["nonce"])
        signature = _bytes(payload["signature"])
        if kind == "WALLET":
            batch, digest = _read_wallet(payload, nonce)
        elif kind == "SAFE":
            batch, digest = _read_safe(payload, nonce)
            signature = signature[:64] + bytes((signature[64] - _SAFE_MARK,))
        else:
            batch, digest = _read_proxy(payload, nonce, owner)
    except (LookupError, TypeError, ValueError) as error:
        raise RefusedError(400, "invalid transaction") from error
    if batch.wallet not in wallets(owner, _SIGNATURE_TYPES[kind]) or digest_signer(digest, signature) != owner:
        raise RefusedError(400, "invalid signature")
    return batch


def _read_wallet(payload: dict[str, Any], nonce: int) -> tuple[Batch, bytes]:
    params = payload["depositWalletParams"]
    if not isinstance(params["calls"], list) or len(params["calls"]) > _MAX_CALLS:
        raise ValueError(f"expected up to {_MAX_CALLS} calls")
    calls = tuple(
        Call(_address(call["target"]), _number(call["value"]), _bytes(call["data"])) for call in params["calls"]
    )
    batch = Batch(_address(params["depositWallet"]), nonce, _number(params["deadline"]), calls)
    hashes = (keccak(words(_CALL_TYPE, call.target, call.value, keccak(call.data))) for call in calls)
    struct = words(_BATCH_TYPE, batch.wallet, nonce, _number(params["deadline"]), keccak(b"".join(hashes)))
    domain = keccak(words(_DOMAIN_TYPE, *_WALLET_DOMAIN, CHAIN_ID, batch.wallet))
    return batch, keccak(b"\x19\x01" + domain + keccak(struct))


def _read_safe(payload: dict[str, Any], nonce: int) -> tuple[Batch, bytes]:
    params = payload["signatureParams"]
    wallet = _address(payload["proxyWallet"])
    call = Call(_address(payload["to"]), _number(payload.get("value", "0")), _bytes(payload["data"]))
    if _number(params["operation"]) != 0:
        raise ValueError("expected a call: paper delegates to no contract")
    gas = [_number(params[name]) for name in ("safeTxnGas", "baseGas", "gasPrice")]
    ends = [_address(params[name]) for name in ("gasToken", "refundReceiver")]
    struct = words(_SAFE_TYPE, call.target, call.value, keccak(call.data), 0, *gas, *ends, nonce)
    domain = keccak(words(_SAFE_DOMAIN_TYPE, CHAIN_ID, wallet))
    digest = keccak(b"\x19\x01" + domain + keccak(struct))
    return Batch(wallet, nonce, None, (call,)), keccak(_MESSAGE + digest)


def _read_proxy(payload: dict[str, Any], nonce: int, owner: str) -> tuple[Batch, bytes]:
    params, to, data = payload["signatureParams"], _address(payload["to"]), _bytes(payload["data"])
    if to != PROXY_FACTORY:
        raise ValueError("expected the proxy factory")
    ends = [_address(address) for address in (owner, to, params["relayHub"], params["relay"])]
    sender, receiver, hub, relay = (bytes.fromhex(address[2:]) for address in ends)
    numbers = words(*(_number(params[name]) for name in ("relayerFee", "gasPrice", "gasLimit")), nonce)
    packed = b"rlx:" + sender + receiver + data + numbers + hub + relay
    batch = Batch(_address(payload["proxyWallet"]), nonce, None, _proxy_calls(data))
    return batch, keccak(_MESSAGE + keccak(packed))


def _proxy_calls(data: bytes) -> tuple[Call, ...]:
    """The calls of ``proxy((uint8,address,uint256,bytes)[])``, decoded (ABI: offsets count from where a list begins)."""
    body = data[4:]
    start = _word(body, 0) + 32
    count = _word(body, start - 32)
    if data[:4] != _PROXY or not 0 < count <= _MAX_CALLS:
        raise ValueError(f"expected proxy() of up to {_MAX_CALLS} calls")
    calls = []
    for number in range(count):
        at = start + _word(body, start + 32 * number)
        inner = at + _word(body, at + 96)
        size = _word(body, inner)
        target = checksum(body[at + 44 : at + 64])
        calls.append(Call(target, _word(body, at + 64), body[inner + 32 : inner + 32 + size]))
    return tuple(calls)


def _word(data: bytes, at: int) -> int:
    number = int.from_bytes(data[at : at + 32], "big")
    if len(data) < at + 32 or number >= _MAX_NUMBER:
        raise ValueError("a number is cut off or out of range")
    return number


def _number(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_NUMBER:
        raise ValueError("expected a whole number below 2^64")
    return value


def _address(value: object) -> str:
    if not isinstance(value, str) or not is_address(value):
        raise ValueError("expected an address")
    return checksum(value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("expected hex digits")
    return bytes.fromhex(value.removeprefix("0x"))


# The venue's relayer, as far as it runs without a chain: redemption from a wallet that is a contract (venue.md 2.2).


_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
_COLLATERAL = bytes.fromhex("C011a7E12a19f7B1f670d46F03B03f3342E82DFB").rjust(32, b"\0")
_TOKEN, _SHARES = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB", "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
_APPROVE = keccak(b"approve(address,uint256)")[:4]
_APPROVE_ALL = keccak(b"setApprovalForAll(address,bool)")[:4]
_APPROVALS = {(_TOKEN, _APPROVE): "collateral", (_SHARES, _APPROVE_ALL): "shares"}
_REDEEM = keccak(b"redeemPositions(address,bytes32,bytes32,uint256[])")[:4]


class Relayer:
    """Takes signed batches, and says what became of them. Every batch is final at once."""

    def __init__(
        self,
        record: Record,
        engine: Engine,
        markets: Markets,
        accounts: Accounts,
        funds: Funds,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        self._record = record
        self._engine = engine
        self._markets = markets
        self._accounts = accounts
        self._funds = funds
        self._journal = journal
        self._clock = clock
        rows = record.query("SELECT wallet, COUNT(*) FROM transactions GROUP BY wallet")
        self._nonces = {str(wallet): count for wallet, count in rows if isinstance(count, int)}

    def nonce(self, owner: str, signature_type: int) -> int:
        """Return the nonce of the next batch of an owner's wallet of a type (1 to 3)."""
        return self._nonces.get(self._accounts.wallet_of(owner, signature_type, self._clock()), 0)

    def submit(self, payload: Any) -> dict[str, object]:
        """Execute a batch; return the relayer's answer.

        Raises:
            RefusedError: 400, the batch is malformed, of another kind, stale, out of turn, or not signed by the owner.
        """
        batch = read_batch(payload)
        expected = self._nonces.get(batch.wallet, 0)
        if batch.deadline is not None and batch.deadline * 1000 <= self._clock():
            raise RefusedError(400, "batch deadline has passed")
        if batch.nonce != expected:
            raise RefusedError(400, f"batch nonce {batch.nonce} does not match on-chain nonce {expected}")
        self._nonces[batch.wallet] = expected + 1
        state, error = "STATE_CONFIRMED", ""
        try:
            for effect in [self._effect(batch.wallet, call) for call in batch.calls]:  # all of them, or none
                effect()
        except RefusedError as refused:
            state, error = "STATE_FAILED", refused.text
        name = str(uuid.uuid4())
        tx_hash = "0x" + keccak(b"transaction:" + name.encode()).hex()
        row: dict[str, Value] = {
            "id": name,
            "wallet": batch.wallet,
            "time_ms": self._clock(),
            "state": state,
            "hash": tx_hash,
            "error": error,
        }
        self._record.insert("transactions", row)
        return {"transactionID": name, "transactionHash": tx_hash, "state": "STATE_NEW"}

    def transaction(self, name: str) -> dict[str, object] | None:
        """Return what became of a batch."""
        rows = self._record.query("SELECT state, hash, error FROM transactions WHERE id = ?", [name])
        if not rows:
            return None
        state, tx_hash, error = rows[0]
        return {"transaction_id": name, "state": state, "transaction_hash": tx_hash, "error_msg": error or None}

    def _effect(self, wallet: str, call: Call) -> Callable[[], None]:
        """What a call does.

        Raises:
            RefusedError: it would be reverted.
        """
        kind = _APPROVALS.get((call.target, call.data[:4]))
        if kind is not None:
            approved = any(call.data[36:68])
            if call.data[4:36] != bytes.fromhex(EXCHANGE[2:]).rjust(32, b"\0"):
                return lambda: None  # another contract's business
            return lambda: self._funds.approve(wallet, kind, approved=approved)
        market = self._redeemed(call)
        return lambda: self._redeem(wallet, market)

    def _redeem(self, wallet: str, market: Market) -> None:
        window, payouts = market.window, (market.payout(0), market.payout(1))
        paid = self._engine.redeem(wallet, window.token_ids, payouts, window.condition_id)
        self._journal.entries(paid, self._clock())
        self._funds.arrived(paid, self._clock())

    def _redeemed(self, call: Call) -> Market:
        """Return the resolved market that a call redeems.

        Raises:
            RefusedError: another call, or a market that is unknown or not resolved.
        """
        data = call.data
        collateral, parent, condition = data[4:36], data[36:68], data[68:100]
        if call.target != _ADAPTER or data[:4] != _REDEEM or collateral != _COLLATERAL or any(parent):
            raise RefusedError(
                400, "execution reverted: paper executes redeemPositions of the collateral adapter alone"
            )
        market = self._markets.of_condition("0x" + condition.hex(), self._clock())
        if market is None or market.winner is None:
            raise RefusedError(400, "execution reverted: result for condition not received yet")
        return market
