"""From a price and a size to the two amounts that an order signs. Pure, in integers of base units.

Rules (venue.md 2.3, and the client's own tables): a price is a multiple of the market's tick and lies in
[tick, 1 - tick]; an order that is killed where it would rest (FAK) gives an amount with 2 decimals and asks for one with
at most 4, whatever its side and the tick. The client allows 5 and 6 on fine ticks, and the venue has refused those
(py-clob-client-v2 issue 99; "sell orders maker amount max 2 decimals, taker amount max 4", 2026); so the clamp is ours.
"""

from __future__ import annotations

from decimal import Decimal

from bot.venue.types import BASE_UNITS, OrderRequest
from ledger.values import Side

TICKS = frozenset(Decimal(text) for text in ("0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001"))

_CENT = BASE_UNITS // 100
_FOUR_DECIMALS = BASE_UNITS // 10_000
_FINEST_TICK = BASE_UNITS // 10_000


def order_amounts(request: OrderRequest, tick: Decimal) -> tuple[int, int]:
    """The maker amount (given) and the taker amount (asked for) of an order, both in base units.

    Sizes are rounded down to what the rules allow, so that a BUY never gives more than price * size and never asks for
    more than size. What is rounded off lets a BUY's price lie above the limit by less than the finest tick, and a SELL's
    below it by less than 0.0001 pUSD in all: the other way round neither would match what rests exactly at the price
    (py-sdk issue 291).

    Raises:
        ValueError: the tick is unknown, the price breaks it, or the size rounds to nothing.
    """
    price = _price_units(request.price, tick)
    size = request.size // _CENT * _CENT
    if size <= 0:
        raise ValueError(f"size {request.size} base units is less than 0.01 shares; ask for at least {_CENT}")
    if request.side is Side.SELL:
        asked = price * size // BASE_UNITS // _FOUR_DECIMALS * _FOUR_DECIMALS
        if asked == 0:
            raise ValueError(f"size {request.size} base units at {request.price} is worth less than 0.0001 pUSD")
        return size, asked
    maker = price * size // BASE_UNITS // _CENT * _CENT
    taker = maker * BASE_UNITS // price // _FOUR_DECIMALS * _FOUR_DECIMALS
    if taker == 0 or maker * BASE_UNITS >= taker * (price + _FINEST_TICK):
        raise ValueError(
            f"size {request.size} base units is too small to keep the price {request.price} with 2 decimals"
        )
    return maker, taker


def _price_units(price: Decimal, tick: Decimal) -> int:
    """The price in base units, checked against the tick."""
    if tick not in TICKS:
        raise ValueError(f"tick {tick} is unknown; the venue has {', '.join(str(known) for known in sorted(TICKS))}")
    if not price.is_finite() or not tick <= price <= 1 - tick:
        raise ValueError(f"price {price} lies outside {tick} .. {1 - tick}")
    if price % tick:
        raise ValueError(f"price {price} is not a multiple of the tick {tick}")
    return int(price * BASE_UNITS)
