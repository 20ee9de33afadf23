"""Values that the ledger and a venue's adapter share.

Units as in `bot.venue.types`: prices are `Decimal` in pUSD a share, sizes and fees integers in base units, times UTC ms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """The side of an order."""

    BUY = "BUY"
    SELL = "SELL"


class Outcome(StrEnum):
    """How a window may resolve, and which of its two tokens is meant."""

    UP = "Up"
    DOWN = "Down"


FAILED = "FAILED"
"""The status of a trade that was reversed on the chain."""


def trade_word(status: str) -> str:
    """The status of a trade without the prefix that REST serves it with, in capitals (py-sdk models).

    A reason behind FAILED does not make a fill of it: statuses of orders were recorded with one.
    """
    word = status.strip().upper().removeprefix("TRADE_STATUS_")
    return FAILED if re.match(rf"{FAILED}(?![A-Z])", word) else word


VOID: Final = "Void"
"""How a window resolved in which nobody won: each share pays half a pUSD (recorded 2026: outcomePrices 0.5 and 0.5)."""


@dataclass(frozen=True, slots=True)
class VenueTrade:
    """A fill of one of our orders, as the venue shows it. fee, value: base units of pUSD. status: MATCHED .. CONFIRMED, FAILED.

    value: what was paid or got for the shares, by the amounts of the other side; None where only a price is known.
    """

    trade_id: str
    order_id: str
    token_id: str
    condition_id: str
    side: Side
    price: Decimal
    size: int
    fee: int
    status: str
    at_ms: int
    value: int | None = None

    @property
    def worth(self) -> int:
        """What was paid or got, in base units of pUSD."""
        return int(self.price * self.size) if self.value is None else self.value
