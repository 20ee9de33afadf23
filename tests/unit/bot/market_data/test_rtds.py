"""The venue's settlement prices: messages, and when they make the known part of a settlement average."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.market_data.basis import BasisState
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.prices import Prices
from bot.market_data.rtds import MOST_SILENT_MS, TOPIC, SettlementAverage, SettlementPrice, parse_settlement

START_MS = 1_800_000_000_000
TO_BOOT_MS = 50_000 - START_MS  # the lead's clock
BASIS = 4.6e-4
LEAD = 20_000.0 * math.exp(BASIS)


def event(topic: str = TOPIC, **payload: Any) -> str:
    """A message of the stream."""
    whole = {"symbol": "btc/usd", "timestamp": START_MS, "value": 60_000.5} | payload
    return json.dumps({"topic": topic, "type": "update", "timestamp": START_MS, "payload": whole})


def test_a_settlement_price_is_read_and_other_messages_are_not() -> None:
    """An update of the spot topic is a price, as a number or as text; PONG and other topics are nothing."""
    assert parse_settlement(event()) == SettlementPrice("BTC", 60_000.5, START_MS)
    assert parse_settlement(event(value="1.5").encode()) == SettlementPrice("BTC", 1.5, START_MS)
    for message in ("PONG", b"PONG", "", event(topic="crypto_prices"), event(topic="crypto_prices_twap_sixty")):
        assert parse_settlement(message) is None


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        "1",
        b"\xff",
        json.dumps({"topic": TOPIC, "type": "update"}),
        event(symbol="btcusdt"),
        event(symbol=None),
        event(timestamp="1"),
        event(timestamp=True),
        event(timestamp=-1),
        event(value=None),
        event(value=True),
        event(value=0),
        event(value="nan"),
        event(value="x"),
        event(value=10**400),
    ],
)
def test_what_is_no_price_is_refused_as_such(message: str | bytes) -> None:
    """Whatever else the topic brings is a ValueError and never a price."""
    with pytest.raises(ValueError, match=r".+"):
        parse_settlement(message)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text()
    | st.binary()
    | st.fixed_dictionaries({"symbol": _JSON, "timestamp": _JSON, "value": _JSON}).map(
        lambda payload: json.dumps({"topic": TOPIC, "type": "update", "payload": payload})
    )
)
def test_rubbish_is_nothing_or_a_value_error(message: str | bytes) -> None:
    """No message whatever raises anything but ValueError."""
    try:
        found = parse_settlement(message)
    except ValueError:
        return
    assert found is None or found.price > 0


# --- the choice


def made(seconds: list[int]) -> Prices:
    """The lead at LEAD for a minute; settlement prices of 20,000.0 + second at these seconds after START_MS."""
    prices = Prices(("BTC",))
    before_ms = START_MS - 8_000
    prices.inherit_basis({"BTC": BasisState(BASIS, 600.0, before_ms - 1_000)}, before_ms)
    lead_boot_ms = before_ms + TO_BOOT_MS
    for ago_ms in (1_500, 0):  # the second one confirms the first
        prices.take(PriceUpdate("BTC", LEAD, Source.BOOK, None, lead_boot_ms - ago_ms))
    prices.settle(SettlementPrice("BTC", 20_000.0, before_ms, lead_boot_ms, lead_boot_ms))
    for second in range(60):
        boot_ms = START_MS + TO_BOOT_MS + second * 1_000
        prices.take(PriceUpdate("BTC", LEAD, Source.BOOK, None, boot_ms))
    for second in seconds:
        prices.settle(SettlementPrice("BTC", 20_000.0 + second, START_MS + second * 1_000))
    return prices


def average(prices: Prices, seconds: float) -> tuple[float, float | None]:
    """The known part so many seconds after the average began."""
    return prices.average("BTC", START_MS, START_MS + round(seconds * 1_000), TO_BOOT_MS)


def test_settlement_prices_that_cover_what_passed_make_the_average() -> None:
    """Their mean from the average's begin to the newest of them; those of before and one exactly at the begin are left out."""
    assert average(made(list(range(-5, 11))), 10.4) == (10.0, 20_005.5)
    assert average(made([2, 5, 8]), 10) == (8.0, 20_005.0), "a price may miss now and then"
    late = made([1, 2])
    assert average(late, 2.5) == (2.0, 20_001.5)
    late.settle(SettlementPrice("BTC", 20_099.0, START_MS + 1_000))
    late.settle(SettlementPrice("BTC", 20_099.0, START_MS + 2_000))
    assert average(late, 2.5) == (2.0, 20_001.5), "what is told again or too late changes nothing"
    late.settle(SettlementPrice("BTC", 20_003.0, START_MS + 3_000))
    assert average(late, 3.5) == (3.0, 20_002.0)


@pytest.mark.parametrize(
    "seconds",
    [[], [-2, -1, 0], list(range(4, 21)), [*range(1, 9), *range(13, 21)], list(range(1, 17))],
    ids=["none came", "none of this average", "it begins too late", "a hole in it", "stalled"],
)
def test_the_leads_prices_make_the_average_where_settlement_prices_do_not_cover_it(seconds: list[int]) -> None:
    """A stream that is not there, came late, had a hole or stalled leaves the estimate by the lead, its basis taken off."""
    known_s, mean = average(made(seconds), 20)
    assert known_s == 20.0
    assert mean == pytest.approx(20_000.0)


def test_a_lead_whose_basis_is_not_known_makes_no_average() -> None:
    """In terms of the settlement price it says nothing."""
    prices = Prices(("BTC",))
    prices.take(PriceUpdate("BTC", LEAD, Source.BOOK, None, START_MS + TO_BOOT_MS))
    assert average(prices, 1) == (0.0, None)


@given(st.lists(st.integers(-70_000, 70_000), max_size=200), st.integers(0, 60_000), st.integers(0, 60_000))
def test_a_known_part_is_never_older_nor_longer_than_it_may_be(times: list[int], from_ms: int, length_ms: int) -> None:
    """In whatever order prices come, an answer ends within 3 s of now and is the mean of prices after the begin."""
    settled = SettlementAverage()
    for at in times:
        settled.add(SettlementPrice("BTC", float(100_000 + at), at))
    to_ms = from_ms + length_ms
    found = settled.known(from_ms, to_ms)
    if found is not None:
        newest = from_ms + round(found[0] * 1000)
        assert newest > from_ms
        assert abs(to_ms - newest) <= MOST_SILENT_MS
        assert from_ms < found[1] - 100_000 <= newest
