"""Which refused orders speak against the code that sent them."""

from __future__ import annotations

import pytest

from bot.orders.order_plan import OrderTiming, OrderTimings, is_at_fault
from bot.venue.polymarket.answers import classify
from bot.venue.types import Accepted, Answer, InDoubt, Refused, VenueMode
from ledger.values import Side


@pytest.mark.parametrize(
    ("status", "text", "at_fault"),
    [
        (400, "invalid signature", True),
        (400, "order is invalid. Price breaks minimum tick size rule: 0.01", True),
        (400, "not enough balance / allowance", False),
        (400, "something that nobody has seen before", True),
        (401, "Unauthorized/Invalid api key", True),
        (400, "no orders found to match with FAK order", False),
        (400, "the market is closed", False),
        (429, "Too Many Requests", False),
        (425, "Service Not Ready", False),
        (503, "Trading is currently disabled", False),
    ],
)
def test_a_refusal_counts_only_where_it_speaks_of_the_order(status: int, text: str, at_fault: bool) -> None:
    """Price, size, signature and account do; nobody to trade with, too often and a venue that is closed do not."""
    answer = classify(status, f'{{"error": "{text}"}}', Side.BUY)
    assert is_at_fault(answer) is at_fault


@pytest.mark.parametrize(
    "answer", [Accepted("0x1", "live"), InDoubt("timeout"), Refused("restarting", mode=VenueMode.RESTARTING)]
)
def test_what_was_taken_or_is_in_doubt_never_counts(answer: Answer) -> None:
    """Neither does a refusal in a venue's own mode."""
    assert not is_at_fault(answer)


def test_sendings_are_counted_beyond_those_that_were_drained() -> None:
    """The counts are of the whole epoch, the list is of what nobody drained yet."""
    sendings = OrderTimings()
    sendings.add(OrderTiming(0, 0, 1, "refused"), at_fault=True)
    assert len(sendings.drain()) == 1
    sendings.add(OrderTiming(0, 0, 1, "accepted"), at_fault=False)
    assert (sendings.sent, sendings.refused, len(sendings.drain())) == (2, 1, 1)
