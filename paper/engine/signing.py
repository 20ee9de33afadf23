"""Orders as they are signed: EIP-712 hashes and signatures. Pure.

Sources: the struct and domain of venue.md 1.2; the order id is the digest of the eleven signed fields (venue.md 1.5).
Signature types 0 to 2 (the key's own address, proxy, Safe) are an ECDSA signature of that digest. Type 3 (POLY_1271,
deposit wallet) is the ERC-7739 nested form: the wallet's owner signs a ``TypedDataSign`` that contains the order, and the
signature carries a trailer of the domain separator, the order's struct hash, its type string and that string's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from coincurve import PublicKey

from paper.evm import checksum, keccak, words

__all__ = [
    "CHAIN_ID",
    "EXCHANGE",
    "SignedOrder",
    "auth_signer",
    "digest_signer",
    "order_digest",
    "order_id",
    "order_signer",
]

CHAIN_ID = 137
EXCHANGE = "0xE111180000d2663C0091e4f400237545B87B996B"

_ORDER_TYPE = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_NESTED_TYPE = (
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    + _ORDER_TYPE
)
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_ORDER_DOMAIN = keccak(
    words(keccak(_DOMAIN_TYPE), keccak(b"Polymarket CTF Exchange"), keccak(b"2"), CHAIN_ID, EXCHANGE)
)
_AUTH_DOMAIN = keccak(
    words(
        keccak(b"EIP712Domain(string name,string version,uint256 chainId)"),
        keccak(b"ClobAuthDomain"),
        keccak(b"1"),
        CHAIN_ID,
    )
)
_AUTH_TYPE_HASH = keccak(b"ClobAuth(address address,string timestamp,uint256 nonce,string message)")
_AUTH_MESSAGE_HASH = keccak(b"This message attests that I control the given wallet")
_ORDER_TYPE_HASH, _NESTED_TYPE_HASH = keccak(_ORDER_TYPE), keccak(_NESTED_TYPE)
_WALLET_DOMAIN = keccak(b"DepositWallet"), keccak(b"1")
_TRAILER_TAIL = _ORDER_TYPE + len(_ORDER_TYPE).to_bytes(2, "big")
_SIGNATURE_BYTES = 65


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """The eleven signed fields and the signature, as they came over the wire."""

    salt: int
    maker: str
    signer: str
    token_id: int
    maker_amount: int
    taker_amount: int
    is_sell: bool
    signature_type: int
    timestamp: int
    metadata: bytes
    builder: bytes
    signature: bytes


@lru_cache(maxsize=256)
def order_digest(order: SignedOrder) -> bytes:
    """Return the order's EIP-712 digest: 32 bytes that type 0 signs."""
    return _digest(_ORDER_DOMAIN, _struct_hash(order))


def order_id(order: SignedOrder) -> str:
    """Return the order's id: its EIP-712 digest, 0x and 64 hex digits."""
    return "0x" + order_digest(order).hex()


def order_signer(order: SignedOrder) -> str | None:
    """Return the address whose key signed the order, or None if the signature is no signature of this order.

    Whether that address may trade the maker's wallet is for the caller to check.
    """
    if order.signature_type != 3:
        return digest_signer(order_digest(order), order.signature)
    contents = _struct_hash(order)
    if order.signature[_SIGNATURE_BYTES:] != _ORDER_DOMAIN + contents + _TRAILER_TAIL:
        return None
    nested = keccak(words(_NESTED_TYPE_HASH, contents, *_WALLET_DOMAIN, CHAIN_ID, order.signer, bytes(32)))
    return digest_signer(_digest(_ORDER_DOMAIN, nested), order.signature[:_SIGNATURE_BYTES])


def auth_signer(address: str, timestamp: str, nonce: int, signature: bytes) -> str | None:
    """Return the address whose key signed the L1 authentication message (``ClobAuth``), or None."""
    struct = words(_AUTH_TYPE_HASH, address, keccak(timestamp.encode()), nonce, _AUTH_MESSAGE_HASH)
    return digest_signer(_digest(_AUTH_DOMAIN, keccak(struct)), signature)


@lru_cache(maxsize=256)
def _struct_hash(order: SignedOrder) -> bytes:
    fields = words(
        _ORDER_TYPE_HASH,
        order.salt,
        order.maker,
        order.signer,
        order.token_id,
        order.maker_amount,
        order.taker_amount,
        int(order.is_sell),
        order.signature_type,
        order.timestamp,
        order.metadata,
        order.builder,
    )
    return keccak(fields)


def _digest(domain: bytes, struct_hash: bytes) -> bytes:
    return keccak(b"\x19\x01" + domain + struct_hash)


def digest_signer(digest: bytes, signature: bytes) -> str | None:
    """Return the checksum address whose key signed a digest, or None if these bytes are no signature of 65 bytes."""
    if len(signature) != _SIGNATURE_BYTES or signature[64] not in (0, 1, 27, 28):
        return None
    recoverable = signature[:64] + bytes([signature[64] % 27])
    try:
        key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except ValueError:
        return None
    return _address(key.format(compressed=False))


@lru_cache(maxsize=4096)
def _address(public_key: bytes) -> str:
    return checksum(keccak(public_key[1:])[12:])
