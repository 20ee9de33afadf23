"""The house: a market maker that quotes, and a crowd that trades a little. Pure: time, prices and randomness come in.

Their purses are large and are not part of the record; what they do to users' orders is.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from paper.engine.book import ONE, Order, OrderType
from paper.engine.feed import Feed
from paper.engine.markets import Market
from paper.engine.matching import FEES, Engine, Placement
from paper.errors import RefusedError

# The market maker's mind: the fair probability of Up, and quotes around it. Pure.
#
# It sees the settlement price, which lags the lead price by about a second, and requotes about once a second. Whoever watches
# the lead price sometimes finds it late: that is the edge that a sniper looks for.


_LEVELS = 6
_EDGE = 0.012  # half spread at a fair price of 0.5, in collateral per share


@dataclass(frozen=True, slots=True)
class Quote:
    """Offer to buy Up (``is_bid``) or to sell it: ``up_price`` in terms of Up and ``size`` shares, both base units."""

    is_bid: bool
    up_price: int
    size: int


def fair_up(
    price: float,
    reference: float,
    sigma: float,
    left_s: float,
    averaging_s: float,
    averaged: float,
) -> float:
    """Return the probability that the average of the window's last seconds ends at or above the opening reference.

    The average of a Brownian path over A seconds that lie T seconds ahead has the variance sigma^2 (T - A + A / 3); once
    the averaging has begun, only its remaining part is uncertain.

    Args:
        price: settlement price now.
        reference: opening reference.
        sigma: standard deviation of one second's log return.
        left_s: seconds to the window's end, above 0.
        averaging_s: length A of the average in seconds.
        averaged: mean settlement price since the averaging began; unused before.
    """
    if left_s >= averaging_s:
        mean, spread = price, sigma * math.sqrt(left_s - averaging_s + averaging_s / 3)
    else:
        share = left_s / averaging_s
        mean = share * price + (1 - share) * averaged
        spread = sigma * share * math.sqrt(left_s / 3)
    z = math.log(mean / reference) / max(spread, 1e-9)
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def quotes(fair: float, tick: int, rng: random.Random) -> list[Quote]:
    """Return the quotes for a fair probability of Up: up to six levels a side, none at or beyond 0 and 1.

    The spread narrows towards 0 and 1; sizes (20 to 200 shares) grow away from the best price.
    """
    half = _EDGE * (0.4 + 2.4 * fair * (1 - fair)) * rng.uniform(0.8, 1.4)
    best_bid = math.floor((fair - half) * ONE / tick) * tick
    best_ask = math.ceil((fair + half) * ONE / tick) * tick
    ladder: list[Quote] = []
    for level in range(_LEVELS):
        for is_bid, price in ((True, best_bid - level * tick), (False, best_ask + level * tick)):
            size = rng.randint(20, 60) * (1 + level // 2) * ONE
            if tick <= price <= ONE - tick:
                ladder.append(Quote(is_bid, price, size))
    return ladder


# The house: a market maker that quotes, and a crowd that trades a little. Pure: time, prices and randomness come in.


# Addresses that look like everybody's, and that nobody has the key of.
MAKER, CROWD = "0x000000000000000000000000000000000000aAaa", "0x000000000000000000000000000000000000cCcC"
PURSES = (MAKER, CROWD)
HOUSE = frozenset({*PURSES, FEES})
_REQUOTE_MS = 1_000
_CROWD_CHANCE = 0.25  # a requote


class MarketMaker:
    """Quotes and flow on all markets."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._due_ms: dict[str, int] = {}
        self._quotes: dict[str, list[str]] = {}
        self._count = 0

    def is_due(self, market: Market, now_ms: int) -> bool:
        """Whether the house should look at a market again."""
        return now_ms >= self._due_ms.get(market.window.condition_id, 0)

    def trade(self, engine: Engine, market: Market, feed: Feed, averaged: float | None, now_ms: int) -> list[Placement]:
        """Requote a market and let the crowd trade; return what was filled on the way.

        Args:
            averaged: mean settlement price of the window's averaging so far, or None before it began.
        """
        condition = market.window.condition_id
        self._due_ms[condition] = now_ms + round(_REQUOTE_MS * self._rng.uniform(0.8, 1.2))
        fair = self._fair(market, feed, averaged, now_ms)
        for name in self._quotes.pop(condition, []):
            engine.cancel(name)
        wanted = quotes(fair, engine.books[condition].tick, self._rng)
        placements = [self._place(engine, self._quote(market, quote, now_ms), now_ms) for quote in wanted]
        self._quotes[condition] = [p.order.order_id for p in placements if p is not None and p.resting]
        if self._rng.random() < _CROWD_CHANCE:
            placements.append(self._place(engine, self._impulse(market, now_ms), now_ms))
        return [placement for placement in placements if placement is not None and placement.fills]

    def forget(self, condition_id: str) -> None:
        """Drop what is kept about a market."""
        self._due_ms.pop(condition_id, None)
        self._quotes.pop(condition_id, None)

    def _fair(self, market: Market, feed: Feed, averaged: float | None, now_ms: int) -> float:
        window = market.window
        if market.reference is None:
            return 0.5
        price = feed.settlement[window.asset]
        left_s = (window.end_ms - now_ms) / 1000
        averaging_s = max(0.001, market.averaging_ms / 1000)
        return fair_up(price, market.reference, feed.sigma(window.asset), left_s, averaging_s, averaged or price)

    def _quote(self, market: Market, quote: Quote, now_ms: int) -> Order:
        """A quote to sell Up is an order to buy Down: the house needs no shares."""
        outcome = 0 if quote.is_bid else 1
        price = quote.up_price if quote.is_bid else ONE - quote.up_price
        return self._order(market, MAKER, outcome, "GTC", price, quote.size, now_ms)

    def _impulse(self, market: Market, now_ms: int) -> Order:
        size = self._rng.randint(5, 25) * ONE
        return self._order(market, CROWD, self._rng.randint(0, 1), "FAK", 990_000, size, now_ms)

    def _order(
        self, market: Market, wallet: str, outcome: int, order_type: OrderType, price: int, size: int, now_ms: int
    ) -> Order:
        self._count += 1
        token = market.window.token_ids[outcome]
        condition = market.window.condition_id
        return Order(
            f"0x{self._count:064x}", condition, token, wallet, wallet, outcome, "BUY", order_type, price, size, now_ms
        )

    @staticmethod
    def _place(engine: Engine, order: Order, now_ms: int) -> Placement | None:
        try:
            return engine.place(order, now_ms)
        except RefusedError:  # nothing to meet for the crowd's order
            return None
