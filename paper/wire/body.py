"""Reading what a request carries: its JSON body, counts and cursors in its query."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from aiohttp import web

from paper.errors import RefusedError

END_CURSOR = "LTE="  # -1: there is no next page
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_MAX_DIGITS = 18


async def read_json(request: web.Request) -> Any:
    """Return the body as JSON.

    Raises:
        RefusedError: 400, it is none.
    """
    try:
        return parse_json(await request.read())
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "Invalid payload") from error


def parse_json(body: bytes) -> Any:
    """Return UTF-8 as JSON whose texts can all be written again.

    Raises:
        ValueError: they are none, or a text holds half of a surrogate pair, which no record could keep.
        RecursionError: they are nested too deeply.
    """
    payload = json.loads(body.decode())
    if _SURROGATE.search(body):
        json.dumps(payload, ensure_ascii=False).encode()
    return payload


def plain(text: str) -> str:
    """Return a header's or a path's text as it can be recorded: bytes that are no UTF-8 become question marks."""
    return text.encode(errors="replace").decode()


def read_count(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number of the query.

    Raises:
        RefusedError: 400, it is none, or out of [least, most].
    """
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > _MAX_DIGITS or not least <= int(text) <= most:
        raise RefusedError(400, f"{name} must be a whole number from {least} to {most}")
    return int(text)


def read_cursor(request: web.Request) -> int:
    """Return where a page of the CLOB's lists begins: ``next_cursor`` is the number in base 64.

    Raises:
        RefusedError: 400, it is none.
    """
    try:
        start = int(base64.b64decode(request.query.get("next_cursor") or "MA==", validate=True))
    except (ValueError, binascii.Error) as error:
        raise RefusedError(400, "next item should be greater than or equal to 0") from error
    return max(0, min(start, 1 << 40))


def write_cursor(start: int) -> str:
    """Return the cursor of the page that begins there."""
    return base64.b64encode(str(start).encode()).decode()
