"""A mirrored book offers what the real one offers, less what was taken; resting orders wait their turn."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from paper.engine.book import ONE, Book, Order
from paper.engine.market_maker import PURSES
from paper.engine.matching import CASH, Engine
from paper.mirror.books import MirroredBook

TOKENS = ("11", "22")
USER = "0x00000000000000000000000000000000000000aa"
BID, ASK = 480_000, 520_000


class World:
    """One market with its mirror, and a user with money and shares."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.book = Book("0xc", TOKENS, closes_ms=10**15, tick=10_000)
        self.engine.open(self.book)
        names = itertools.count()
        self.mirror = MirroredBook(self.engine, self.book, lambda: f"house {next(names)}")
        self.count = itertools.count()
        self.now = 1_000_000
        for purse in PURSES:
            self.engine.deposit(purse, 10**15, "house")
        self.engine.deposit(USER, 10**12, "user")
        for token in TOKENS:
            self.engine.restore(USER, token, 10**12)

    def order(self, outcome: int, side: str, price: int, shares: float, kind: str = "FAK") -> Order:
        name = f"user {next(self.count)}"
        size = round(shares * ONE)
        return Order(
            *(name, "0xc", TOKENS[outcome], USER, USER, outcome, side, kind, price, size, self.now)  # type: ignore[arg-type]
        )

    def take(self, shares: float, price: int = ASK) -> float:
        """Buy Up; return the shares that were there."""
        if not self.engine.crosses(order := self.order(0, "BUY", price, shares)):
            return 0.0
        return sum(fill.size for fill in self.engine.place(order, self.now).fills) / ONE

    def rest(self, shares: float, price: int = BID) -> Order:
        order = self.order(0, "BUY", price, shares, "GTC")
        assert self.engine.place(order, self.now).resting
        return order

    def set(self, *levels: tuple[bool, int, float]) -> float:
        """New sizes of levels; the shares that users' resting orders were filled with."""
        done = self.mirror.apply([((is_bid, price), round(n * ONE)) for is_bid, price, n in levels], self.now)
        return sum(fill.size for placement in done for fill in placement.fills) / ONE

    def trade(self, shares: float, price: int = BID, *, lifts: bool = False) -> float:
        done = self.mirror.trade(lifts_asks=lifts, up_price=price, size=round(shares * ONE), now_ms=self.now)
        return sum(fill.size for placement in done for fill in placement.fills) / ONE

    def asks(self) -> dict[int, float]:
        return {price: size / ONE for price, size in self.book.levels(0)[1]}


def test_what_was_taken_is_not_there_again_until_the_book_moves() -> None:
    """A level that is told of again as it was stays empty; what comes to it is there; gone and come back, it is all there."""
    world = World()
    world.set((False, ASK, 100))
    assert world.take(60) == 60
    world.set((False, ASK, 100))
    assert world.asks() == {ASK: 40}
    assert world.take(100) == 40
    world.set((False, ASK, 100))
    assert world.asks() == {}
    world.set((False, ASK, 130))  # thirty came
    assert world.asks() == {ASK: 30}
    world.set((False, ASK, 20))  # others took or left: no more than twenty are there
    assert world.asks() == {ASK: 20}
    world.set((False, ASK, 0))
    world.set((False, ASK, 100))
    assert world.asks() == {ASK: 100}


def test_a_snapshot_with_the_same_sizes_gives_nothing_back() -> None:
    """After a reconnection the book is sent whole; what was taken from it stays taken, and levels that are gone go."""
    world = World()
    world.set((False, ASK, 100), (False, 530_000, 50), (True, BID, 10))
    assert world.take(70) == 70
    world.mirror.snapshot([(BID, 10 * ONE)], [(ASK, 100 * ONE)], world.now)
    assert world.asks() == {ASK: 30}
    assert world.book.levels(0)[0] == [(BID, 10 * ONE)]


def test_an_order_is_filled_over_the_depth_that_is_there() -> None:
    """Several levels are taken best first; Down is bought from those who bid for Up."""
    world = World()
    world.set((False, ASK, 10), (False, 530_000, 10), (False, 540_000, 10), (True, BID, 7))
    assert world.take(25, 530_000) == 20
    down = world.engine.place(world.order(1, "BUY", ONE - BID, 20), world.now)
    assert [(fill.size, fill.taker_price) for fill in down.fills] == [(7 * ONE, ONE - BID)]


def test_a_resting_order_waits_behind_what_was_there_before_it() -> None:
    """Trades at its price first pass what stood ahead; others who leave stood behind; a smaller level brings it forward."""
    world = World()
    world.set((True, BID, 100))
    order = world.rest(20)
    assert world.trade(60) == 0
    world.set((True, BID, 40))  # the level after that trade
    assert world.trade(30) == 0
    world.set((True, BID, 10))
    world.now += 10_000
    assert world.trade(15) == 5
    assert order.filled == 5 * ONE
    assert world.trade(50) == 15


def test_a_level_that_shrank_before_its_trade_was_told_of_counts_once() -> None:
    """The venue may send the smaller level first: the queue moves by the trade, not by both."""
    world = World()
    world.set((True, BID, 100))
    world.rest(20)
    world.set((True, BID, 40))
    assert world.trade(60) == 0
    assert world.trade(39) == 0
    assert world.trade(2) == 1


def test_a_trade_through_its_price_fills_a_better_order_at_its_own_price() -> None:
    """Whoever sold at less would have met it first, whatever stands ahead at worse prices."""
    world = World()
    world.set((True, BID, 100))
    world.rest(20, 490_000)
    before = world.engine.balance(USER, CASH)
    assert world.trade(8, BID) == 8
    assert before - world.engine.balance(USER, CASH) == 8 * 490_000


def test_offers_that_come_to_a_resting_order_meet_it() -> None:
    """An ask that appears at or below a resting bid fills it, and what filled it is not offered besides."""
    world = World()
    world.set((False, ASK, 100), (True, BID, 5))
    order = world.rest(30, 500_000)
    assert world.set((False, 490_000, 12)) == 12
    assert order.filled == 12 * ONE
    assert world.asks() == {ASK: 100}
    assert world.set((False, 490_000, 40)) == 18
    assert world.asks() == {490_000: 10, ASK: 100}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "take", "rest", "trade"]),
            st.booleans(),
            st.sampled_from([470_000, 480_000, 490_000, 500_000, 510_000, 520_000]),
            st.integers(0, 40),
        ),
        max_size=60,
    )
)
def test_the_book_never_crosses_and_money_is_conserved(steps: list[tuple[str, bool, int, int]]) -> None:
    """Whatever comes in whatever order: no level offers more than the real one, and no base unit comes from nowhere."""
    world = World()
    for kind, is_bid, price, shares in steps:
        if kind == "set":
            is_bid = price < 500_000  # as the real book is not crossed
            world.set((is_bid, price, shares))
        elif kind == "take" and shares >= 5:
            world.take(shares, price)
        elif kind == "rest" and shares >= 5 and not world.engine.crosses(world.order(0, "BUY", price, shares, "GTC")):
            world.rest(shares, price)
        elif kind == "trade" and shares:
            world.trade(shares, price, lifts=is_bid)
        bid, ask = world.book.best(0)
        assert bid < ask
        for level, name in world.mirror.orders.items():
            order = world.engine.orders.get(name)
            assert order is None or 0 < order.remaining <= world.mirror.sizes[level]
    sets = [sum(held.get(token, 0) for held in world.engine.balances.values()) - 10**12 for token in TOKENS]
    assert sets[0] == sets[1]
    assert sum(held.get(CASH, 0) for held in world.engine.balances.values()) + sets[0] == 2 * 10**15 + 10**12
