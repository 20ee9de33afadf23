"""One order on paper, before it is one at the venue: what was decided, as a request to sign and as an intent. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from bot.reasons import code_of
from bot.venue.types import (
    BASE_UNITS,
    ORDER_TYPE,
    Accepted,
    Answer,
    Market,
    OrderRequest,
    Refused,
    SignedOrder,
    VenueMode,
)
from ledger.rows import Intent
from ledger.values import Outcome, Side


@dataclass(frozen=True, slots=True)
class OrderPlan:
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
    manual: str = ""
    """As of `Intent`."""

    @property
    def request(self) -> OrderRequest:
        """What is to be signed."""
        return OrderRequest(self.market.token(self.outcome), self.side, self.price, self.size)

    @property
    def logged(self) -> dict[str, str | int]:
        """What the log says of it."""
        return {
            "slot": self.slot,
            "tick": self.tick,
            "side": self.side,
            "outcome": self.outcome,
            "price": str(self.price),
            "shares": str(Decimal(self.size) / BASE_UNITS),
            "reason": self.reason,
        }

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
            code=code_of(self.reason),
            manual=self.manual,
        )


# The fee of each fill is rounded to 5 decimals (venue.md 2.3): up to 5 base units more a fill, and an order may have many.
FEE_ROUNDING = 1_000
LOWEST_PRICE = Decimal("0.0001")


def worst_cost(price: Decimal, size: int, market: Market) -> int:
    """The most that a buy at up to `price` can cost in base units: all of its money, with the fee where that is largest.

    A market BUY spends its money whatever the price: the better it is, the more shares there are to pay a fee for
    (nautilus_trader 3747: 5 pUSD at a limit of 0.999 brought 25 shares at 0.20).
    """
    return int(price * size * (1 + dearest_fee(price, market))) + FEE_ROUNDING


def dearest_fee(price: Decimal, market: Market) -> Decimal:
    """The taker's fee for each pUSD that is spent at up to `price`, at the price where it is largest.

    At q a pUSD brings 1/q shares, and rate * q^(e-1) * (1-q)^e of fee: with e = 1 it grows towards rate as q falls; with a
    greater e it is largest at (e-1)/(2e-1); with e = 0 the lowest price there is is the worst.
    """
    exponent = market.fee_exponent
    if exponent == 1:
        return market.fee_rate
    worst = min(price, LOWEST_PRICE if exponent < 1 else Decimal(exponent - 1) / (2 * exponent - 1))
    return market.fee_rate * worst ** (exponent - 1) * (1 - worst) ** exponent


SHORT_TIMES, SHARE_STEP = 2, BASE_UNITS // 100


def offered(size: int, refusals: int, at_hand: int) -> int:
    """How much of an exit of `size` is offered after so many refusals for balance in a row, in base units of shares.

    What the venue said was there, where that is less; after SHORT_TIMES 99 %, which was recorded to go where the whole did not
    (py-clob-client 287). at_hand: 0 where it is not known, or none are there yet.
    """
    size = size * 99 // 100 // SHARE_STEP * SHARE_STEP or size if refusals >= SHORT_TIMES else size
    return at_hand // SHARE_STEP * SHARE_STEP if SHARE_STEP <= at_hand < size else size


# How long orders took: kept by the desk as they are answered, drained into the metrics beside the polls.


KEEP = 1_000
AnswerKind = Literal["accepted", "refused", "in_doubt"]


@dataclass(frozen=True, slots=True)
class OrderTiming:
    """One first sending of an order. tick: UTC ms; sent, answered: CLOCK_BOOTTIME in ms."""

    tick: int
    sent_boot_ms: int
    answered_boot_ms: int
    outcome: AnswerKind


class OrderTimings:
    """The newest sendings that nobody drained yet; the oldest fall out. sent, refused: of all; refused for what they were."""

    def __init__(self) -> None:
        self._kept: deque[OrderTiming] = deque(maxlen=KEEP)
        self.sent = self.refused = 0

    def add(self, sending: OrderTiming, *, at_fault: bool) -> None:
        """Keep one. at_fault: it was refused for what it was."""
        self._kept.append(sending)
        self.sent += 1
        self.refused += at_fault

    def drain(self) -> list[OrderTiming]:
        """All that were kept, oldest first; they are forgotten."""
        timings = list(self._kept)
        self._kept.clear()
        return timings


# Refusals that say nothing of the order: nobody was there to trade with, it never left, it came too often or out of hours, or
# it was the account that was refused: its money, its shares of a moment ago, its right to trade. Other code would get the same.
_NOT_ITS_FAULT = frozenset(
    {
        "no_match", "not_sent", "rate_limited", "restarting", "market_not_ready", "market_closed", "post_only_mode",
        "not_enough_balance", "forbidden", "banned", "closed_only",
    }
)  # fmt: skip


def is_at_fault(answer: Answer) -> bool:
    """Whether an order was refused for what it was (its price, size, signature), and not for the venue, account or moment.

    A rise of these after a deploy is the code's: the deployer takes the lease back.
    """
    return isinstance(answer, Refused) and answer.mode is VenueMode.NORMAL and answer.code not in _NOT_ITS_FAULT


def outcome_of(answer: Answer) -> AnswerKind:
    """What an answer makes of its order."""
    if isinstance(answer, Accepted):
        return "accepted"
    return "refused" if isinstance(answer, Refused) else "in_doubt"
