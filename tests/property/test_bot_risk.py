"""Risk limits hold over any sequence of entries, fills, refusals and exits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.orders.risk import Usage, refuse_entry, why_blocked
from bot.reasons import Reason, ReasonCode
from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SlotControl

SLOTS = ("BTC-5m", "BTC-15m", "ETH-5m")
amounts = st.integers(1, 120).map(Decimal)
limits = st.builds(
    RiskLimits,
    max_order=amounts,
    max_slot=amounts,
    max_asset=amounts,
    max_total=amounts,
    daily_loss=amounts,
    orders_per_minute=st.integers(1, 20),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(SLOTS),
        st.integers(1, 80 * BASE_UNITS),
        st.sampled_from(["stays", "refused", "resolved: lost", "resolved: won"]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(limits, st.none() | amounts, st.integers(0, 400), steps)
def test_no_sequence_reaches_past_a_limit(
    given_limits: RiskLimits,
    slot_limit: Decimal | None,
    balance: int,
    given_steps: list[tuple[str, int, str]],
) -> None:
    """Whatever is asked for and becomes of it: order, slot, asset, total, loss, rate and balance stay within limits."""
    stakes: list[tuple[str, int]] = []
    loss = orders = 0
    funds = balance * BASE_UNITS
    for slot, cost, fate in given_steps:
        asset = slot.split("-")[0]
        usage = Usage(
            slot=sum(stake for name, stake in stakes if name == slot),
            asset=sum(stake for name, stake in stakes if name.startswith(asset)),
            total=sum(stake for _, stake in stakes),
            loss_today=loss,
            orders_last_minute=orders,
            balance=funds,
        )
        refusal = refuse_entry(cost, usage, given_limits, SlotControl(max_order=slot_limit))
        if refusal is not None:
            assert str(refusal).startswith("risk: ")
            continue
        assert loss < given_limits.daily_loss * BASE_UNITS
        orders += 1
        if fate == "stays":
            stakes.append((slot, cost))
            funds -= cost
        elif fate == "resolved: lost":
            loss += cost
            funds -= cost
        assert cost <= min(given_limits.max_order, slot_limit or given_limits.max_order) * BASE_UNITS
        for name in SLOTS:
            assert sum(s for n, s in stakes if n == name) <= given_limits.max_slot * BASE_UNITS
        for name in ("BTC", "ETH"):
            assert sum(s for n, s in stakes if n.startswith(name)) <= given_limits.max_asset * BASE_UNITS
        assert sum(s for _, s in stakes) <= given_limits.max_total * BASE_UNITS
        assert orders <= given_limits.orders_per_minute
        assert funds >= 0


def test_exactly_a_limit_is_allowed() -> None:
    """A limit is the most that is allowed, not the first that is refused."""
    usage = Usage(slot=0, asset=0, total=0, loss_today=0, orders_last_minute=0, balance=50 * BASE_UNITS)
    assert refuse_entry(50 * BASE_UNITS, usage, RiskLimits(), SlotControl()) is None
    assert refuse_entry(50 * BASE_UNITS + 1, usage, RiskLimits(), SlotControl()) is not None


@pytest.mark.parametrize("slot_limit", [Decimal(5), Decimal(500)])
def test_a_slots_own_limit_only_tightens(slot_limit: Decimal) -> None:
    """A slot may be held shorter than the whole, never longer."""
    usage = Usage(slot=0, asset=0, total=0, loss_today=0, orders_last_minute=0, balance=10**12)
    allowed = min(slot_limit, Decimal(50)) * BASE_UNITS
    control = SlotControl(max_order=slot_limit)
    assert refuse_entry(int(allowed), usage, RiskLimits(), control) is None
    assert refuse_entry(int(allowed) + 1, usage, RiskLimits(), control) is not None


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, Reason(ReasonCode.HALTED, "halted")]),
    st.sampled_from([None, Reason(ReasonCode.STALE_DATA, "old")]),
)
def test_what_closes_entries_closes_no_exit(
    busy: bool, placed: bool, held: bool, traded: bool, closed: Reason | None, stale: Reason | None
) -> None:
    """An open order and old data block both; halt, pause and a traded window block entries alone; else nothing does."""
    found = why_blocked(busy=busy, placed=placed, held=held, traded=traded, closed=closed, stale=stale)
    blocks_both = busy or placed or stale is not None
    assert bool(found) == (blocks_both or (not held and (traded or closed is not None)))
