"""Binance's messages to price updates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.market_data.binance_messages import Numbered, PriceUpdate, Shutdown, Source, parse, stream_url

ASSETS = {"BTCUSDT": "BTC"}


def test_a_book_ticker_is_the_middle_of_bid_and_ask() -> None:
    """The best bid and ask give their middle, without a venue time, since the message has none."""
    message = {
        "stream": "btcusdt@bookTicker",
        "data": {"u": 7, "s": "BTCUSDT", "b": "100.0", "B": "1", "a": "101.0", "A": "2"},
    }
    assert parse(json.dumps(message), ASSETS, 55) == Numbered(7, PriceUpdate("BTC", 100.5, Source.BOOK, None, 55))


def test_a_trade_gives_its_price_and_time() -> None:
    """A trade gives its price and the venue's time of it, wrapped or not."""
    data = {"e": "trade", "E": 1_001, "s": "BTCUSDT", "t": 9, "p": "99.5", "q": "1", "T": 1_000}
    expected = Numbered(9, PriceUpdate("BTC", 99.5, Source.TRADE, 1_000, 55))
    assert parse(json.dumps({"stream": "btcusdt@trade", "data": data}), ASSETS, 55) == expected
    assert parse(json.dumps(data), ASSETS, 55) == expected


@pytest.mark.parametrize("wrap", [True, False])
def test_an_announced_restart_is_recognised(wrap: bool) -> None:
    """serverShutdown is recognised in both forms."""
    data = {"e": "serverShutdown", "E": 1}
    assert isinstance(parse(json.dumps({"stream": "x", "data": data} if wrap else data), ASSETS, 0), Shutdown)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[]",
        "{",
        '{"data": 1}',
        '{"data": {"u": 1, "s": "XYZUSDT", "b": "1", "a": "1"}}',
        '{"data": {"u": 1, "s": "BTCUSDT", "b": 1, "a": "1"}}',
        '{"data": {"u": 1, "s": "BTCUSDT", "b": "nan", "a": "1"}}',
        '{"data": {"u": 1, "s": "BTCUSDT", "b": "0", "a": "1"}}',
        '{"data": {"e": "trade", "s": "BTCUSDT", "t": true, "p": "1", "T": 1}}',
    ],
)
def test_a_broken_message_is_a_value_error(message: str) -> None:
    """What is no message of ours raises ValueError, so that the feed can count it."""
    with pytest.raises(ValueError, match=r"\w"):
        parse(message, ASSETS, 0)


@given(st.text() | st.binary())
def test_no_message_raises_anything_else(message: str | bytes) -> None:
    """Whatever arrives, parsing answers or raises ValueError."""
    try:
        parse(message, ASSETS, 0)
    except ValueError:
        return


def test_the_address_names_both_streams_of_each_asset() -> None:
    """One combined stream carries the book ticker and the trades of every asset."""
    assert stream_url("wss://host/", ("BTC", "ETH")) == (
        "wss://host/stream?streams=btcusdt@bookTicker/btcusdt@trade/ethusdt@bookTicker/ethusdt@trade"
    )
