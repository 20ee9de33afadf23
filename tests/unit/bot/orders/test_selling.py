"""What is sold of a position at what price: all of it, or so much that the rest can be sold."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.strategy.api import SIZE_STEP
from bot.strategy.selling import Sale, sale
from bot.strategy.snipe import Parameters, decide
from bot.venue.types import Level
from ledger.values import Outcome
from paper.engine.book import Book as PaperBook
from paper.engine.book import Order
from paper.engine.matching import Engine
from tests.unit.bot.making import SHARE, inputs

TICK = Decimal("0.01")
MIN = 5 * SHARE

levels = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 60_000)), min_size=0, max_size=5, unique_by=lambda pair: pair[0]
).map(lambda found: tuple(Level(Decimal(p) / 100, s * 1_000) for p, s in sorted(found, reverse=True)))


def made(*bids: tuple[str, float]) -> tuple[Level, ...]:
    """A book's bids."""
    return tuple(Level(Decimal(price), int(size * SHARE)) for price, size in bids)


@pytest.mark.parametrize(
    ("bids", "held", "floor", "price", "size"),
    [
        # The whole, at the price at which it goes.
        ((("0.45", 21), ("0.44", 400)), 25, "0.01", "0.44", 25),
        ((("0.45", 8), ("0.44", 13), ("0.43", 400)), 25, "0.01", "0.43", 25),
        ((("0.45", 400),), 25, "0.01", "0.45", 25),
        # A floor, or a book that takes too little: the part that leaves a rest of the minimum.
        ((("0.45", 21), ("0.44", 400)), 25, "0.45", "0.45", 20),
        ((("0.45", 21),), 25, "0.01", "0.45", 20),
        # A rest that is large enough, or a position that has no such part: the whole is asked for.
        ((("0.45", 12),), 25, "0.01", "0.45", 25),
        ((("0.45", 3),), 4, "0.01", "0.45", 4),
        ((("0.45", 6),), 8, "0.01", "0.45", 8),
        # What is below the minimum is tried, down to the finest size.
        ((("0.45", 400),), 0.05, "0.01", "0.45", 0.05),
    ],
)
def test_the_whole_is_sold_or_what_leaves_a_rest_that_can_be_sold(
    bids: tuple[tuple[str, float], ...], held: float, floor: str, price: str, size: float
) -> None:
    """A thin best level costs no rest below the market's minimum."""
    found = sale(made(*bids), int(held * SHARE), min_size=MIN, tick=TICK, floor=Decimal(floor))
    assert found == Sale(Decimal(price), int(size * SHARE))


@given(levels, st.integers(0, 60_000), st.integers(1, 99))
def test_a_sale_meets_bids_above_its_floor_and_leaves_no_small_rest_that_it_could_avoid(
    bids: tuple[Level, ...], held_thousandths: int, floor_cents: int
) -> None:
    """The size is on its step and held; what the bids leave of it is nothing, or the minimum, wherever a part allows that."""
    held, floor = held_thousandths * 1_000, Decimal(floor_cents) / 100
    found = sale(bids, held, min_size=MIN, tick=TICK, floor=floor)
    whole = held // SIZE_STEP * SIZE_STEP
    if found is None:
        assert whole == 0 or not bids or bids[0].price < floor
        return
    assert found.size % SIZE_STEP == 0
    assert 0 < found.size <= held
    assert floor <= found.price <= bids[0].price
    taken = min(found.size, sum(level.size for level in bids if level.price >= found.price))
    rest = whole - taken
    assert rest == 0 or rest >= MIN or whole < 2 * MIN or taken < found.size


@pytest.mark.parametrize(
    "bids",
    [
        [("0.45", 21), ("0.44", 400)],
        [("0.45", 8), ("0.44", 13), ("0.43", 400)],
        [("0.45", 6), ("0.20", 5), ("0.03", 14)],
        [("0.45", 13), ("0.44", 5), ("0.43", 5), ("0.42", 400)],
    ],
)
@pytest.mark.parametrize("held", [25 * SHARE, 24_987_654])
def test_a_position_is_sold_whole_through_thin_levels(bids: list[tuple[str, int]], held: int) -> None:
    """Snipe's stop at the exchange's own matching: nothing is left but what the step does not take."""
    engine = Engine()
    engine.open(PaperBook("c", ("1", "2"), 10**15))
    engine.deposit("maker", 10**12, "x")
    engine.restore("me", "1", held)
    for n, (price, size) in enumerate(bids):
        price_units = int(Decimal(price) * SHARE)
        engine.place(Order(f"m{n}", "c", "1", "maker", "maker", 0, "BUY", "GTC", price_units, size * SHARE, 0), 0)
    left = held
    for step in range(3):
        levels = tuple(Level(Decimal(p) / SHARE, s) for p, s in engine.books["c"].levels(0)[0])
        decided = decide(
            inputs(held=Outcome.UP, held_shares=left, bids_up=levels, lead_price=59_900.0),
            Parameters(stop_price=0.5, confirmations=1),
        )
        if decided.action != "exit":
            break
        assert decided.price is not None
        units = int(decided.price * SHARE)
        sold = engine.place(Order(f"x{step}", "c", "1", "me", "me", 0, "SELL", "FAK", units, decided.size, 0), 0)
        left -= sum(fill.size for fill in sold.fills)
    assert left < SIZE_STEP
