"""What an answer of the venue means: accepted, refused or in doubt, and nothing else."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.polymarket.answers import DUPLICATE, NO_MATCH, judge
from bot.venue.polymarket.answers import classify as classify_for
from bot.venue.types import Accepted, Answer, InDoubt, Refused, VenueMode
from ledger.values import Side

ID = "0x" + "ab" * 32
FAK_TEXT = "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
FOK_TEXT = "order couldn't be fully filled. FOK orders are fully filled or killed."
DUPLICATE_TEXT = "order is invalid. Duplicated. Same order has already been placed, can't be placed again"


def classify(http: int, body: str, side: Side = Side.BUY) -> Answer:
    """The outcome for a buy, unless a side is given."""
    return classify_for(http, body, side)


def reply(**fields: object) -> str:
    """A 200 answer in the venue's form."""
    base = {"errorMsg": "", "orderID": ID, "status": "matched", "success": True, "makingAmount": "", "takingAmount": ""}
    return json.dumps(base | fields)


def error(text: str, **fields: object) -> str:
    """An error answer in the venue's form."""
    return json.dumps({"error": text, **fields})


@pytest.mark.parametrize(
    "status", ["live", "matched", "delayed", "unmatched", "LIVE", "ORDER_STATUS_DELAYED", "CANCELLED"]
)
@pytest.mark.parametrize("amount", ["", "0", "0.000000", "-1", None])
def test_a_taken_order_is_accepted_and_no_amount_says_that_nothing_was_matched(status: str, amount: str | None) -> None:
    """A known status in any spelling is accepted; a zero or missing amount says nothing: the fill comes after the delay."""
    word = status.lower().removeprefix("order_status_")
    body = reply(status=status, takingAmount=amount, makingAmount=amount)
    assert classify(200, body) == Accepted(ID, word, None)


@pytest.mark.parametrize(
    ("side", "matched", "value"), [(Side.BUY, 5_120_000, 4_915_200), (Side.SELL, 4_915_200, 5_120_000)]
)
def test_the_matched_shares_are_what_a_buyer_takes_and_a_seller_gives(side: Side, matched: int, value: int) -> None:
    """The answer's amounts are of money and shares by side; both are told, in base units."""
    body = reply(takingAmount="5.12", makingAmount="4.9152")
    assert classify(200, body, side) == Accepted(ID, "matched", matched, value)


def test_an_unreadable_amount_leaves_the_order_accepted() -> None:
    """An odd amount in an accepting answer never makes a doubt of it; the shares are just not known."""
    assert classify(200, reply(takingAmount="much")) == Accepted(ID, "matched", None)


@pytest.mark.parametrize("http", [200, 400, 500])
def test_a_duplicate_is_an_accepted_order(http: int) -> None:
    """The venue calls the second of two equal orders a duplicate: the first is there, whatever the status says."""
    assert classify(http, error(DUPLICATE_TEXT)) == Accepted("", DUPLICATE)
    assert classify(http, error(DUPLICATE_TEXT, orderID=ID)) == Accepted(ID, DUPLICATE)


@pytest.mark.parametrize(
    ("http", "body", "code"),
    [
        (400, error(FAK_TEXT, orderID=ID), NO_MATCH),
        (400, error(FOK_TEXT), NO_MATCH),
        (200, reply(success=False, status="", errorMsg=FOK_TEXT), NO_MATCH),
        (200, reply(errorMsg=FAK_TEXT), NO_MATCH),
        (400, error("not enough balance / allowance"), "not_enough_balance"),
        (400, error("Price breaks minimum tick size rule: 0.01"), "tick"),
        (400, error("order_version_mismatch", code="order_version_mismatch"), "order_version_mismatch"),
        (400, error("some other business rule"), ""),
        (200, reply(success=False, orderID="", status="", errorMsg="some other business rule"), ""),
        (401, error("Unauthorized/Invalid api key"), "unauthorized"),
        (403, "<html>blocked</html>", "forbidden"),
        (429, "", "rate_limited"),
    ],
)
def test_a_clean_no_is_refused_with_its_code(http: int, body: str, code: str) -> None:
    """What the venue turned away does not exist there, and a FAK or FOK that met nothing is recognisable."""
    answer = classify(http, body)
    assert isinstance(answer, Refused)
    assert (answer.code, answer.mode) == (code, VenueMode.NORMAL)
    assert answer.reason


@pytest.mark.parametrize(
    ("http", "body", "mode"),
    [
        (425, "", VenueMode.RESTARTING),
        (503, error("post-only mode: only post-only ...", code="post_only_mode"), VenueMode.POST_ONLY),
        (503, error("Trading is currently cancel-only. New orders are not accepted"), VenueMode.CANCEL_ONLY),
        (503, error("Trading is currently disabled. Check polymarket.com for updates"), VenueMode.DISABLED),
    ],
)
def test_a_closed_venue_refuses_with_its_mode(http: int, body: str, mode: VenueMode) -> None:
    """A venue that restarts or takes no orders certainly did not take this one, and the answer says which it is."""
    answer = classify(http, body)
    assert isinstance(answer, Refused)
    assert answer.mode is mode


@pytest.mark.parametrize(
    ("http", "body"),
    [
        (200, ""),
        (200, "<html>ok</html>"),
        (200, "[]"),
        (200, reply(orderID="")),
        (200, reply(status="parked")),
        (200, reply(success="yes")),
        (200, reply(errorMsg="something new")),
        (200, reply(success=False, errorMsg="")),
        (200, reply(success=False, errorMsg="could not run the execution")),
        (400, error("order match delayed due to market conditions")),
        (400, error("could not insert order")),
        (400, error("context canceled")),
        (400, error("rpc error: code = Canceled desc = context canceled")),
        (400, error('Post "http://engine/order": context canceled')),
        (400, error("order timed out")),
        (400, error("context deadline exceeded")),
        (400, error("rpc error: code = Unavailable desc = transport is closing")),
        (400, error("Internal error; order state unknown")),
        (400, error("order not found")),
        (200, reply(success=False, orderID="", status="", errorMsg="context deadline exceeded")),
        (404, error("order not found")),
        (404, error("market not found")),
        (404, "<html>not found</html>"),
        (500, error("order timed out")),
        (400, "Bad Request"),
        (408, ""),
        (409, error("conflict")),
        (500, error("internal error")),
        (502, "<html>bad gateway</html>"),
        (503, "<html>unavailable</html>"),
        (503, error("upstream connect error")),
        (520, ""),
    ],
)
def test_everything_else_is_in_doubt(http: int, body: str) -> None:
    """No answer that leaves a way for the order to exist is taken for a refusal."""
    assert isinstance(classify(http, body), InDoubt)


@given(st.integers(min_value=500, max_value=599), st.text())
def test_no_server_error_without_the_venues_words_settles_anything(http: int, body: str) -> None:
    """A 5xx is in doubt unless it carries one of the venue's own sentences."""
    assert isinstance(classify(http, body), InDoubt) or any(
        word in body.lower() for word in ("cancel-only", "disabled", "post", "duplicated")
    )


@pytest.mark.parametrize(
    ("side", "making", "taking", "matched", "value"),
    [
        (Side.BUY, "6", "10.526315", 10_526_315, 6_000_000),
        (Side.BUY, "6000000", "10526315", 10_526_315, 6_000_000),
        (Side.BUY, "12", "20", None, None),
        (Side.BUY, "", "10000000", 10_000_000, None),
        (Side.SELL, "10", "5.8", 10_000_000, 5_800_000),
        (Side.SELL, "10000000", "5800000", 10_000_000, 5_800_000),
        (Side.SELL, "20", "11.6", None, None),
    ],
)
def test_amounts_that_cannot_be_of_the_order_are_read_in_base_units_or_say_nothing(
    side: Side, making: str, taking: str, matched: int | None, value: int | None
) -> None:
    """More than was signed was not matched: no order waits for trades that can never come. Failed before."""
    give, ask = ("6000000", "10000000") if side is Side.BUY else ("10000000", "5800000")
    body = json.dumps({"order": {"side": side.value, "makerAmount": give, "takerAmount": ask}})
    answer = httpx.Response(200, text=reply(makingAmount=making, takingAmount=taking))
    assert judge(answer, body) == Accepted(ID, "matched", matched, value)
