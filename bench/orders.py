"""Requests to a paper exchange, signed beforehand as raw HTTP, so that a load test measures the exchange and not itself."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data

from paper.engine.signing import SignedOrder, order_digest, order_id
from paper.evm import checksum, keccak

__all__ = ["Key", "Pair", "http_bytes", "key_request", "order_pair"]

_PRICE = 20_000  # 0.02: rests far below the market maker's quotes
_SIZE = 50_000_000


@dataclass(frozen=True, slots=True)
class Key:
    """One account: its private key, its address, and its API credentials."""

    private: PrivateKey
    address: str
    api_key: str
    secret: bytes
    passphrase: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One order's two requests: the one that places it and the one that cancels it."""

    order_id: str
    place: bytes
    cancel: bytes


def address_of(private: PrivateKey) -> str:
    """Return the address of a private key."""
    return checksum(keccak(private.public_key.format(compressed=False)[1:])[12:])


def http_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: paper", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def key_request(private: PrivateKey) -> bytes:
    """Return the request that makes an account's API key (level 1: a signed ``ClobAuth``)."""
    address, stamp = address_of(private), str(int(time.time()))
    domain = {"name": "ClobAuthDomain", "version": "1", "chainId": 137}
    names = {"address": "address", "timestamp": "string", "nonce": "uint256", "message": "string"}
    types = {"ClobAuth": [{"name": name, "type": kind} for name, kind in names.items()]}
    message = "This message attests that I control the given wallet"
    fields = {"address": address, "timestamp": stamp, "nonce": 0, "message": message}
    signed = Account.sign_message(encode_typed_data(domain, types, fields), private.secret)
    headers = {
        "POLY_ADDRESS": address,
        "POLY_SIGNATURE": "0x" + signed.signature.hex().removeprefix("0x"),
        "POLY_TIMESTAMP": stamp,
        "POLY_NONCE": "0",
    }
    return http_bytes("POST", "/auth/api-key", headers)


def order_pair(key: Key, token_id: str, salt: int) -> Pair:
    """Return the requests of one resting BUY of type 0; their timestamps hold for five minutes from now."""
    unsigned = SignedOrder(
        salt=salt,
        maker=key.address,
        signer=key.address,
        token_id=int(token_id),
        maker_amount=_SIZE * _PRICE // 1_000_000,
        taker_amount=_SIZE,
        is_sell=False,
        signature_type=0,
        timestamp=time.time_ns() // 1_000_000,
        metadata=bytes(32),
        builder=bytes(32),
        signature=b"",
    )
    raw = key.private.sign_recoverable(order_digest(unsigned), hasher=None)
    signed = dataclasses.replace(unsigned, signature=raw[:64] + bytes([raw[64] + 27]))
    order = {
        "salt": signed.salt,
        "maker": signed.maker,
        "signer": signed.signer,
        "tokenId": token_id,
        "makerAmount": str(signed.maker_amount),
        "takerAmount": str(signed.taker_amount),
        "side": "BUY",
        "signatureType": 0,
        "timestamp": str(signed.timestamp),
        "metadata": "0x" + signed.metadata.hex(),
        "builder": "0x" + signed.builder.hex(),
        "signature": "0x" + signed.signature.hex(),
        "expiration": "0",
    }
    oid = order_id(signed)
    body = {"order": order, "owner": key.api_key, "orderType": "GTC", "postOnly": False, "deferExec": False}
    return Pair(oid, _level2(key, "POST", body), _level2(key, "DELETE", {"orderID": oid}))


def _level2(key: Key, method: str, content: dict[str, object]) -> bytes:
    stamp, body = str(int(time.time())), json.dumps(content, separators=(",", ":")).encode()
    digest = hmac.new(key.secret, f"{stamp}{method}/order".encode() + body, hashlib.sha256).digest()
    headers = {
        "POLY_ADDRESS": key.address,
        "POLY_API_KEY": key.api_key,
        "POLY_PASSPHRASE": key.passphrase,
        "POLY_SIGNATURE": base64.urlsafe_b64encode(digest).decode(),
        "POLY_TIMESTAMP": stamp,
    }
    return http_bytes(method, "/order", headers, body)
