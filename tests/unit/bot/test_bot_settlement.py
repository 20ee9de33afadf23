"""What may be concluded of an order: never more than the venue showed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.orders.resolution import Evidence, conclude
from bot.venue.statuses import FINAL_STATUSES
from bot.venue.types import VenueOrder
from ledger.schema import OrderState
from ledger.values import Side

SIZE = 10_000_000
STATUSES = ("LIVE", "DELAYED", "UNMATCHED", "", "CANCELED_EXPIRED_ORDER", *FINAL_STATUSES)


def shown(status: str, matched: int) -> VenueOrder:
    """An order as the venue shows it."""
    return VenueOrder("0x01", "1", "0xc", Side.BUY, Decimal("0.5"), SIZE, matched, status)


shares = st.sampled_from([0, 1, SIZE // 2, SIZE, SIZE + 5])
evidence = st.builds(
    Evidence,
    state=st.sampled_from([None, OrderState.ACCEPTED, OrderState.IN_DOUBT]),
    size=st.just(SIZE),
    filled=shares,
    matched=st.none() | shares,
    shown=st.none() | st.builds(shown, st.sampled_from(STATUSES), shares),
    closed=st.booleans(),
)


@settings(deadline=None)
@given(evidence)
def test_done_means_that_no_fill_is_missing_and_none_can_come(given_evidence: Evidence) -> None:
    """An order is done only with all matched shares in trades, not open at the venue, and for one of the three reasons."""
    verdict = conclude(given_evidence)
    if verdict is None or verdict[0] is not OrderState.DONE:
        return
    seen = given_evidence.shown
    assert given_evidence.filled >= (given_evidence.matched or 0)
    assert seen is None or (seen.status.startswith(FINAL_STATUSES) and given_evidence.filled >= seen.matched)
    assert (
        seen is not None
        or given_evidence.closed
        or given_evidence.filled >= SIZE
        or (given_evidence.state is OrderState.ACCEPTED and given_evidence.matched is not None)
    )


@settings(deadline=None)
@given(st.sampled_from([None, OrderState.IN_DOUBT]))
def test_not_finding_an_order_proves_nothing(state: OrderState | None) -> None:
    """Neither the order nor a trade is shown and the window is open: nothing is concluded."""
    assert conclude(Evidence(state, SIZE, 0, None, None, closed=False)) is None


@settings(deadline=None)
@given(evidence)
def test_a_conclusion_stands(given_evidence: Evidence) -> None:
    """Concluding again from the same evidence brings no other state: the ledger does not grow at every look."""
    verdict = conclude(given_evidence)
    if verdict is None or verdict[0] is OrderState.DONE:
        return
    again = conclude(
        Evidence(
            verdict[0],
            given_evidence.size,
            given_evidence.filled,
            given_evidence.matched,
            given_evidence.shown,
            given_evidence.closed,
        )
    )
    assert again is None or again[0] is OrderState.DONE


@pytest.mark.parametrize("filled", [0, 3_000_000, SIZE])
def test_every_order_ends_with_its_window(filled: int) -> None:
    """Once the window has closed and the venue shows no more than the trades that are known, doubt is over."""
    for state in (None, OrderState.IN_DOUBT, OrderState.ACCEPTED):
        verdict = conclude(Evidence(state, SIZE, filled, None, None, closed=True))
        assert verdict is not None
        assert verdict[0] is OrderState.DONE
