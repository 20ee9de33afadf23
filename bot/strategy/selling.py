"""What is sold of a position at what price, so that all of it goes, or so much that what is left can still be sold. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from bot.strategy.api import SIZE_STEP
from bot.venue.types import Level


@dataclass(frozen=True, slots=True)
class Sale:
    """A limit price on the tick, and a size in base units of shares."""

    price: Decimal
    size: int


def sale(bids: Iterable[Level], held: int, *, min_size: int, tick: Decimal, floor: Decimal) -> Sale | None:
    """The sale of `held` base units into these bids (best first) for at least `floor` a share; None where nothing can be sold.

    At the price at which the bids take the whole. Where they do not: what they take, but for so much that the rest is not
    below the market's minimum, which the venue may refuse to sell (it says so of resting orders, and took 1.37 shares at once).
    """
    whole = held // SIZE_STEP * SIZE_STEP
    taken, price = 0, None
    for level in bids:
        if level.price < floor or taken >= whole:
            break
        taken, price = taken + level.size, level.price
    if price is None or whole == 0:
        return None
    size = whole
    if taken < whole and whole - taken < min_size <= whole - min_size:
        size = (whole - min_size) // SIZE_STEP * SIZE_STEP
    # A book that is older than a change of the tick may show a price off the tick; lower still meets the same bid.
    return Sale(max(tick, price // tick * tick), size)
