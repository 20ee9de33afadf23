"""Money and shares as integers of base units: 1 pUSD = 1 share = ONE. Pure.

A price is the base units of collateral that one share costs, 0 < price < ONE; 0.52 is 520_000.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

__all__ = ["FEE_EXPONENT", "FEE_RATE", "ONE", "fee", "format_units", "parse_units", "value_ceil", "value_floor"]

ONE = 1_000_000
# The market's `fd` (venue.md 2.3): fee = shares * r * (p * (1 - p)) ** e, takers only.
FEE_RATE = Decimal("0.07")
FEE_EXPONENT = 1
_FEE_PERCENT = 7
_FEE_STEP = 10  # fees are rounded to five decimals


def fee(size: int, price: int) -> int:
    """Return the taker's fee in base units for ``size`` shares at ``price``, rounded half up to five decimals."""
    divisor = 100 * ONE * ONE * _FEE_STEP
    return (size * _FEE_PERCENT * price * (ONE - price) * 2 + divisor) // (2 * divisor) * _FEE_STEP


def value_floor(size: int, price: int) -> int:
    """Return the collateral that ``size`` shares are worth at ``price``, rounded down to a base unit."""
    return size * price // ONE


def value_ceil(size: int, price: int) -> int:
    """Return the collateral that ``size`` shares are worth at ``price``, rounded up to a base unit."""
    return -(-size * price // ONE)


def format_units(units: int) -> str:
    """Return base units as the venue writes decimals: ``520000`` is ``"0.52"``."""
    whole, part = divmod(abs(units), ONE)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"


def parse_units(text: str) -> int:
    """Return the base units of a decimal number.

    Raises:
        ValueError: it is no finite number, or has more than six decimals.
    """
    try:
        units = Decimal(text) * ONE
        exact = units == units.to_integral_value()
    except InvalidOperation:
        exact = False
    if not exact:
        raise ValueError(f"expected a decimal number with up to six decimals, was {text!r}")
    return int(units)
