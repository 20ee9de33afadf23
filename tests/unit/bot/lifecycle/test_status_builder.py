"""What status says of a position: its own cost, value and result, whatever was sold of it before."""

from __future__ import annotations

from decimal import Decimal

from bot.lifecycle.status_builder import _position
from bot.venue.types import Book, Level
from ledger.results import Fill, sales_of
from ledger.rows import Position
from ledger.values import Outcome

HELD = Position("BTC-5m", "w", 1, "c", "t", Outcome.UP, 4_000_000, -900_000, 100_000, ())


def test_a_position_has_the_result_of_what_is_left_of_it() -> None:
    """Ten bought at 0.50, six sold at 0.98: what is left is worth what four fetch, and cost what four cost."""
    fills = [
        Fill("w", "Up", "BUY", 10_000_000, 5_000_000, 100_000, 1),
        Fill("w", "Up", "SELL", 6_000_000, 5_880_000, 0, 2),
    ]
    left = sales_of(fills).lots["w", "Up"]
    bids = {"t": Book("t", (Level(Decimal("0.60"), 9_000_000),), (), 1)}
    said = _position(HELD, left.cost, bids)
    assert (said.cost, said.value, said.average) == (Decimal("2.04"), Decimal("2.40"), Decimal("0.51"))
    assert said.pnl == Decimal("0.36")


def test_without_a_bid_a_position_has_neither_value_nor_result() -> None:
    """Nothing is made up."""
    said = _position(HELD, 2_040_000, {})
    assert (said.value, said.pnl, said.average) == (None, None, Decimal("0.51"))
