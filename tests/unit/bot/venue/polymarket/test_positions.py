"""What a wallet holds: the newer form in pages, the older one behind it, and neither is never nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from polymarket import RequestRejectedError

from bot.venue.decoding import OddError
from bot.venue.polymarket.positions import page_of, read_holdings
from bot.venue.types import Holding, VenueError

RECORDED = {
    "proxy_wallet": "0x",
    "token_id": "87378",
    "condition_id": "0x968a",
    "slug": "btc-updown-15m-1790619300",
    "current_size": "566.6732",
    "status": "OPEN",
}


def rejected(status: int) -> RequestRejectedError:
    """What the library raises for a status."""
    error = RequestRejectedError.__new__(RequestRejectedError)
    Exception.__init__(error, f"status {status}")
    object.__setattr__(error, "status", status)
    return error


class Api:
    """Answers by path: an exception, or what a query gets."""

    def __init__(self, **paths: Any) -> None:
        self.paths, self.asked = paths, list[tuple[str, dict[str, Any]]]()

    async def get(self, path: str, query: Mapping[str, str | int]) -> object:
        self.asked.append((path, dict(query)))
        answer = self.paths["v2" if path.startswith("/v2") else "v1"]
        if isinstance(answer, Exception):
            raise answer
        return answer(query)


def read(api: Api) -> list[Holding]:
    """Everything that is held, nothing left out."""

    def odd(error: OddError) -> None:
        raise error

    return asyncio.run(read_holdings(api.get, "0xWallet", odd))


def v2_pages(query: Mapping[str, Any]) -> object:
    """Two pages of open positions, and one of a resolved market."""
    if query["status"] == "REDEEMABLE":
        return {"data": [RECORDED | {"token_id": "won"}], "pagination": {"next_cursor": None, "has_more": False}}
    first = "cursor" not in query
    rows = [RECORDED | {"token_id": "1" if first else "2"}, RECORDED | {"token_id": "sold", "current_size": "0"}]
    return {"data": rows, "pagination": {"next_cursor": "MTAw" if first else None, "has_more": first}}


def test_every_page_is_read_and_what_waits_for_redemption_is_held_as_well() -> None:
    """Failed before: the first 500 rows of the older form were all that was ever read."""
    api = Api(v2=v2_pages)
    assert [holding.token_id for holding in read(api)] == ["1", "2", "won"]
    assert read(api)[0] == Holding("1", "0x968a", "btc-updown-15m-1790619300", 566_673_200)


@pytest.mark.parametrize("status", [404, 410])
def test_the_older_form_stands_in_page_by_page(status: int) -> None:
    """Where the newer one is not there the older is read to its end."""

    def v1(query: Mapping[str, Any]) -> object:
        count = 500 if query["offset"] == 0 else 3
        return [{"asset": f"{query['offset']}-{n}", "conditionId": "0xc", "slug": "", "size": 1} for n in range(count)]

    api = Api(v2=rejected(status), v1=v1)
    assert len(read(api)) == 503
    assert [query["offset"] for path, query in api.asked if path == "/positions"] == [0, 500]


@pytest.mark.parametrize(("v2", "v1"), [(404, 404), (404, 410), (410, 410)])
def test_that_both_forms_are_gone_does_not_mean_that_nothing_is_held(v2: int, v1: int) -> None:
    """Failed before: 404 was an empty wallet, and what others had bought was never seen."""
    with pytest.raises(VenueError, match="not known"):
        read(Api(v2=rejected(v2), v1=rejected(v1)))


def test_an_answer_that_promises_more_without_a_cursor_is_odd() -> None:
    """A page is the last one only where it says so."""
    with pytest.raises(OddError):
        page_of({"data": [], "pagination": {"next_cursor": None, "has_more": True}}, lambda _error: None)


def test_a_cursor_that_repeats_ends_with_an_error() -> None:
    """Paging has an end whatever the venue answers."""
    page = {"data": [], "pagination": {"next_cursor": "again", "has_more": True}}
    with pytest.raises(OddError):
        read(Api(v2=lambda _query: page))
