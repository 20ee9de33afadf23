"""A real book in the engine: each level is an order of the house, and what was taken from it stays taken.

Ours is one order among many. As the venue's streams tell of levels and never of orders, places in the queue are reckoned
on the safe side: whoever comes to a level stands behind all that is there, others who leave it stood behind, and only
trades at its price, or a level smaller than the queue, bring an order forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from paper.engine.book import ONE, Book, Order, OrderType
from paper.engine.market_maker import CROWD, HOUSE, MAKER
from paper.engine.matching import Engine, Placement

Level = tuple[bool, int]
"""Is it a bid, and its price in terms of Up."""

_CREDIT_MS = 2_000  # a level shrinks just before or after the trade that made it smaller is told of


@dataclass(slots=True)
class _Place:
    """Where a user's resting order stands.

    Attributes:
        ahead: shares before it.
        credit: shares by which the level's size brought it forward, which a trade told of afterwards does not do again.
    """

    ahead: int
    credit: int = 0
    credit_ms: int = 0


@dataclass(slots=True)
class MirroredBook:
    """One market's book.

    Args:
        names: gives a new order id.
    """

    engine: Engine
    book: Book
    names: Callable[[], str]
    sizes: dict[Level, int] = field(default_factory=dict)
    """Shares of each level at the real exchange."""
    orders: dict[Level, str] = field(default_factory=dict)
    """The house's order of each level."""
    places: dict[str, _Place] = field(default_factory=dict)

    def apply(self, levels: Iterable[tuple[Level, int]], now_ms: int) -> list[Placement]:
        """Take the new sizes of some levels; return what users' resting orders were filled with."""
        self._look_at_users()
        for level, size in sorted(levels, key=lambda one: one[1] > self.sizes.get(one[0], 0)):  # what goes, goes first
            self._set(level, size, now_ms)
        return self._meet_crossed(now_ms)

    def snapshot(
        self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]], now_ms: int
    ) -> list[Placement]:
        """Take all levels: those that are not named are gone."""
        wanted = {(True, price): size for price, size in bids} | {(False, price): size for price, size in asks}
        gone = {level: 0 for level in self.sizes if level not in wanted}
        return self.apply([*gone.items(), *wanted.items()], now_ms)

    def withdraw(self, now_ms: int) -> None:
        """Offer nothing: nobody knows what is there."""
        for level in [*self.sizes]:
            self._set(level, 0, now_ms)

    def trade(self, *, lifts_asks: bool, up_price: int, size: int, now_ms: int) -> list[Placement]:
        """Take a trade of others: users' orders at better prices would have met it first, those at its price stand in line."""
        self._look_at_users()
        placements: list[Placement] = []
        left = size
        for order in self._users(is_bid=not lifts_asks):
            better = order.up_price < up_price if lifts_asks else order.up_price > up_price
            if not left or not (better or order.up_price == up_price):
                break
            filled = min(left, order.remaining)
            if not better:
                place = self.places[order.order_id]
                credit = place.credit if now_ms - place.credit_ms <= _CREDIT_MS else 0
                passed = max(0, left - credit)
                place.credit = credit - min(credit, left)
                filled = min(filled, max(0, passed - place.ahead))
                place.ahead = max(0, place.ahead - passed)
            if filled:
                placements.append(self._fill(order, filled, now_ms))
                left -= filled
        return placements

    def _set(self, level: Level, size: int, now_ms: int) -> None:
        before, name = self.sizes.get(level, 0), self.orders.get(level)
        if size == before:
            return
        there = self.engine.orders[name].remaining if name is not None and name in self.engine.orders else 0
        # What was taken is not there again: what comes is added to what is left, what goes is taken off it at the end.
        offered = there + size - before if size > before else min(there, size)
        if size:
            self.sizes[level] = size
        else:
            del self.sizes[level]
        if size < before:
            self._bring_forward(level, size, now_ms)
        self._offer(level, offered, now_ms)

    def _offer(self, level: Level, offered: int, now_ms: int) -> None:
        """Let the house's order of a level offer so many shares."""
        name = self.orders.get(level)
        rests = name is not None and name in self.engine.orders
        if not offered:
            if rests and name is not None:
                self.engine.cancel(name)
            self.orders.pop(level, None)
        elif rests and name is not None:
            self.engine.resize(name, offered)
        else:
            order = self._order(level, MAKER, offered, now_ms)
            self.orders[level] = order.order_id
            self.engine.rest(order)

    def _order(self, level: Level, wallet: str, size: int, now_ms: int) -> Order:
        """An order of the house. One to sell Up is an order to buy Down: the house needs no shares."""
        is_bid, up_price = level
        outcome, price = (0, up_price) if is_bid else (1, ONE - up_price)
        token, condition = self.book.token_ids[outcome], self.book.condition_id
        kind: OrderType = "GTC" if wallet == MAKER else "FAK"
        name = self.names()
        return Order(name, condition, token, wallet, wallet, outcome, "BUY", kind, price, size, now_ms)

    def _fill(self, order: Order, size: int, now_ms: int) -> Placement:
        return self.engine.meet(self._order((not order.is_bid, order.up_price), CROWD, size, now_ms), order)

    def _users(self, *, is_bid: bool) -> list[Order]:
        """Users' resting orders of one side, best price first, oldest first."""
        half = self.book.bids if is_bid else self.book.asks
        if len(half.levels) == sum(level[0] == is_bid for level in self.orders) and all(
            len(level) == 1 for level in half.levels.values()
        ):
            return []  # each level is one order of the house
        return [
            order
            for price in half.prices
            for order in half.levels[half.sign * price].values()
            if order.wallet not in HOUSE
        ]

    def _look_at_users(self) -> None:
        """Give each user's order that is new its place: behind all that rests at its price."""
        resting = [*self._users(is_bid=True), *self._users(is_bid=False)]
        if len(self.places) > len(resting):
            names = {order.order_id for order in resting}
            self.places = {name: place for name, place in self.places.items() if name in names}
        for order in resting:
            if order.order_id not in self.places:
                name = self.orders.get((order.is_bid, order.up_price))
                house = self.engine.orders.get(name) if name is not None else None
                self.places[order.order_id] = _Place(house.remaining if house is not None else 0)

    def _bring_forward(self, level: Level, size: int, now_ms: int) -> None:
        if not self.places:
            return
        for order in self._users(is_bid=level[0]):
            if order.up_price == level[1]:
                place = self.places[order.order_id]
                if place.ahead > size:
                    fresh = place.credit if now_ms - place.credit_ms <= _CREDIT_MS else 0
                    place.credit, place.credit_ms = fresh + place.ahead - size, now_ms
                    place.ahead = size

    def _meet_crossed(self, now_ms: int) -> list[Placement]:
        """Fill users' orders that offers of others have come to: these would have met them."""
        placements: list[Placement] = []
        for is_bid in (True, False):
            for order in self._users(is_bid=is_bid):
                for level in self._crossed_by(order):
                    house = self.engine.orders[self.orders[level]]
                    size = min(order.remaining, house.remaining)
                    self._offer(level, house.remaining - size, now_ms)
                    placements.append(self._fill(order, size, now_ms))
                    if not order.remaining:
                        break
        return placements

    def _crossed_by(self, order: Order) -> list[Level]:
        """The house's levels that a resting order crosses, the best first."""
        crossed = [
            level
            for level in self.orders
            if level[0] != order.is_bid
            and (level[1] <= order.up_price if order.is_bid else level[1] >= order.up_price)
            and self.orders[level] in self.engine.orders
        ]
        return sorted(crossed, key=lambda level: level[1], reverse=not order.is_bid)
