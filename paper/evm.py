"""The little of Ethereum that orders need: keccak, checksum addresses, 32-byte words. Pure.

Written out rather than taken from eth-abi: every value here is one static word, and starting up and hashing are much faster.
"""

from __future__ import annotations

import re
from functools import lru_cache

from eth_hash.auto import keccak

__all__ = ["checksum", "is_address", "keccak", "words"]

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
