"""The matching engine under arbitrary orders: money, books, priority."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paper.engine.book import ONE, Book, Order, fee, format_units, parse_units
from paper.engine.matching import CASH, FEES, Engine, Entry, Placement
from paper.errors import RefusedError

TOKENS = ("1001", "1002")
MARKET = "0xmarket"
WALLETS = ("ann", "bob", "cid")
START = 300 * ONE


@dataclass
class Desk:
    """An engine with one market and three wallets."""

    tick: int = 10_000

    def __post_init__(self) -> None:
        self.engine = Engine()
        self.book = Book(MARKET, TOKENS, closes_ms=1_000, tick=self.tick)
        self.engine.open(self.book)
        self.count = 0
        for wallet in WALLETS:
            self.engine.deposit(wallet, START, "start")

    def order(
        self, wallet: str, outcome: int, side: Any, price: int, size: int, kind: Any = "GTC", **more: Any
    ) -> Order:
        self.count += 1
        name = f"{self.count}"
        return Order(name, MARKET, TOKENS[outcome], wallet, wallet, outcome, side, kind, price, size, 0, **more)

    def place(self, *fields: Any, **more: Any) -> Placement:
        return self.engine.place(self.order(*fields, **more), now_ms=0)

    def total(self, asset: str) -> int:
        return sum(held.get(asset, 0) for held in self.engine.balances.values())


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(WALLETS),
        st.integers(0, 1),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 99),
        st.integers(50_000, 600_000),  # hundreds of base units: four decimals, as market orders may have
        st.sampled_from(["GTC", "GTC", "FAK", "FOK"]),
    ),
    max_size=40,
)


def run(desk: Desk, orders: list[tuple[str, int, str, int, int, str]], after: Callable[[Placement], None]) -> None:
    for wallet, outcome, side, step, hundreds, kind in orders:
        try:
            after(desk.place(wallet, outcome, side, step * desk.tick, hundreds * 100, kind))
        except RefusedError:
            continue


@settings(max_examples=150, deadline=None)
@given(orders=ORDERS, tick=st.sampled_from([10_000, 1_000]), winner=st.integers(0, 1))
def test_money_is_conserved_to_the_base_unit(orders: list[Any], tick: int, winner: int) -> None:
    """Cash plus the collateral of complete sets never changes; Up and Down shares stay equal; settling empties both."""
    desk = Desk(tick)

    def check(_: Placement) -> None:
        sets = desk.total(TOKENS[0])
        assert sets == desk.total(TOKENS[1])
        assert desk.total(CASH) + sets == START * len(WALLETS)
        assert all(desk.engine.available(wallet, asset) >= 0 for wallet in WALLETS for asset in (CASH, *TOKENS))

    run(desk, orders, check)
    for oid in [*desk.engine.orders]:
        desk.engine.cancel(oid)
    assert all(desk.engine.available(who, CASH) == desk.engine.balance(who, CASH) for who in WALLETS)
    desk.engine.settle(MARKET, (0, ONE) if winner else (ONE, 0))
    assert desk.total(CASH) == START * len(WALLETS)
    assert desk.total(TOKENS[0]) == desk.total(TOKENS[1]) == 0


@settings(max_examples=150, deadline=None)
@given(orders=ORDERS, failing=st.sets(st.integers(0, 30)), when=st.integers(1, 40))
def test_failed_matches_are_undone_to_the_base_unit(orders: list[Any], failing: set[int], when: int) -> None:
    """Matches that fail some orders later give everything back, and until then nobody can spend what they brought."""
    desk, count = Desk(), 0
    waiting: list[tuple[int, list[Entry], list[tuple[str, str, int]]]] = []

    def undo() -> None:
        _, entries, frozen = waiting.pop(0)
        for bound in frozen:
            desk.engine.release(*bound)
        desk.engine.reverse(entries)

    def try_to_sell(wallet: str, token_id: str) -> None:
        """A wallet whose shares all come from matches that will fail has nothing to sell."""
        moved = [one for _, entries, _ in waiting for one in entries if (one.wallet, one.asset) == (wallet, token_id)]
        brought = sum(max(0, one.amount) for one in moved)
        if desk.engine.balance(wallet, token_id) == brought >= 5 * ONE:
            with pytest.raises(RefusedError, match="not enough balance"):
                desk.place(wallet, TOKENS.index(token_id), "SELL", 10_000, 5 * ONE)

    def check(placement: Placement) -> None:
        nonlocal count
        for fill in placement.fills:
            entries = [one for one in placement.entries if one.ref == fill.ref]
            if count in failing:
                waiting.append((desk.count + when, entries, desk.engine.freeze(entries)))
                try_to_sell(fill.taker.wallet, fill.taker.token_id)
            count += 1
        while waiting and waiting[0][0] <= desk.count:
            undo()
        sets = desk.total(TOKENS[0])
        assert sets == desk.total(TOKENS[1])
        assert desk.total(CASH) + sets == START * len(WALLETS)
        assert all(desk.engine.available(wallet, asset) >= 0 for wallet in WALLETS for asset in (CASH, *TOKENS))

    run(desk, orders, check)
    everything_failed = failing >= set(range(count))
    while waiting:
        undo()
    if everything_failed:
        assert all(desk.engine.balance(wallet, CASH) == START for wallet in WALLETS)
        assert desk.total(TOKENS[0]) == 0


@settings(max_examples=150, deadline=None)
@given(orders=ORDERS)
def test_changes_rebuild_the_book(orders: list[Any]) -> None:
    """Whoever applies the changes that a book reports has its levels, and these are the sums of its resting orders."""
    desk, shown = Desk(), dict[tuple[bool, int], int]()

    def check(_: Placement) -> None:
        if desk.count % 3 == 0 and desk.engine.orders:
            desk.engine.cancel(next(iter(desk.engine.orders)))
        shown.update({(is_bid, price): size for is_bid, price, size in desk.book.take_changes()})
        bids, asks = desk.book.levels(0)
        held = {(True, price): size for price, size in bids} | {(False, price): size for price, size in asks}
        assert {level: size for level, size in shown.items() if size} == held
        sums: dict[tuple[bool, int], int] = {}
        for order in desk.book.orders():
            level = (order.is_bid, order.up_price)
            sums[level] = sums.get(level, 0) + order.remaining
        assert sums == held

    run(desk, orders, check)


@settings(max_examples=150, deadline=None)
@given(orders=ORDERS)
def test_book_never_crosses_and_fills_keep_their_word(orders: list[Any]) -> None:
    """After every order best bid < best ask; no fill is worse than the taker's limit; FOK is all or nothing, FAK never rests."""
    desk = Desk()

    def check(placement: Placement) -> None:
        order, done = placement.order, sum(fill.size for fill in placement.fills)
        bids, asks = desk.book.levels(0)
        assert not bids or not asks or bids[0][0] < asks[0][0]
        for fill in placement.fills:
            assert fill.taker_price <= order.price if order.side == "BUY" else fill.taker_price >= order.price
            assert abs(fill.taker_value - fill.size * fill.taker_price / ONE) <= 1
        assert order.filled == done
        assert done == order.size if order.order_type == "FOK" else done <= order.size
        assert placement.resting == (order.order_type == "GTC" and done < order.size)

    run(desk, orders, check)


def test_priority_is_price_then_time() -> None:
    """The best price is met first, and of equal prices the older order, whichever token it was written in."""
    desk = Desk()
    late = [
        desk.place("ann", 1, "BUY", 400_000, 10 * ONE),  # offers Up at 0.60
        desk.place("bob", 1, "BUY", 450_000, 10 * ONE),  # offers Up at 0.55
        desk.place("ann", 1, "BUY", 450_000, 10 * ONE),
    ]
    placement = desk.place("cid", 0, "BUY", 600_000, 25 * ONE)
    assert [fill.maker.order_id for fill in placement.fills] == [late[n].order.order_id for n in (1, 2, 0)]
    assert [fill.size for fill in placement.fills] == [10 * ONE, 10 * ONE, 5 * ONE]
    assert [fill.taker_price for fill in placement.fills] == [550_000, 550_000, 600_000]


def test_taker_pays_the_fee_of_the_market() -> None:
    """The fee is shares * 0.07 * p * (1 - p), rounded to five decimals, and the maker pays none (venue.md 2.3)."""
    desk = Desk()
    desk.place("ann", 1, "BUY", 500_000, 100 * ONE)
    desk.place("bob", 0, "BUY", 500_000, 100 * ONE)
    assert fee(100 * ONE, 500_000) == 1_750_000
    assert fee(7 * ONE, 130_000) == 55_410  # 0.055419 is cut to 0.05541
    assert desk.engine.balance("bob", CASH) == START - 50 * ONE - 1_750_000
    assert desk.engine.balance("ann", CASH) == START - 50 * ONE
    assert desk.engine.balance(FEES, CASH) == 1_750_000


def test_four_kinds_of_match() -> None:
    """Bid meets ask as a transfer of Up, a mint, a merge, or a transfer of Down."""
    desk = Desk()
    desk.place("ann", 1, "BUY", 400_000, 20 * ONE)
    desk.place("bob", 0, "BUY", 600_000, 20 * ONE)  # mint: ann Down, bob Up
    desk.place("bob", 0, "SELL", 500_000, 10 * ONE)
    desk.place("cid", 0, "BUY", 500_000, 10 * ONE)  # Up changes hands
    desk.place("ann", 1, "SELL", 500_000, 5 * ONE)
    desk.place("cid", 1, "BUY", 500_000, 5 * ONE)  # Down changes hands
    assert desk.total(TOKENS[0]) == 20 * ONE
    desk.place("ann", 1, "SELL", 300_000, 10 * ONE)
    desk.place("bob", 0, "SELL", 700_000, 10 * ONE)  # merge
    assert desk.total(TOKENS[0]) == 10 * ONE
    held = [[desk.engine.balance(who, token) // ONE for token in TOKENS] for who in WALLETS]
    assert held == [[0, 5], [0, 0], [10, 5]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"price": 505_000}, "breaks minimum tick size rule: 0.01"),
        ({"price": ONE}, "breaks minimum tick size rule"),
        ({"size": 4_990_000}, "Size \\(4.99\\) lower than the minimum: 5"),
        ({"size": 1_000 * ONE}, "not enough balance / allowance"),
        ({"side": "SELL"}, "not enough balance / allowance"),
        ({"expires_ms": 0}, "invalid expiration"),
        ({"post_only": True, "price": 600_000}, "order crosses book"),
        ({"order_type": "FOK", "price": 600_000, "size": 50 * ONE}, "fully filled or killed"),
        ({"order_type": "FAK"}, "no orders found to match"),
        ({"condition_id": "0xother"}, "market is closed"),
    ],
)
def test_refused_orders_change_nothing(change: dict[str, Any], text: str) -> None:
    """A refusal carries the venue's text and leaves books and balances as they were."""
    desk = Desk()
    desk.place("ann", 1, "BUY", 400_000, 10 * ONE)
    order = desk.order("bob", 0, "BUY", 500_000, 10 * ONE)
    for name, value in change.items():
        setattr(order, name, value)
    before = repr((desk.engine.balances, desk.book, desk.engine.orders))
    with pytest.raises(RefusedError, match=text):
        desk.engine.place(order, now_ms=0)
    assert repr((desk.engine.balances, desk.book, desk.engine.orders)) == before


@pytest.mark.parametrize(
    ("bid", "ask", "finer"),
    [(950_000, 970_000, False), (960_000, 970_000, True), (30_000, 50_000, False), (30_000, 40_000, True)],
)
def test_tick_becomes_finer_beyond_the_edges_and_goes_back(bid: int, ask: int, finer: bool) -> None:
    """With its middle beyond 0.96 or below 0.04 a market's tick becomes 0.001, and 0.01 again well inside of them."""
    desk = Desk()
    desk.place("ann", 0, "BUY", bid, 10 * ONE)
    desk.place("bob", 1, "BUY", ONE - ask, 10 * ONE)
    assert [desk.book.change_tick(), desk.book.change_tick()] == [finer, False]
    for oid in [*desk.engine.orders]:
        desk.engine.cancel(oid)
    assert desk.book.change_tick() is False, "an empty book says nothing"
    assert desk.book.tick == (1_000 if finer else 10_000)
    for price, changes in ((50_000, False), (60_000, finer), (500_000, False)):
        desk.place("ann", 0, "BUY", price - 10_000, 10 * ONE)
        desk.place("bob", 1, "BUY", ONE - price - 10_000, 10 * ONE)
        assert desk.book.change_tick() is changes
        for oid in [*desk.engine.orders]:
            desk.engine.cancel(oid)
    assert desk.book.tick == 10_000


def test_money_is_bound_while_an_order_is_held() -> None:
    """A hold binds what the order may cost with its fee; releasing it gives all of that back."""
    desk = Desk()
    order = desk.order("ann", 0, "BUY", 500_000, 100 * ONE)
    asset, amount = desk.engine.hold(order, 0)
    assert (asset, amount) == (CASH, 50 * ONE + 1_750_000)
    assert desk.engine.available("ann", CASH) == START - amount
    with pytest.raises(RefusedError, match="not enough balance"):
        desk.engine.hold(desk.order("ann", 0, "BUY", 500_000, 500 * ONE), 0)
    desk.engine.release("ann", asset, amount)
    assert desk.engine.available("ann", CASH) == START


def test_order_entry_closes_at_the_windows_end() -> None:
    """From the closing time on, orders are refused."""
    desk = Desk()
    with pytest.raises(RefusedError, match="market is closed"):
        desk.engine.place(desk.order("bob", 0, "BUY", 500_000, 10 * ONE), now_ms=1_000)


@given(st.integers(-(10**15), 10**15))
def test_decimals_are_exact_both_ways(units: int) -> None:
    """Base units survive being written as a decimal and read again."""
    assert parse_units(format_units(units)) == units


def test_a_budget_is_spent_and_brings_more_shares_at_a_better_price() -> None:
    """On chain: 100 pUSD at a limit of 0.90 met makers at 0.89 and brought 112.3595 shares (transaction 0x3de15f3d)."""
    desk = Desk()
    for size in (21_940_000, 5_000_000, 297_000_000):
        desk.place("bob", 1, "BUY", 110_000, size)
    bought = desk.place("ann", 0, "BUY", 900_000, 111_111_100, "FOK", budget=100 * ONE)
    shares, paid = sum(one.size for one in bought.fills), sum(one.taker_value for one in bought.fills)
    assert (shares // 100, paid) == (1_123_595, 99_999_999)
    assert [one.size for one in bought.fills[:2]] == [21_940_000, 5_000_000]
    assert desk.engine.balance("ann", TOKENS[0]) == shares


def test_a_budget_that_finds_too_little_kills_a_fok_and_not_a_fak() -> None:
    """Ten shares at a half are 5 pUSD; a FOK of 6 is refused, a FAK of 6 spends 5."""
    desk = Desk()
    desk.place("bob", 1, "BUY", 500_000, 10 * ONE)
    with pytest.raises(RefusedError, match="FOK orders are fully filled or killed"):
        desk.place("ann", 0, "BUY", 600_000, 10 * ONE, "FOK", budget=6 * ONE)
    (fill,) = desk.place("ann", 0, "BUY", 600_000, 10 * ONE, "FAK", budget=6 * ONE).fills
    assert (fill.size, fill.taker_value) == (10 * ONE, 5 * ONE)


@settings(max_examples=150, deadline=None)
@given(
    orders=ORDERS,
    budgets=st.lists(st.integers(1_000_000, 60_000_000), max_size=20),
    tick=st.sampled_from([10_000, 1_000]),
)
def test_no_budget_is_overspent_nor_money_made(orders: list[Any], budgets: list[int], tick: int) -> None:
    """Whatever rests, a purchase pays at most its budget and its fee, and money is conserved to the base unit."""
    desk = Desk(tick)
    run(desk, orders, lambda _: None)
    for number, budget in enumerate(budgets):
        limit = (number % 98 + 1) * desk.tick
        order = desk.order("ann", number % 2, "BUY", limit, 5 * ONE, "FAK", budget=budget)
        try:
            fills = desk.engine.place(order, now_ms=0).fills
        except RefusedError:
            continue
        assert sum(fill.taker_value for fill in fills) <= budget
        assert all(fill.taker_price <= limit for fill in fills)
    sets = desk.total(TOKENS[0])
    assert sets == desk.total(TOKENS[1])
    assert desk.total(CASH) + sets == len(WALLETS) * START


def test_a_small_rest_can_be_sold_at_once() -> None:
    """The least of 5 shares is for orders that rest; 1.37 shares go as a FAK, unless the engine is told otherwise."""
    desk = Desk()
    desk.place("bob", 1, "BUY", 500_000, 10 * ONE)
    desk.place("ann", 0, "BUY", 500_000, 10 * ONE)
    desk.place("cid", 0, "BUY", 400_000, 10 * ONE)
    with pytest.raises(RefusedError, match="lower than the minimum: 5"):
        desk.place("ann", 0, "SELL", 400_000, 1_370_000)
    assert desk.place("ann", 0, "SELL", 400_000, 1_370_000, "FAK").fills
    desk.engine.small_takers = False
    with pytest.raises(RefusedError, match="lower than the minimum: 5"):
        desk.place("ann", 0, "SELL", 400_000, 1_370_000, "FAK")


@pytest.mark.parametrize(
    ("shares", "price", "paid"),
    [
        (112_359_545, 890_000, 769_990),
        (539_000_000, 990_000, 373_520),
        (108_000_000, 360_000, 1_741_820),
        (1_219_511, 820_000, 12_590),
        (2_083_334, 480_000, 36_400),
        (5_149_310, 971_000, 10_140),
        (5_140_000, 965_000, 12_150),
    ],
)
def test_fees_are_those_of_the_chain(shares: int, price: int, paid: int) -> None:
    """OrderFilled events of September and October 2026 (pb stages 0 and 4; nautilus_trader chain_order_filled_taker_fees)."""
    assert fee(shares, price) == paid
