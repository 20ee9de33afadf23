"""What a real exchange sends is what the mirror shows; what it does not say is not made up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paper.engine.book import ONE
from paper.engine.record import Record
from paper.errors import UsageError
from paper.mirror.clock import place
from paper.mirror.exchange import check_kind
from paper.wire.gamma import _market
from tests.unit.paper.mirror.mirroring import (
    CONDITION,
    DOWN,
    SLUG,
    START,
    UP,
    World,
    book,
    change,
    gamma,
    trade,
)

USER = "0x00000000000000000000000000000000000000aa"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.record.close()


def open_market(world: World) -> None:
    world.send("gamma", gamma(strike=84000.0, takerDelayMs=150))
    world.send("clob", [book({"0.48": "30", "0.47": "5"}, {"0.5": "40"}, START + 1_000)])


def test_a_market_is_shown_with_its_own_ids_strike_delay_and_average(world: World) -> None:
    """A window of which nothing was heard is not there; one that was heard of has the ids of the real exchange."""
    assert world.exchange.market_by_slug(SLUG) is None
    open_market(world)
    shown = _market(world.exchange, world.market)
    assert (shown["conditionId"], json.loads(str(shown["clobTokenIds"]))) == (CONDITION, [UP, DOWN])
    assert shown["takerDelayMs"] == 150
    assert shown["cryptoMarketConfig"]["twapLookbackSeconds"] == 60  # type: ignore[index]  # a dictionary
    assert world.market.strike(world.now) == 84000.0
    assert world.exchange.markets.of_token(DOWN, world.now) is world.market


def test_either_token_tells_of_the_one_book(world: World) -> None:
    """An offer of Down at p is a bid for Up at 1 - p, in snapshots and in changes; the tick is the real one."""
    world.send("gamma", gamma())
    world.send("clob", book({"0.5": "40"}, {"0.52": "30"}, START, DOWN))
    assert world.levels() == [{"0.48": "30"}, {"0.5": "40"}]
    world.send("clob", change("0.51", "7", "BUY", START + 1, ("0.51", "0.52"), DOWN))
    assert world.levels() == [{"0.48": "30"}, {"0.49": "7", "0.5": "40"}]
    tick = {"event_type": "tick_size_change", "market": CONDITION, "asset_id": UP, "new_tick_size": "0.001"}
    world.send("clob", tick | {"timestamp": "1"})
    assert world.exchange.book(world.market).tick == 1_000


def test_followers_get_changes_and_trades_as_they_come(world: World) -> None:
    """A change goes on at once, with both tokens in it; a trade of others once, however often it was told of."""
    open_market(world)
    world.exchange.market_streams.snapshot(world.exchange.book(world.market), 0, world.now)
    world.follow(f"token:{UP}")
    world.send("clob", change("0.49", "12", "BUY", START + 1_001, ("0.49", "0.5")))
    for _ in range(2):
        world.send("clob", trade("0.5", "8", "BUY", START + 1_002))
    kinds = [event["event_type"] for event in world.sent]
    assert kinds == ["price_change", "last_trade_price"]
    assert [row["price"] for row in world.sent[0]["price_changes"]] == ["0.49", "0.51"]
    assert world.exchange.orders.flow[0]["whose"] == "the real exchange"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param([change("0.51", "9", "BUY", START + 1_001, ("0.51", "0.52"))], id="crossed after a lost change"),
        pytest.param(
            [change("0.40", "9", "BUY", START + 1_001, ("0.49", "0.5"))], id="the venue names other best prices"
        ),
        pytest.param([{"event_type": "book", "asset_id": UP, "bids": "odd"}], id="a frame that cannot be read"),
        pytest.param(None, id="its connection is gone"),
    ],
)
def test_a_book_that_cannot_be_believed_is_withdrawn_until_its_next_snapshot(
    world: World, fault: list[dict[str, Any]] | None
) -> None:
    """It is asked for anew at once, offers nothing after a second, and what was taken before is remembered no longer than it."""
    open_market(world)
    if fault is None:
        world.mirror.lost("clob", "closed")
    else:
        for frame in fault:
            world.send("clob", frame)
    assert {UP, DOWN} == set(world.asked)
    world.run(0.5)
    assert world.levels() != [{}, {}]
    world.run(1.0)
    assert world.levels() == [{}, {}]
    assert world.mirror.counts["withdrawn"] == 1
    world.mirror.opened("clob")
    world.send("clob", change("0.48", "1", "BUY", world.now, ("0.48", "0.5")))  # before the snapshot: it says nothing
    assert world.levels() == [{}, {}]
    world.send("clob", book({"0.46": "3"}, {"0.5": "4"}, world.now))
    assert world.levels() == [{"0.46": "3"}, {"0.5": "4"}]


def test_frames_that_come_twice_or_overtake_each_other_leave_the_newest_book(world: World) -> None:
    """Duplicates change nothing, and what is older than what is known is passed over."""
    open_market(world)
    newer = change("0.48", "11", "BUY", START + 1_003, ("0.48", "0.5"))
    older = change("0.48", "22", "BUY", START + 1_002, ("0.48", "0.5"))
    for frame in (newer, older, newer, older):
        world.send("clob", frame)
    assert world.levels()[0] == {"0.48": "11", "0.47": "5"}


@pytest.mark.parametrize(("winner", "paid"), [(0, 10), (1, 0), (2, 5)])
async def test_a_window_ends_as_it_really_did(world: World, winner: int, paid: int) -> None:
    """Nothing is resolved by paper's own reckoning: not at the end, and then to the outcome that Gamma tells."""
    open_market(world)
    world.exchange.accounts.open(USER, world.now)
    world.exchange.engine.restore(USER, UP, 10 * ONE)
    before = world.exchange.engine.balance(USER, "pUSD")
    world.now = START + 299_000
    world.run(30)
    assert world.market.winner is None
    assert world.levels() == [{}, {}]
    world.send("gamma", gamma(strike=84000.0, winner=winner))
    world.run(0.2)
    ended = world.market
    assert (ended.winner, ended.final) == (winner, 84001.5)
    assert world.exchange.engine.balance(USER, "pUSD") - before == paid * ONE


def test_prices_go_on_to_the_letter_and_only_those_that_came(world: World) -> None:
    """RTDS and Binance are passed on as they came; an asset of which nothing came has no price."""
    world.follow("rtds:crypto_prices_chainlink", "combined:btcusdt@bookTicker", "btcusdt@trade")
    payload = {"symbol": "btc/usd", "timestamp": START, "value": 84000.25, "full_accuracy_value": "8400025"}
    chainlink = {"connection_id": "x", "topic": "crypto_prices_chainlink", "type": "update", "payload": payload}
    ticker = {
        "stream": "btcusdt@bookTicker",
        "data": {"u": 7, "s": "BTCUSDT", "b": "84000.00", "B": "1", "a": "84001.00", "A": "2"},
    }
    traded = {
        "e": "trade",
        "E": START,
        "s": "BTCUSDT",
        "t": 5,
        "p": "84000.50",
        "q": "0.1",
        "T": START,
        "m": False,
        "M": True,
    }
    world.send("rtds", chainlink | {"timestamp": world.now})
    world.send("binance", ticker)
    world.send("binance", {"stream": "btcusdt@trade", "data": traded})
    assert world.sent == [chainlink | {"timestamp": world.now}, ticker, traded]
    assert world.exchange.feed.lead == {"BTC": 84000.5}
    assert world.exchange.feed.settlement == {"BTC": 84000.25}


@pytest.mark.parametrize("source", ["clob", "rtds", "binance", "gamma", "clob_market", "klines", "archive", "other"])
def test_no_frame_stops_it_and_one_odd_element_costs_itself_alone(world: World, source: str) -> None:
    """Arrays where objects were expected, odd elements, no JSON: what can be read of them is read."""
    open_market(world)
    world.follow("rtds:crypto_prices_chainlink", "btcusdt@bookTicker")
    quote = {"u": 7, "s": "BTCUSDT", "b": "84000.00", "B": "1", "a": "84001.00", "A": "2"}
    payload = {"symbol": "btc/usd", "timestamp": START, "value": 84000.25}
    chainlink = {"topic": "crypto_prices_chainlink", "type": "update", "payload": payload, "timestamp": world.now}
    good = [quote, chainlink, book({"0.46": "3"}, {"0.5": "4"}, START + 9_000), gamma(strike=84000.0)]
    odd: list[object] = ["odd", None, 1, [], {}, [[{}]], {"data": "x"}, {"payload": 1, "topic": [], "type": "update"}]
    for items in ([*odd, *good], [*good, *odd], *[[one] for one in (*odd, *good)]):
        world.send(source, items)
        for item in items:
            world.send(source, item)
    for text in ("{", "[" * 9_000, "", "\u0000", "[1e999]"):
        world.mirror.frame(source, text)
    world.run(0.3)
    if source in ("rtds", "binance"):
        assert {json.dumps(event) for event in world.sent} == {json.dumps(quote if source == "binance" else chainlink)}


def test_a_lead_that_stands_still_makes_no_candles(world: World) -> None:
    """While nothing comes, nobody knows that the price stood still: there is no candle of that time."""
    ticker = {"u": 7, "s": "BTCUSDT", "b": "84000.00", "B": "1", "a": "84001.00", "A": "2"}
    world.send("binance", ticker)
    world.run(30)
    assert len(world.exchange.feed.history["BTC"].seconds.items) <= 7


async def test_a_restart_knows_its_markets_and_follows_them_to_their_real_ends(tmp_path: Path) -> None:
    """A market that was heard of before is known after a restart, by its ids and its slug, and is still resolved."""
    first = World(tmp_path)
    open_market(first)
    await first.record.durable()
    first.record.close()
    again = World(tmp_path)
    assert again.market.window.token_ids == (UP, DOWN)
    assert again.market.reference == 84000.0
    again.now = START + 310_000
    again.send("gamma", gamma(strike=84000.0, winner=1))
    again.run(0.2)
    assert again.market.winner == 1
    again.record.close()


async def test_prices_of_two_makings_do_not_share_a_folder(tmp_path: Path) -> None:
    """What was bought at invented prices cannot end at real ones, nor the other way round: one line says so."""
    World(tmp_path).record.close()
    record = Record(tmp_path)
    with pytest.raises(UsageError, match="was begun with real prices"):
        check_kind(record, "walk")
    record.close()


def test_a_recording_is_shown_in_the_times_of_now_on_the_grid(tmp_path: Path) -> None:
    """Ten times as fast, a window of 5m is one of 30s on the grid of now, and its delay and average are as much shorter."""
    now = 1_796_000_012_345
    times = place(START + 60_000, START + 7_200_000, ("5m", "15m"), 10.0, now)
    assert times.shown(START) % 30_000 == 0
    assert now - 90_000 < times.shown(START - START % 900_000) <= now
    world = World(tmp_path, times)
    world.now = times.shown(START) + 100
    world.send("gamma", gamma(takerDelayMs=150))
    shown = f"btc-updown-30s-{times.shown(START) // 1000}"
    market = world.exchange.market_by_slug(shown)
    assert market is not None
    assert (market.averaging_ms, market.delay_ms) == (6_000, 15)
    world.record.close()
    with pytest.raises(UsageError, match="whole seconds"):
        place(START, START + 1, ("5m",), 7.0, now)
