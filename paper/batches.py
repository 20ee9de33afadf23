"""What the relayer is asked to execute: calls of contracts, signed by the owner of a wallet. Pure.

Each kind of wallet is asked in a form of its own, as polymarket-client 0.14.0 signs them:

    WALLET  a deposit wallet: EIP-712 ``Batch`` of several calls, with a deadline
    SAFE    a Safe: EIP-712 ``SafeTx`` of one call, its digest signed as a message
    PROXY   a proxy wallet: calls packed for the proxy factory, a hash of all signed as a message
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paper.engine.signing import CHAIN_ID, digest_signer
from paper.errors import RefusedError
from paper.evm import checksum, is_address, keccak, words
from paper.wallets import PROXY_FACTORY, wallets

__all__ = ["Batch", "Call", "read_batch"]

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
    calls = tuple(Call(_address(one["target"]), _number(one["value"]), _bytes(one["data"])) for one in params["calls"])
    batch = Batch(_address(params["depositWallet"]), nonce, _number(params["deadline"]), calls)
    hashes = (keccak(words(_CALL_TYPE, one.target, one.value, keccak(one.data))) for one in calls)
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
    ends = [_address(one) for one in (owner, to, params["relayHub"], params["relay"])]
    sender, receiver, hub, relay = (bytes.fromhex(one[2:]) for one in ends)
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
