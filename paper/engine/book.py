"""Orders, and the book of one market: price levels in terms of Up, each a queue in order of arrival. Integers, pure."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

# Money and shares as integers of base units: 1 pUSD = 1 share = ONE. Pure.
#
# A price is the base units of collateral that one share costs, 0 < price < ONE; 0.52 is 520_000.


ONE = 1_000_000
# The market's `fd` (venue.md 2.3): fee = shares * r * (p * (1 - p)) ** e, takers only.
FEE_RATE = Decimal("0.07")
FEE_EXPONENT = 1
BASE_FEE = 1000  # basis points of an older scheme, which every market still shows
REBATE_RATE = Decimal("0.2")  # of the fees, to makers
_FEE_PERCENT = 7
_FEE_STEP = 10  # fees are cut to five decimals


def fee(size: int, price: int) -> int:
    """Return the taker's fee in base units for ``size`` shares at ``price``, cut to five decimals.

    Cut, not rounded, on chain: 539 shares at 0.99 paid 0.37352, 112.359545 at 0.89 paid 0.76999 (transactions 0x77baeee5
    and 0x3de15f3d, decoded in pb stage 4).
    """
    return size * _FEE_PERCENT * price * (ONE - price) // (100 * ONE * ONE * _FEE_STEP) * _FEE_STEP


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


# Orders, and the book of one market: price levels in terms of Up, each a queue in order of arrival. Integers, pure.


TICK, FINE_TICK = 10_000, 1_000
_LOW, _BACK = 40_000, 60_000

Side = Literal["BUY", "SELL"]
OrderType = Literal["GTC", "GTD", "FAK", "FOK"]


@dataclass(slots=True)
class Order:
    """An order as the engine sees it.

    Attributes:
        order_id: its EIP-712 hash, or a name of the market maker's.
        owner: the API key's address; ``wallet`` is whose money moves.
        outcome: 0 for Up, 1 for Down; ``price`` (base units) is in terms of that token.
        size, filled: shares in base units; a purchase with a budget may be filled with more than its size.
        expires_ms: UTC ms from which a GTD order is dead, or None.
        budget: money that a market BUY spends in base units, whatever it brings; None for orders that count in shares.
    """

    order_id: str
    condition_id: str
    token_id: str
    wallet: str
    owner: str
    outcome: int
    side: Side
    order_type: OrderType
    price: int
    size: int
    received_ms: int
    expires_ms: int | None = None
    post_only: bool = False
    filled: int = 0
    budget: int | None = None

    @property
    def remaining(self) -> int:
        """Shares not filled yet, in base units."""
        return self.size - self.filled

    @property
    def is_bid(self) -> bool:
        """Whether it stands on the bid side of the book in terms of Up."""
        return (self.side == "BUY") == (self.outcome == 0)

    @property
    def up_price(self) -> int:
        """Its price in terms of Up."""
        return self.price if self.outcome == 0 else ONE - self.price

    def worth(self, filled: int) -> int:
        """Collateral for ``filled`` shares at its price, rounded in the exchange's favour against the resting side."""
        return value_ceil(filled, self.price) if self.side == "BUY" else value_floor(filled, self.price)

    @property
    def value(self) -> int:
        """Collateral for all its shares at its price, or its budget."""
        return self.worth(self.size) if self.budget is None else self.budget

    @property
    def reserve(self) -> int:
        """What it still binds: collateral for a BUY, shares for a SELL."""
        return self.worth(self.size) - self.worth(self.filled) if self.side == "BUY" else self.remaining


@dataclass(slots=True)
class _Half:
    """One side of a book: price levels, each a queue in order of arrival. ``sign`` is 1 for asks, -1 for bids."""

    sign: int
    prices: list[int] = field(default_factory=list)  # best first, times sign
    levels: dict[int, dict[str, Order]] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)  # shares at each price
    changed: set[int] = field(default_factory=set)  # prices whose depth changed since somebody asked

    def add(self, order: Order) -> None:
        price = order.up_price
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = {}
            self.depth[price] = 0
            bisect.insort(self.prices, self.sign * price)
        level[order.order_id] = order
        self.depth[price] += order.remaining
        self.changed.add(price)

    def remove(self, order: Order) -> None:
        price = order.up_price
        level = self.levels[price]
        del level[order.order_id]
        self.depth[price] -= order.remaining
        self.changed.add(price)
        if not level:
            del self.levels[price], self.depth[price]
            del self.prices[bisect.bisect_left(self.prices, self.sign * price)]

    def fill(self, order: Order, size: int) -> None:
        order.filled += size
        self.depth[order.up_price] -= size
        self.changed.add(order.up_price)

    def resize(self, order: Order, remaining: int) -> None:
        price = order.up_price
        self.depth[price] += remaining - order.remaining
        order.size = order.filled + remaining
        self.changed.add(price)

    def best(self) -> int | None:
        return self.sign * self.prices[0] if self.prices else None

    def sizes(self) -> list[tuple[int, int]]:
        """(price in terms of Up, shares) of each level, best first."""
        return [(self.sign * price, self.depth[self.sign * price]) for price in self.prices]

    def crossing(self, up_price: int) -> list[Order]:
        """Orders that a taker with this limit can meet, best price first, oldest first."""
        orders: list[Order] = []
        for price in self.prices:
            if price > self.sign * up_price:
                break
            orders.extend(self.levels[self.sign * price].values())
        return orders


@dataclass(slots=True)
class Book:
    """The book of one market. ``tick`` is its price step in base units."""

    condition_id: str
    token_ids: tuple[str, str]
    closes_ms: int
    tick: int = TICK
    bids: _Half = field(default_factory=lambda: _Half(-1))
    asks: _Half = field(default_factory=lambda: _Half(1))
    expiring: dict[str, Order] = field(default_factory=dict)  # resting orders with an end
    last_price: int | None = None  # of the last trade, in terms of Up
    last_side: Side = "BUY"
    volume: int = 0  # collateral that takers gave or got, in base units

    @property
    def is_empty(self) -> bool:
        """Whether no order rests in it."""
        return not self.bids.prices and not self.asks.prices

    def add(self, order: Order) -> None:
        """Rest an order, behind the others of its price."""
        self._half(order.is_bid).add(order)
        if order.expires_ms is not None:
            self.expiring[order.order_id] = order

    def remove(self, order: Order) -> None:
        """Take a resting order out."""
        self._half(order.is_bid).remove(order)
        self.expiring.pop(order.order_id, None)

    def fill(self, order: Order, size: int) -> None:
        """Fill a part of a resting order."""
        self._half(order.is_bid).fill(order, size)

    def resize(self, order: Order, remaining: int) -> None:
        """Let a resting order offer another number of shares."""
        self._half(order.is_bid).resize(order, remaining)

    def opposite(self, order: Order) -> list[Order]:
        """Return the resting orders that an order can meet, best price first, oldest first."""
        return self._half(not order.is_bid).crossing(order.up_price)

    def _half(self, is_bid: bool) -> _Half:
        return self.bids if is_bid else self.asks

    def levels(self, outcome: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return (bids, asks) of one token as (price, size) in base units, best first."""
        bids, asks = self.bids.sizes(), self.asks.sizes()
        if outcome == 0:
            return bids, asks
        return [(ONE - p, s) for p, s in asks], [(ONE - p, s) for p, s in bids]

    def best(self, outcome: int) -> tuple[int, int]:
        """Return the best bid and ask of one token in base units; 0 and ONE where there is none."""
        bid, ask = self.bids.best() or 0, self.asks.best() or ONE
        return (bid, ask) if outcome == 0 else (ONE - ask, ONE - bid)

    def take_changes(self) -> list[tuple[bool, int, int]]:
        """Return what changed since the last call as (is bid, price in terms of Up, shares there now)."""
        changes = [
            (half is self.bids, price, half.depth.get(price, 0))
            for half in (self.bids, self.asks)
            for price in half.changed
        ]
        self.bids.changed.clear()
        self.asks.changed.clear()
        return changes

    def change_tick(self) -> bool:
        """Take the finer tick once the market is beyond 0.96 or below 0.04 (venue.md 2.3); say whether it changed now.

        It goes back once the middle is well inside again ("dynamic 0.01 to 0.001 and back", pb stage 0); where, nobody
        recorded. Orders that rest between two steps of the coarser tick stay.
        """
        if self.is_empty:
            return False
        bid, ask = self.best(0)
        edge = min((bid + ask) // 2, ONE - (bid + ask) // 2)
        tick = FINE_TICK if edge < _LOW else TICK if edge >= _BACK else self.tick
        changed, self.tick = tick != self.tick, tick
        return changed

    def expired(self, now_ms: int) -> list[Order]:
        """Return resting GTD orders whose time has come."""
        return [
            order for order in self.expiring.values() if order.expires_ms is not None and order.expires_ms <= now_ms
        ]

    def orders(self) -> list[Order]:
        """Return all resting orders."""
        levels = (level for half in (self.bids, self.asks) for level in half.levels.values())
        return [order for level in levels for order in level.values()]
