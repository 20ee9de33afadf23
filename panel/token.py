"""The token that every write needs: a file made at the first start, readable by its owner alone."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from panel.errors import StartError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}")


def load_token(path: Path) -> str:
    """The token in `path`; made when there is none. Raises StartError: others may read it, not a token, not readable."""
    try:
        if not path.exists():
            _make(path)
        found = path.stat()
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(
            f"the token file {path} cannot be used ({error}); correct it or set PANEL_TOKEN_FILE"
        ) from error
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise StartError(
            f"the token file {path} must belong to this user and have mode 0600, found mode {found.st_mode & 0o777:04o}; "
            f"run chmod 600 {path}, or remove it and a new one is made"
        )
    if not _TOKEN.fullmatch(token):
        raise StartError(
            f"expected in {path} one token of 32 to 200 letters, digits, - and _; remove the file and a new one is made"
        )
    return token


def token_id(token: str) -> str:
    """A short name of the token for records; says nothing about the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:6]


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        # A link, not a rename: of two panels that start at once both end up with the first one's token, whole.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
