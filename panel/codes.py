"""Codes that open the page once: what stands in a link instead of a token.

A link is kept where a token must not be: in a terminal's scrollback, a browser's history, a log. So it carries a code that is
worth a token once and for ten minutes. The file beside the tokens keeps the newest code's hash and end alone, mode 0600.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from bus import open_regular, write_atomically

LIFE_MS = 600_000
MOST_BYTES = 200
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,16})\n?")


def codes_file(token_file: Path) -> Path:
    """Where the newest code is remembered."""
    return token_file.with_name(f"{token_file.name}-code")


def make_code(file: Path, now_ms: int) -> str:
    """A fresh code; the one before is worth nothing any more. Raises OSError."""
    code = secrets.token_urlsafe(24)
    write_atomically(file, f"{_hash(code)} {now_ms + LIFE_MS}\n".encode(), durable=False, mode=0o600)
    return code


def spend_code(file: Path, given: str, now_ms: int) -> bool:
    """Whether it was the code, within its life and for the first time. Raises OSError."""
    try:
        descriptor = open_regular(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "rb") as opened:
        found = _LINE.fullmatch(opened.read(MOST_BYTES).decode("ascii", "replace"))
    # A clock that was set back makes no code live longer than its life.
    if found is None or not 0 <= int(found[2]) - now_ms <= LIFE_MS:
        return False
    if not hmac.compare_digest(found[1], _hash(given)):
        return False
    try:
        file.unlink()  # whoever removes it has spent it
    except FileNotFoundError:
        return False
    return True


def link_to(url: str, code: str) -> str:
    """The link that a person opens."""
    return f"{url.rstrip('/')}/#code={code}"


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()
