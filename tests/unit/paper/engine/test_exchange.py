"""The whole exchange without its wire, under a virtual clock."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polymarket._internal.protocol import decode_v2_outcome_position_id, is_v2_position_id

from paper.engine.book import ONE, Book, Order
from paper.engine.exchange import Exchange
from paper.engine.faults import FaultOrder
from paper.engine.markets import Markets, Window
from paper.engine.matching import CASH, Engine
from paper.engine.prices import ASSETS, History
from paper.engine.record import Record
from paper.wire.clob import _market as clob_market
from paper.wire.gamma import _market
from tests.plain import plain_settings

NOW = 1_795_000_200_000


class World:
    """An exchange, and the time that it believes in (UTC ms)."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.now = NOW
        self.record = Record(folder)
        values = {"data": folder, "timeframes": ("5s",), "resolution_delay": 1.0} | options
        self.exchange = Exchange(plain_settings(**values), self.record, {}, lambda: self.now)
        self.exchange.start()

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds * 10)):
            self.now += 100
            self.exchange.tick()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.record.close()


async def test_every_window_ends_with_the_outcome_of_its_average(world: World) -> None:
    """Windows are opened, resolved and paid one after the other; Up wins exactly where the final price is not below."""
    world.run(22)
    await world.record.durable()
    rows = world.record.query(
        "SELECT reference, final, winner, end_ms, resolved_ms FROM markets WHERE winner IS NOT NULL"
    )
    assert len(rows) >= 3 * len(ASSETS)
    for reference, final, winner, end_ms, resolved_ms in rows:
        assert isinstance(reference, float)
        assert isinstance(final, float)
        assert isinstance(end_ms, int)
        assert isinstance(resolved_ms, int)
        assert winner == (0 if final >= reference else 1)
        assert 1_000 <= resolved_ms - end_ms <= 1_600
    delays = {row[4] - row[3] for row in rows}  # type: ignore[operator]  # integers, as seen above
    assert len(delays) > 3, "the resolution takes as long for every window"


async def test_no_money_is_made_or_lost_while_the_house_trades(world: World) -> None:
    """After any number of windows, all cash and the collateral in open sets are what the house began with."""
    for _ in range(3):
        world.run(7)
        engine = world.exchange.engine
        cash = sum(held.get(CASH, 0) for held in engine.balances.values())
        sets = sum(
            held.get(book.token_ids[0], 0) for held in engine.balances.values() for book in engine.books.values()
        )
        assert cash + sets == 2 * 10**15
    assert world.exchange.engine.balance("fees", CASH) > 0, "nothing was traded"


async def test_late_resolution_delays_the_windows_it_was_armed_for(world: World) -> None:
    """The fault adds its seconds to the next window that ends, and to no other."""
    (fault,) = FaultOrder(kind="late_resolution", seconds=4.0).faults(world.now)
    world.exchange.faults.arm(fault)
    world.run(12)
    await world.record.durable()
    delays = sorted(
        resolved - end  # type: ignore[operator]  # integer columns
        for end, resolved in world.record.query("SELECT end_ms, resolved_ms FROM markets WHERE winner IS NOT NULL")
    )
    assert [delay > 4_900 for delay in delays].count(True) == 1


async def test_order_of_a_far_window_ends_with_its_time(world: World) -> None:
    """A GTD order expires on time, however far ahead its window is."""
    market = world.exchange.market_by_slug(f"btc-updown-5s-{(NOW + 3_600_000) // 1000}")
    assert market is not None
    condition, token = market.window.condition_id, market.window.token_ids[0]
    world.exchange.markets.book(market)
    order = Order("0x1", condition, token, "ann", "ann", 0, "BUY", "GTD", ONE // 2, 5 * ONE, NOW, NOW + 2_000)
    world.exchange.engine.rest(order)
    world.run(1.5)
    assert "0x1" in world.exchange.engine.orders
    world.run(1)
    assert "0x1" not in world.exchange.engine.orders


async def test_a_market_of_protocol_v2_is_known_again_after_a_restart(tmp_path: Path) -> None:
    """Its position ids hold their condition (polymarket-client decodes them), whatever the settings say by then."""
    slug = f"btc-updown-5m-{NOW // 300_000 * 300}"
    world = World(tmp_path, v2_markets=1)
    market = world.exchange.market_by_slug(slug)
    assert market is not None
    up, down = market.window.token_ids
    decoded = [decode_v2_outcome_position_id(one) for one in (up, down)]
    assert [one.outcome_index for one in decoded] == [0, 1]
    assert {one.condition_id + "00" for one in decoded} == {market.window.condition_id}
    assert is_v2_position_id(up)
    world.record.close()
    again = World(tmp_path, v2_markets=0)
    found = again.exchange.markets.of_token(down, NOW)
    assert found is not None
    assert found.window == market.window
    again.record.close()


async def test_a_voided_window_pays_a_half_for_each_share(tmp_path: Path) -> None:
    """Nobody wins: both outcomes show 0.5, and ten shares of each pay five."""
    world = World(tmp_path, void_windows=1, house=False)
    market = world.exchange.market_by_slug(f"btc-updown-5s-{NOW // 1000}")
    assert market is not None
    engine, tokens = world.exchange.engine, market.window.token_ids
    world.exchange.markets.book(market)
    for wallet, outcome in (("ann", 0), ("bob", 1)):
        engine.deposit(wallet, 100 * ONE, "start")
        name = f"0x{outcome}"
        order = Order(
            name,
            market.window.condition_id,
            tokens[outcome],
            wallet,
            wallet,
            outcome,
            "BUY",
            "GTC",
            ONE // 2,
            10 * ONE,
            NOW,
        )
        engine.place(order, NOW)
    before = [engine.balance(wallet, CASH) for wallet in ("ann", "bob")]
    world.run(8)
    assert market.is_void
    assert [engine.balance(wallet, CASH) for wallet in ("ann", "bob")] == [cash + 5 * ONE for cash in before]
    shown = _market(world.exchange, market)
    assert (shown["outcomePrices"], shown["closed"]) == ('["0.5", "0.5"]', True)
    tokens_shown: Any = clob_market(world.exchange, market)["tokens"]
    assert [(one["price"], one["winner"]) for one in tokens_shown] == [(0.5, False)] * 2
    world.record.close()


async def test_a_strike_is_the_average_before_the_start_and_comes_late_or_never(tmp_path: Path) -> None:
    """It is the final price of the window before; Gamma shows it 20 to 90 s late, in shorter windows in proportion."""
    world = World(tmp_path, strike="average", strike_delay=20, strike_spread=3.5, twap="5s=2")
    first, second = (world.exchange.market_by_slug(f"btc-updown-5s-{NOW // 1000 + at}") for at in (0, 5))
    assert first is not None
    assert second is not None
    late_ms = (second.strike_ms or 0) - second.window.start_ms
    assert 20_000 / 60 <= late_ms <= 90_000 / 60
    usual = Window("BTC", "5m", NOW // 300_000 * 300_000)
    assert 20_000 <= (world.exchange.markets._new(usual).strike_ms or 0) - usual.start_ms <= 90_000
    world.run(7)
    assert first.final == second.reference
    shown = [second.strike(second.window.start_ms + at) for at in (0, late_ms - 1, late_ms)]
    assert shown == [None, None, second.reference]
    world.record.close()
    never = World(tmp_path / "never", strike_missing=1)
    market = never.exchange.market_by_slug(f"btc-updown-5s-{NOW // 1000}")
    assert market is not None
    never.run(2)
    assert (market.reference is None, market.strike(NOW + 10**9)) == (False, None)
    never.record.close()


async def test_the_average_is_as_long_as_the_market_says(tmp_path: Path) -> None:
    """Its length is a field of the market, by timeframe; 0 takes the last price (hourly windows have no average)."""
    world = World(tmp_path, twap="15m=30,1m=0")
    found = {}
    for timeframe, seconds in (("5m", 60), ("15m", 30), ("1m", 0)):
        market = world.exchange.market_by_slug(f"btc-updown-{timeframe}-{NOW // 900_000 * 900}")
        assert market is not None
        config = _market(world.exchange, market)["cryptoMarketConfig"]
        found[timeframe] = config["twapEnabled"], config["twapLookbackSeconds"]  # type: ignore[index]  # a dictionary
        assert found[timeframe] == (seconds > 0, seconds)
    world.record.close()


async def test_finer_tick_is_for_good(tmp_path: Path) -> None:
    """A market at the edge has the finer tick after a restart too, while its book is empty."""
    world = World(tmp_path, house=False)
    market = world.exchange.market_by_slug(f"btc-updown-5s-{NOW // 1000}")
    assert market is not None
    condition, (up, _) = market.window.condition_id, market.window.token_ids
    for name, outcome, price in (("0x1", 0, 980_000), ("0x2", 1, 10_000)):
        token = market.window.token_ids[outcome]
        order = Order(name, condition, token, "ann", "ann", outcome, "BUY", "GTC", price, 5 * ONE, NOW)
        world.exchange.markets.book(market)
        world.exchange.engine.rest(order)
    world.run(0.1)
    world.record.close()
    again = World(tmp_path, house=False)
    found = again.exchange.markets.of_token(up, NOW)
    assert found is not None
    assert again.exchange.book(found).tick == 1_000
    again.record.close()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 10**6))
def test_late_markets_are_hidden_until_they_appear(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int) -> None:
    """A late market is found by nobody before its time, which lies in the first third of its window; others always."""
    record = Record(tmp_path_factory.mktemp("late"))
    window = Window("ETH", "5m", n * 300_000)
    for late in (0.0, 1.0):
        given: dict[str, Any] = {"late_markets": late, "seed": seed}
        markets = Markets(plain_settings(**given), record, {asset: History() for asset in ASSETS}, Engine())
        seen = [markets.is_visible(window, window.start_ms + at) for at in (-1, 0, 50_000, 100_000)]
        assert seen == sorted(seen)
        assert (seen[0], seen[-1]) == (late == 0.0, True)
        assert (markets.by_slug(window.slug, window.start_ms - 1) is None) == (late == 1.0)
    record.close()


def test_share_of_late_windows_is_as_asked() -> None:
    """Of many windows about the share asked for is late, and always the same ones."""
    windows = [Window(asset, "5m", n * 300_000) for asset in ASSETS for n in range(1, 1_000)]
    late = [window.draw("late", 7) < 0.1 for window in windows]
    assert sum(late) / len(late) == pytest.approx(0.1, abs=0.02)
    assert late == [window.draw("late", 7) < 0.1 for window in windows]


def _trade_one_window(engine: Engine, number: int) -> None:
    """A window's life: orders of three wallets, some matched, some left, all ended, settled."""
    book = Book(f"0x{number}", (f"{number}1", f"{number}2"), closes_ms=1)
    engine.open(book)
    for count in range(8):
        wallet, outcome = ("ann", "bob", "cid")[count % 3], count % 2
        price = (300_000, 600_000, 450_000, 550_000)[count % 4]
        size, name, token = 10 * ONE, f"{number}:{count}", book.token_ids[outcome]
        order = Order(name, book.condition_id, token, wallet, wallet, outcome, "BUY", "GTC", price, size, 0)
        engine.place(order, 0)
    for order in book.orders():
        engine.cancel(order.order_id)
    engine.settle(book.condition_id, (0, ONE) if number % 2 else (ONE, 0))


def test_memory_is_flat_over_ten_thousand_windows() -> None:
    """Nine thousand windows more leave nothing behind: no book, no order, no token, no allocated block."""
    engine = Engine()
    for wallet in ("ann", "bob", "cid"):
        engine.deposit(wallet, 10**12, "start")
    for number in range(1_000):
        _trade_one_window(engine, number)
    gc.collect()
    before = sys.getallocatedblocks()
    for number in range(1_000, 10_000):
        _trade_one_window(engine, number)
    gc.collect()
    assert sys.getallocatedblocks() - before < 2_000  # one object a window would be five times that
    assert (engine.books, engine.orders) == ({}, {})
    assert {asset for held in engine.balances.values() for asset in held} == {CASH}
