"""The wallets that a key can trade: its own address, and contracts whose addresses follow from it (CREATE2). Pure.

The venue deploys them by factories; constants and code as polymarket-client 0.14.0 derives them.
"""

from __future__ import annotations

from functools import lru_cache

from paper.evm import checksum, keccak

__all__ = ["PROXY_FACTORY", "deposit_wallets", "proxy_wallet", "safe_wallet", "wallets"]

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
    found = []
    for head, target, tail in ((_BEACON_HEAD, _BEACON, _BEACON_TAIL), (_PLAIN_HEAD, _IMPLEMENTATION, _PLAIN_TAIL)):
        start = (head + (len(arguments) << 56)).to_bytes(10, "big")
        code_hash = keccak(start + target + bytes.fromhex(tail) + arguments)
        found.append(_create2(_FACTORY, keccak(arguments), code_hash))
    return found[0], found[1]


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
