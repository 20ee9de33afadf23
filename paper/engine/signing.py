"""Orders as they are signed: EIP-712 hashes and signatures. Pure.

Sources: the struct and domain of venue.md 1.2; the order id is the digest of the eleven signed fields (venue.md 1.5).
Signature types 0 to 2 (the key's own address, proxy, Safe) are an ECDSA signature of that digest. Type 3 (POLY_1271,
deposit wallet) is the ERC-7739 nested form: the wallet's owner signs a ``TypedDataSign`` that contains the order, and the
signature carries a trailer of the domain separator, the order's struct hash, its type string and that string's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from coincurve import PublicKey
from eth_hash.auto import keccak

# The little of Ethereum that orders need: keccak, checksum addresses, 32-byte words. Pure.
#
# Written out rather than taken from eth-abi: every value here is one static word, and starting up and hashing are much faster.


_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def is_address(text: str) -> bool:
    """Whether a text is an address, in any case of letters."""
    return _ADDRESS.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def checksum(address: str | bytes) -> str:
    """Return an address (20 bytes, or 0x and 40 hex digits) in the mixed case of EIP-55."""
    digits = address.hex() if isinstance(address, bytes) else address[2:].lower()
    marks = keccak(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, marks, strict=False)
    )


def words(*values: bytes | int | str) -> bytes:
    """Return the ABI encoding of static values: 32 bytes each.

    Args:
        values: bytes32 as bytes, numbers as int (0 to 2^256 - 1), addresses as str.
    """
    return b"".join(map(_word, values))


def _word(value: bytes | int | str) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    assert len(value) == 32, f"a bytes32 has 32 bytes, found {len(value)}"
    return value


# Orders as they are signed: EIP-712 hashes and signatures. Pure.


CHAIN_ID = 137
EXCHANGE = "0xE111180000d2663C0091e4f400237545B87B996B"
EXCHANGE_V3 = "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"  # trades the position ids of protocol v2
_RESERVED = ((1 << 64) - 1) << 40  # bits of a token id that are zero in a position id

_ORDER_TYPE = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
_NESTED_TYPE = (
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    + _ORDER_TYPE
)
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_ORDER_DOMAIN, _ORDER_DOMAIN_V3 = (
    keccak(words(keccak(_DOMAIN_TYPE), keccak(b"Polymarket CTF Exchange"), keccak(version), CHAIN_ID, contract))
    for version, contract in ((b"2", EXCHANGE), (b"3", EXCHANGE_V3))
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
    return _digest(_domain(order), _struct_hash(order))


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
    if order.signature[_SIGNATURE_BYTES:] != _domain(order) + contents + _TRAILER_TAIL:
        return None
    nested = keccak(words(_NESTED_TYPE_HASH, contents, *_WALLET_DOMAIN, CHAIN_ID, order.signer, bytes(32)))
    return digest_signer(_digest(_domain(order), nested), order.signature[:_SIGNATURE_BYTES])


def auth_signer(address: str, timestamp: str, nonce: int, signature: bytes) -> str | None:
    """Return the address whose key signed the L1 authentication message (``ClobAuth``), or None."""
    struct = words(_AUTH_TYPE_HASH, address, keccak(timestamp.encode()), nonce, _AUTH_MESSAGE_HASH)
    return digest_signer(_digest(_AUTH_DOMAIN, keccak(struct)), signature)


def _domain(order: SignedOrder) -> bytes:
    """The domain of the contract that trades the order's token."""
    return _ORDER_DOMAIN if order.token_id & _RESERVED else _ORDER_DOMAIN_V3


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


# The wallets that a key can trade: its own address, and contracts whose addresses follow from it (CREATE2). Pure.
#
# The venue deploys them by factories; constants and code as polymarket-client 0.14.0 derives them.


# Type 1: a minimal proxy.
PROXY_FACTORY = "0xaB45c5A4B0c941a2F231C04C3f49182e1A254052"
_PROXY_CODE = bytes.fromhex(
    "3d3d606380380380913d393d73aB45c5A4B0c941a2F231C04C3f49182e1A2540525af4602a57600080fd5b602d8060366000396000f3"
    "363d3d373d3d3d363d7344e999d5c2F66Ef0861317f9A4805AC2e90aEB4f5af43d82803e903d91602b57fd5bf352e831dd"
    "00000000000000000000000000000000000000000000000000000000000000200000000000000000000000000000000000000000"
    "000000000000000000000000"
)
# Type 2: a Safe.
_SAFE_FACTORY = bytes.fromhex("aacFeEa03eb1561C4e67d661e40682Bd20E3541b")
_SAFE_CODE_HASH = bytes.fromhex("2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf")
# Type 3: a deposit wallet, an ERC-1967 proxy whose constructor arguments are the factory and the owner. There are two
# generations: one behind a beacon (current) and one with a fixed implementation.
_FACTORY = bytes.fromhex("00000000000Fb5C9ADea0298D729A0CB3823Cc07")
_IMPLEMENTATION = bytes.fromhex("58CA52ebe0DadfdF531Cde7062e76746de4Db1eB")
_BEACON = bytes.fromhex("7A18EDfe055488A3128f01F563e5B479D92ffc3a")
_PLAIN_HEAD, _PLAIN_TAIL = (
    0x61003D3D8160233D3973,
    "60095155f3363d3d373d3d363d7f360894a13ba1a3210667c828492db98dca3e2076"
    "cc3735a920a3ca505d382bbc545af43d6000803e6038573d6000fd5b3d6000f3",
)
_BEACON_HEAD, _BEACON_TAIL = (
    0x6100523D8160233D3973,
    "60195155f3363d3d373d3d363d602036600436635c60da"
    "1b60e01b36527fa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6c"
    "b3582b35133d50545afa5036515af43d6000803e604d573d6000fd5b3d6000f3",
)


@lru_cache(maxsize=1024)
def deposit_wallets(owner: str) -> tuple[str, str]:
    """Return the deposit wallets of an owner's address: the current kind, and the older one."""
    arguments = _FACTORY.rjust(32, b"\0") + bytes.fromhex(owner[2:]).rjust(32, b"\0")
    addresses = []
    for head, target, tail in ((_BEACON_HEAD, _BEACON, _BEACON_TAIL), (_PLAIN_HEAD, _IMPLEMENTATION, _PLAIN_TAIL)):
        start = (head + (len(arguments) << 56)).to_bytes(10, "big")
        code_hash = keccak(start + target + bytes.fromhex(tail) + arguments)
        addresses.append(_create2(_FACTORY, keccak(arguments), code_hash))
    return addresses[0], addresses[1]


@lru_cache(maxsize=1024)
def proxy_wallet(owner: str) -> str:
    """Return the proxy wallet of an owner's address."""
    return _create2(bytes.fromhex(PROXY_FACTORY[2:]), keccak(bytes.fromhex(owner[2:])), keccak(_PROXY_CODE))


@lru_cache(maxsize=1024)
def safe_wallet(owner: str) -> str:
    """Return the Safe of an owner's address."""
    return _create2(_SAFE_FACTORY, keccak(bytes.fromhex(owner[2:]).rjust(32, b"\0")), _SAFE_CODE_HASH)


def wallets(owner: str, signature_type: int) -> tuple[str, ...]:
    """Return the wallets that an address can trade with a signature type (0 to 3), the current one first."""
    if signature_type == 0:
        return (owner,)
    if signature_type == 1:
        return (proxy_wallet(owner),)
    return (safe_wallet(owner),) if signature_type == 2 else deposit_wallets(owner)


def _create2(factory: bytes, salt: bytes, code_hash: bytes) -> str:
    return checksum(keccak(b"\xff" + factory + salt + code_hash)[12:])
