"""What may be concluded of an order: never more than the venue showed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.orders.resolution import Evidence, conclude, is_whole
from bot.orders.watch import CLOSED_LOOKS, QUIET_LOOKS, UNKNOWN_LOOKS, Watch
from bot.venue.types import FINAL_STATUSES, Fate, VenueOrder, fate_of
from ledger.schema import OrderCode, OrderState
from ledger.values import Side

SIZE = 10_000_000
GIVE = 5_000_000
STATUSES = ("LIVE", "DELAYED", "PARKED", "", "CANCELED_order couldn't be fully filled", *FINAL_STATUSES)


def shown(status: str, matched: int) -> VenueOrder:
    """An order as the venue shows it."""
    return VenueOrder("0x01", "1", "0xc", Side.BUY, Decimal("0.5"), SIZE, matched, status)


shares = st.sampled_from([0, 1, SIZE // 2, SIZE - 1, SIZE, SIZE + 5, 3 * SIZE])
evidence = st.builds(
    Evidence,
    state=st.sampled_from([None, OrderState.ACCEPTED, OrderState.IN_DOUBT]),
    size=st.just(SIZE),
    filled=shares,
    matched=st.none() | shares,
    shown=st.none() | st.builds(shown, st.sampled_from(STATUSES), shares),
    closed=st.booleans(),
    side=st.sampled_from(list(Side)),
    give=st.sampled_from([GIVE, SIZE]),
    ask=st.sampled_from([GIVE, SIZE]),
    given=st.sampled_from([0, GIVE // 2, GIVE - 1, GIVE, SIZE]),
    trades=st.integers(0, 3),
    quiet=st.booleans(),
)


@settings(deadline=None, max_examples=500)
@given(evidence)
def test_done_means_that_no_fill_is_missing_and_none_can_come(found: Evidence) -> None:
    """An order is done only with all matched shares in trades, not open at the venue, and for one of the four reasons."""
    verdict = conclude(found)
    if verdict is None or verdict[0] is not OrderState.DONE:
        return
    seen = found.shown
    fate = None if seen is None else fate_of(seen.status)
    # The venue's rounding may leave each trade a base unit short of what its answer said.
    assert found.filled + found.trades >= max(found.matched or 0, seen.matched if seen is not None else 0)
    assert fate is not Fate.OPEN
    is_over = found.closed or (found.quiet and found.state is OrderState.ACCEPTED)
    assert fate is Fate.FINAL or is_whole(found) or is_over
    assert (verdict[1].code == OrderCode.QUIET) == (
        not found.closed and fate is not Fate.FINAL and not is_whole(found)
    ) or (seen is not None and seen.status == "MATCHED" and not seen.matched)


@settings(deadline=None)
@given(
    st.sampled_from([None, OrderState.IN_DOUBT, OrderState.ACCEPTED]),
    st.sampled_from([None, 0]),
    st.sampled_from([None, shown("LIVE", 0), shown("DELAYED", 0), shown("PARKED", 0), shown("MATCHED", 0)]),
    st.sampled_from(list(Side)),
)
def test_neither_nothing_nor_zero_amounts_prove_anything(
    state: OrderState | None, matched: int | None, seen: VenueOrder | None, side: Side
) -> None:
    """No trade, and no word of its end, while the window is open: the order is never called over."""
    verdict = conclude(Evidence(state, SIZE, 0, matched, seen, closed=False, side=side, give=GIVE, ask=SIZE))
    assert verdict is None or verdict[0] is OrderState.ACCEPTED


@settings(deadline=None)
@given(evidence)
def test_a_conclusion_stands(found: Evidence) -> None:
    """Concluding again from the same evidence brings no other state: the ledger does not grow at every look."""
    verdict = conclude(found)
    if verdict is None or verdict[0] is OrderState.DONE:
        return
    again = conclude(replace(found, state=verdict[0]))
    assert again is None or again[0] is OrderState.DONE


@pytest.mark.parametrize("filled", [0, 3_000_000, SIZE])
def test_every_order_ends_with_its_window(filled: int) -> None:
    """Once the window has closed and the venue shows no more than the trades that are known, doubt is over."""
    for state in (None, OrderState.IN_DOUBT, OrderState.ACCEPTED):
        verdict = conclude(Evidence(state, SIZE, filled, None, None, closed=True))
        assert verdict is not None
        assert verdict[0] is OrderState.DONE


@pytest.mark.parametrize(
    ("side", "give", "ask", "given_units", "filled", "trades", "whole"),
    [
        # Shares of a sale; each trade may be a unit short.
        (Side.SELL, SIZE, GIVE, SIZE, SIZE, 1, True),
        (Side.SELL, SIZE, GIVE, SIZE - 1, SIZE - 1, 1, True),
        (Side.SELL, SIZE, GIVE, SIZE - 10_000, SIZE - 10_000, 1, False),
        # Money of a purchase: more shares than were asked for, and money left that buys more of them.
        (Side.BUY, 5_000_000, 5_005_000, 5_000_000, 25_000_000, 1, True),
        (Side.BUY, 5_000_000, 5_005_000, 4_999_997, 25_000_000, 2, True),
        (Side.BUY, 5_000_000, 5_005_000, 1_000_000, 5_005_000, 1, False),
        (Side.BUY, 5_000_000, 5_005_000, 4_990_000, 24_950_000, 1, False),
        # At its limit a purchase keeps what its four decimals of shares left: 9.9841 at 0.63 for 6.29.
        (Side.BUY, 6_290_000, 9_984_100, 6_289_983, 9_984_100, 1, True),
        (Side.BUY, 6_290_000, 9_984_100, 6_283_683, 9_974_100, 1, False),
        # Nothing was bought.
        (Side.BUY, 2, 4, 0, 0, 0, False),
    ],
)
def test_a_sale_is_whole_in_shares_and_a_purchase_in_money(
    side: Side, give: int, ask: int, given_units: int, filled: int, trades: int, whole: bool
) -> None:
    """A tolerance of base units takes the venue's rounding and hides no fill of a hundredth of a share."""
    found = Evidence(
        OrderState.ACCEPTED,
        max(ask, give),
        filled,
        None,
        None,
        closed=False,
        side=side,
        give=give,
        ask=ask,
        given=given_units,
        trades=trades,
    )
    assert is_whole(found) is whole


# --- looks


def state(watch: Watch) -> tuple[bool, bool, bool]:
    """Whether it wants a comparison, is quiet, is closed."""
    return watch.wants_comparison, watch.quiet, watch.closed


def test_looks_count_from_the_end_of_the_markets_delay_and_anew_after_each_news() -> None:
    """What looked too soon, or before something new, proves nothing; a comparison counts only after enough looks."""
    watch = Watch(delay_ms=150)
    for _ in range(2 * QUIET_LOOKS):
        watch.looked(1_000, closed=False)
    assert state(watch) == (False, False, False), "it is not known to be at the venue"
    watch.news(1_000)
    for at in (1_000, 1_149, *[1_150] * (QUIET_LOOKS - 1)):
        watch.looked(at, closed=False)
    watch.compared()
    assert state(watch) == (False, False, False)
    watch.looked(1_150, closed=False)
    assert state(watch) == (True, False, False)
    watch.compared()
    assert state(watch) == (False, True, False)
    watch.news(2_000)
    assert state(watch) == (False, False, False)


def test_an_unknown_word_is_looked_at_longer_and_not_for_ever() -> None:
    """A word that nobody knows bounds nothing: more looks, then it is over."""
    watch = Watch(delay_ms=0)
    watch.news(0)
    watch.unknown.add("PARKED")
    looks = 0
    while not watch.quiet:
        watch.looked(1, closed=False)
        watch.compared()
        looks += 1
    assert looks == UNKNOWN_LOOKS


def test_a_closed_window_wants_looks_and_a_comparison_of_its_own() -> None:
    """One look after the window's end proves nothing either: trades show late."""
    watch = Watch()
    for _ in range(CLOSED_LOOKS):
        assert state(watch) == (False, False, False)
        watch.looked(5, closed=True)
    assert state(watch) == (True, False, False)
    watch.compared()
    assert state(watch) == (False, False, True), "it is not known to have arrived"
