"""Frames mean what the venue's own recordings say they mean; an odd one raises nothing and is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recording import (
    BestEvent,
    BookEvent,
    BookState,
    BookStates,
    ChangeEvent,
    Event,
    Feed,
    Frame,
    MarketEvent,
    OddFrame,
    PriceEvent,
    ResolvedEvent,
    TickEvent,
    TradeEvent,
    decode,
)

NOW = 1_790_877_852_100
SLUG = "btc-updown-5m-1790877600"


def read(source: str, payload: object) -> list[Event]:
    return decode(Frame(NOW, source, json.dumps(payload)))


def book(bids: dict[str, str], asks: dict[str, str], at: int = 1, **other: str) -> dict[str, object]:
    """A book as the market channel sends it: the best prices last."""
    levels = {
        "bids": [{"price": p, "size": s} for p, s in sorted(bids.items())],
        "asks": [{"price": p, "size": s} for p, s in sorted(asks.items(), reverse=True)],
    }
    return {"event_type": "book", "market": "0xc", "asset_id": "1", "timestamp": str(at), **levels, **other}


def change(price: str, size: str, side: str, at: int, best: tuple[str, str] | None = None) -> dict[str, object]:
    row = {"asset_id": "1", "price": price, "size": size, "side": side, "hash": "a"}
    row |= {"best_bid": best[0], "best_ask": best[1]} if best else {}
    return {"event_type": "price_change", "market": "0xc", "timestamp": str(at), "price_changes": [row]}


def gamma(**market: Any) -> dict[str, object]:
    row = {
        "slug": SLUG,
        "conditionId": "0xc",
        "outcomes": '["Down", "Up"]',
        "clobTokenIds": '["2", "1"]',
        "outcomePrices": '["0", "1"]',
        "closed": True,
        "umaResolutionStatus": "resolved",
        "orderPriceMinTickSize": 0.001,
        "orderMinSize": 5,
        "takerDelayMs": 150,
        "feeSchedule": {"rate": 0.07},
        "cryptoMarketConfig": {"twapEnabled": True, "twapLookbackSeconds": 60},
    }
    metadata = {"priceToBeat": 83972.5, "finalPrice": 83990.1}
    return {"slug": SLUG, "markets": [row | market], "eventMetadata": metadata}


def test_frames_of_the_market_channel_are_read_as_recorded() -> None:
    """Each kind of event, alone or in an array, with prices and sizes in base units and the best levels first."""
    array = [book({"0.51": "10", "0.52": "7.5"}, {"0.53": "1"}, tick_size="0.01", last_trade_price="0.520")]
    trade = {"event_type": "last_trade_price", "market": "0xc", "asset_id": "1", "price": "0.01", "size": "100"}
    trade |= {"side": "BUY", "timestamp": "3", "transaction_hash": "0x0d", "fee_rate_bps": "0"}
    best = {"event_type": "best_bid_ask", "market": "0xc", "asset_id": "1", "best_bid": "0", "best_ask": "0.01"}
    tick = {
        "event_type": "tick_size_change",
        "market": "0xc",
        "asset_id": "1",
        "new_tick_size": "0.001",
        "timestamp": "5",
    }
    over = {"event_type": "market_resolved", "market": "0xc", "winning_asset_id": "1", "timestamp": "6"}
    expected: list[tuple[object, list[Event]]] = [
        (
            array,
            [
                BookEvent(
                    NOW,
                    1,
                    "0xc",
                    "1",
                    ((520_000, 7_500_000), (510_000, 10_000_000)),
                    ((530_000, 1_000_000),),
                    10_000,
                    520_000,
                )
            ],
        ),
        (
            change("0.01", "2866.23", "BUY", 2, ("0.99", "1")),
            [ChangeEvent(NOW, 2, "0xc", "1", True, 10_000, 2_866_230_000, 990_000, 1_000_000)],
        ),
        (trade, [TradeEvent(NOW, 3, "0xc", "1", True, 10_000, 100_000_000, "0x0d")]),
        (best | {"timestamp": "4"}, [BestEvent(NOW, 4, "0xc", "1", 0, 10_000)]),
        (tick, [TickEvent(NOW, 5, "0xc", "1", 1_000)]),
        (over, [ResolvedEvent(NOW, 6, "0xc", "1")]),
        ({"event_type": "new_market"}, []),
    ]
    for payload, events in expected:
        assert read("clob", payload) == events


def test_prices_are_read_with_the_times_of_their_feeds() -> None:
    """RTDS has a time of its own beside that of sending; Binance's best prices have none."""
    payload = {"symbol": "hype/usd", "timestamp": 1790877850000, "value": 87.459, "full_accuracy_value": "1"}
    chainlink = {"payload": payload, "topic": "crypto_prices_chainlink", "type": "update", "timestamp": 1790877851082}
    assert read("rtds", chainlink) == [PriceEvent(NOW, 1790877850000, Feed.CHAINLINK, "HYPE", 87.459)]
    ticker = {"u": 1, "s": "BTCUSDT", "b": "84740.00", "B": "4", "a": "84741.00", "A": "1"}
    assert read("binance", {"stream": "btcusdt@bookTicker", "data": ticker}) == [
        PriceEvent(NOW, NOW, Feed.BINANCE, "BTC", 84740.5)
    ]
    trade = {"e": "trade", "s": "BTCUSDT", "p": "84740.58", "T": 1790877850830}
    assert read("binance", trade) == [PriceEvent(NOW, 1790877850830, Feed.BINANCE_TRADE, "BTC", 84740.58)]


def test_a_market_is_read_as_gamma_writes_it() -> None:
    """Tokens by the order of the outcomes, the average's length, the delay, strike and final price, and who won."""
    event = read("gamma", gamma())[0]
    assert event == MarketEvent(
        *(NOW, SLUG, "0xc", ("1", "2"), 1790877600000, 1790877900000),
        tick=1_000,
        min_size=5_000_000,
        average_ms=60_000,
        delay_ms=150,
        fee_rate=0.07,
        strike=83972.5,
        final=83990.1,
        winner=0,
        closed=True,
    )
    halves = read("gamma", gamma(outcomePrices='["0.5", "0.5"]'))[0]
    proposed = read("gamma", gamma(umaResolutionStatus="proposed"))[0]
    assert isinstance(halves, MarketEvent)
    assert isinstance(proposed, MarketEvent)
    assert (halves.winner, proposed.winner) == (2, None)


@pytest.mark.parametrize("source", ["clob", "rtds", "binance", "gamma", "archive"])
@pytest.mark.parametrize(
    "text",
    [
        "{", "[" * 5000, "null", "[[]]", "1e999", '{"event_type":"book"}', '{"event_type":"price_change","price_changes":{}}',
        '{"event_type":"book","market":"0xc","asset_id":"1","timestamp":"1","bids":[{"price":"1e9","size":"1"}],"asks":[]}',
        '{"event_type":"last_trade_price","market":"m","asset_id":"1","price":"0.5","size":"-1","side":"BUY"}',
        '{"topic":"crypto_prices_chainlink","type":"update","payload":{"symbol":"btc/usd","timestamp":1,"value":"NaN"}}',
        '{"data":{"s":"BTCUSDT","u":1,"b":"x","a":"1"}}', '{"slug":"btc-updown-5m-1","markets":[{"slug":"btc-updown-5m-1"}]}',
        '{"topic":[],"type":"update"}', '{"event_type":"price","feed":[],"price":1}',
    ],
)  # fmt: skip
def test_no_frame_raises(source: str, text: str) -> None:
    """What cannot be read is an odd frame, or of no interest; nothing else is made of it."""
    assert all(isinstance(event, OddFrame) for event in decode(Frame(NOW, source, text)))


def test_one_odd_element_costs_itself_alone() -> None:
    """Its neighbours in an array, or in the changes of a frame, are read; whose book it was is said."""
    odd = book({}, {}) | {"bids": "none"}
    events = read("clob", [odd, book({"0.5": "1"}, {})])
    assert [type(event) for event in events] == [OddFrame, BookEvent]
    assert isinstance(events[0], OddFrame)
    assert events[0].token_id == "1"


def states(*payloads: dict[str, object]) -> BookState:
    known = BookStates()
    for payload in payloads:
        for event in read("clob", payload):
            if isinstance(event, BookEvent | ChangeEvent):
                known.take(event)
    return known.books["1"]


def test_a_book_that_crosses_or_that_the_venue_contradicts_is_in_doubt_until_its_next_snapshot() -> None:
    """After a lost change the best prices do not fit; a book is believed again with a snapshot."""
    first = book({"0.50": "10"}, {"0.52": "10"}, 1)
    assert states(first).doubt == ""
    assert "crossed" in states(first, change("0.53", "5", "BUY", 2)).doubt
    lost = change("0.40", "5", "BUY", 2, ("0.49", "0.52"))
    assert "venue names" in states(first, lost).doubt
    assert states(first, lost, book({"0.49": "1"}, {"0.52": "1"}, 3)).doubt == ""


def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    """Frames that overtook each other, or came twice, leave the newest state; one absurd time does not freeze a book."""
    first = book({"0.50": "10"}, {"0.52": "10"}, 10_000)
    newer, older = change("0.50", "7", "BUY", 10_002), change("0.50", "9", "BUY", 10_001)
    assert states(first, newer, older, newer).bids == {500_000: 7_000_000}
    absurd = change("0.50", "3", "BUY", 10_000_000)
    assert states(first, absurd, change("0.50", "4", "BUY", 10_003)).bids == {500_000: 4_000_000}
