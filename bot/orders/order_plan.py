"""One order on paper, before it is one at the venue: what was decided, as a request to sign and as an intent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bot.venue.types import ORDER_TYPE, Market, OrderRequest, SignedOrder
from ledger.rows import Intent
from ledger.values import Outcome, Side


@dataclass(frozen=True, slots=True)
class Plan:
    """One order to be placed: what the strategy decided and risk allowed. size: base units of shares."""

    tick: int
    generation: int
    slot: str
    window: str
    window_end_ms: int
    market: Market
    outcome: Outcome
    side: Side
    price: Decimal
    size: int
    reason: str

    @property
    def request(self) -> OrderRequest:
        """What is to be signed."""
        return OrderRequest(self.market.token(self.outcome), self.side, self.price, self.size)

    def intent(self, signed: SignedOrder, epoch: int, seq: int) -> Intent:
        """What is to be made durable."""
        return Intent(
            order_id=signed.order_id,
            epoch=epoch,
            tick=self.tick,
            generation=self.generation,
            slot=self.slot,
            window=self.window,
            window_end_ms=self.window_end_ms,
            condition_id=self.market.condition_id,
            token_id=self.request.token_id,
            outcome=self.outcome,
            side=self.side,
            seq=seq,
            price=self.price,
            size=self.size,
            cost=worst_cost(self.price, self.size, self.market) if self.side is Side.BUY else 0,
            order_type=ORDER_TYPE,
            body=signed.body,
            reason=self.reason,
        )


# The fee of each fill is rounded to 5 decimals (venue.md 2.3): up to 5 base units more a fill, and an order may have many.
FEE_ROUNDING = 1_000


def worst_cost(price: Decimal, size: int, market: Market) -> int:
    """The most that a buy at up to `price` can cost in base units, taker fee included (largest at a price of 0.5)."""
    at = min(price, Decimal("0.5"))
    fee = market.fee_rate * (at * (1 - at)) ** market.fee_exponent
    return int((price + fee) * size) + FEE_ROUNDING
