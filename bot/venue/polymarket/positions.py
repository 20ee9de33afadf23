"""What a wallet holds by the data API: its newer form in pages, and the older one where there is no newer.

Third parties announced the end of the older form for 24 October 2026, the venue's own pages say that it stays. So the newer one
is asked first. That a form is gone (404, 410) does not say that the wallet holds nothing: where both are, nobody knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from polymarket.errors import RequestRejectedError

from bot.venue.decoding import Code, OddError, as_list, as_name, as_object, as_units, each
from bot.venue.polymarket import account_reading
from bot.venue.polymarket.reading import Odd
from bot.venue.types import Holding, TooManyError, VenueError

Get = Callable[[str, Mapping[str, str | int]], Awaitable[object]]

_GONE = (404, 410)
_HELD = ("OPEN", "REDEEMABLE")
"""Statuses of positions that are worth something (polymarket-client 0.14: PositionStatus)."""
_PAGE, _OLD_PAGE, _MOST = 1_000, 500, 20_000


async def read_holdings(get: Get, wallet: str, odd: Odd) -> list[Holding]:
    """Everything that is held.

    Raises RequestRejectedError, OddError; TooManyError: more than can be read; VenueError: the API has neither form.
    """
    try:
        return [holding for status in _HELD for holding in await _pages(get, wallet, status, odd)]
    except RequestRejectedError as error:
        if error.status not in _GONE:
            raise
    try:
        return await _old_pages(get, wallet, odd)
    except RequestRejectedError as error:
        if error.status not in _GONE:
            raise
        raise VenueError(
            f"positions: the data API has neither /v2/positions nor /positions (status {error.status}): "
            "what this wallet holds is not known; see whether a newer release knows where to ask"
        ) from error


async def _pages(get: Get, wallet: str, status: str, odd: Odd) -> list[Holding]:
    rows: list[Holding] = []
    asked: set[str] = set()
    cursor: str | None = None
    while True:
        query: dict[str, str | int] = {"user": wallet, "status": status, "limit": _PAGE}
        page, cursor = page_of(await get("/v2/positions", query if cursor is None else query | {"cursor": cursor}), odd)
        rows += page
        if cursor is None:
            return rows
        if cursor in asked:
            raise OddError(Code.SHAPE, "positions: next_cursor", "a page that was not asked for before", cursor)
        _check(rows)
        asked.add(cursor)


async def _old_pages(get: Get, wallet: str, odd: Odd) -> list[Holding]:
    rows: list[Holding] = []
    offset = 0
    while True:
        payload = await get("/positions", {"user": wallet, "limit": _OLD_PAGE, "offset": offset, "sizeThreshold": 0})
        rows += account_reading.holdings(payload, odd)
        if len(as_list(payload, "positions")) < _OLD_PAGE:
            return rows
        _check(rows)
        offset += _OLD_PAGE


def page_of(payload: object, odd: Odd) -> tuple[list[Holding], str | None]:
    """One page of the newer form, and the cursor of the next one; None where it is the last. Raises OddError. Pure."""
    body = as_object(payload, "positions")
    rows = each(as_list(body.get("data"), "positions: data"), "positions", _holding, odd)
    pagination = as_object(body.get("pagination"), "positions: pagination")
    cursor = pagination.get("next_cursor")
    if cursor in (None, "") and pagination.get("has_more") is True:
        raise OddError(Code.SHAPE, "positions: next_cursor", "a cursor, as there is more", cursor)
    following = None if cursor in (None, "") else as_name(cursor, "positions: next_cursor")
    return [holding for holding in rows if holding.size > 0], following


def _holding(value: object, where: str) -> Holding:
    row = as_object(value, where)
    slug = row.get("slug")
    return Holding(
        as_name(row.get("token_id"), f"{where}.token_id"),
        as_name(row.get("condition_id"), f"{where}.condition_id"),
        "" if slug in (None, "") else as_name(slug, f"{where}.slug"),
        as_units(row.get("current_size"), f"{where}.current_size"),
    )


def _check(rows: list[Holding]) -> None:
    if len(rows) > _MOST:
        raise TooManyError(f"positions: expected at most {_MOST}, found more")
