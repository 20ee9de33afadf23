"""Secrets in text: every spelling of one that is known is starred, and what looks like one where it does not belong.

A library may print a key in capitals, without 0x, as a number, as bytes or in base 64.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from urllib.parse import quote, quote_plus

STARS = "***"
SHORTEST = 8
_HEX = re.compile(r"(?:0[xX])?([0-9a-fA-F]{16,})")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
# An address has 40 hex digits and a commit as well; a key, a passphrase or a token is longer. A phrase has 12 words or more.
_LOOKS_SECRET = re.compile(r"(?:0[xX])?[0-9a-fA-F]{41,}|[A-Za-z0-9_+=-]{43,}|\b[a-z]{3,8}(?: [a-z]{3,8}){11,}\b")
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class Secrets:
    """The secrets of one process."""

    def __init__(self) -> None:
        self._exact: tuple[str, ...] = ()
        self._digits: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """Star it from now on. Texts shorter than 8 characters are not secrets but words."""
        if len(secret) < SHORTEST:
            return
        # The longest first: another one may be a part of it.
        self._exact = tuple(sorted({*self._exact, *_spellings(secret)}, key=len, reverse=True))
        found = _HEX.fullmatch(secret)
        if found is not None:
            self._digits = tuple(sorted({*self._digits, found[1].lower()}, key=len, reverse=True))

    def star(self, text: str) -> str:
        """The text without them."""
        for secret in self._exact:
            if secret in text:
                text = text.replace(secret, STARS)
        if self._digits:
            lowered = text.lower()
            for digits in self._digits:
                if digits in lowered:
                    text = re.sub(f"(?:0x)?{digits}", STARS, text, flags=re.IGNORECASE)
        return text


def star_suspects(text: str) -> str:
    """The text without anything that looks like a key, a token, a phrase or a password in a URL.

    For what people typed somewhere: a key that was put where an address belongs must not end in an error.
    """
    return _USER.sub(STARS, _LOOKS_SECRET.sub(STARS, text))


def _spellings(secret: str) -> set[str]:
    as_bytes = secret.encode("utf-8", "replace")
    found = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {quote(as_bytes, safe=""), quote_plus(as_bytes), as_bytes.hex(), *_in_base64(as_bytes)}
    hexadecimal = _HEX.fullmatch(secret)
    if hexadecimal is not None:
        digits = hexadecimal[1]
        found.add(str(int(digits, 16)))
        if len(digits) % 2 == 0:
            found |= _of_bytes(bytes.fromhex(digits))
    elif _BASE64.fullmatch(secret):
        try:
            found |= _of_bytes(base64.b64decode(secret.replace("-", "+").replace("_", "/") + "=="))
        except (binascii.Error, ValueError):
            return {one for one in found if len(one) >= SHORTEST}
    return {one for one in found if len(one) >= SHORTEST}


def _of_bytes(raw: bytes) -> set[str]:
    shown = repr(raw)[2:-1]
    return {shown, json.dumps(shown)[1:-1], raw.hex(), str(list(raw))[1:-1], *_in_base64(raw)}


def _in_base64(raw: bytes) -> set[str]:
    plain, safe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    return {plain, safe, plain.rstrip("="), safe.rstrip("=")}
