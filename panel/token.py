"""The tokens that every request to the API needs: two files made at the first start, readable by their owner alone.

Each line of a file is one token, or a name and a token; the name says in the record who wrote. Whoever has one of the read
file may look, whoever has one of the token file may look and write.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from panel.errors import StartError

_LINE = re.compile(r"(?:([A-Za-z0-9_.-]{1,40}) )?([A-Za-z0-9_-]{32,200})")


class Scope(StrEnum):
    """What a token allows: looking; looking and writing."""

    READ = "read"
    CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. name: as the file has it, else the beginning of the token's hash, which says nothing about it."""

    value: str = field(repr=False)
    scope: Scope
    name: str


def load_tokens(path: Path, scope: Scope) -> tuple[tuple[Token, ...], bool]:
    """The tokens in `path`, and whether the file was made just now.

    Raises StartError: others may read it, a line is no token, it cannot be read.
    """
    try:
        made = not path.exists() and _make(path)
        found = path.stat()
        lines = [line.strip() for line in path.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"the token file {path} cannot be used ({error}); correct it or set PANEL_TOKEN_FILE"
        ) from error
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise StartError(
            f"the token file {path} must belong to this user and have mode 0600, found mode {found.st_mode & 0o777:04o}; "
            f"run chmod 600 {path}, or remove it and a new one is made"
        )
    matches = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    tokens = tuple(Token(m[2], scope, m[1] or token_id(m[2])) for m in matches if m)
    if not tokens or len(tokens) < len(matches):
        raise StartError(
            f"expected in {path} on each line one token of 32 to 200 letters, digits, - and _, a name and a blank before it "
            "if you like; remove the file and a new one is made"
        )
    return tokens, made


def find_token(tokens: Sequence[Token], given: str) -> Token | None:
    """The token that was given, compared in a time that says nothing about how much of it was right."""
    found = None
    for token in tokens:
        if hmac.compare_digest(given.encode(), token.value.encode()):
            found = token
    return found


def token_id(token: str) -> str:
    """A short name of the token for records; says nothing about the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:6]


def _make(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        # A link, not a rename: of two panels that start at once both end up with the first one's token, whole.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
            return True
        return False
    finally:
        temporary.unlink()
