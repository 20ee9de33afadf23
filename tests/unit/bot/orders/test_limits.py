"""What keeps entries closed: the venue's mode, trouble with the account, our own rate budget, an account that cannot buy."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.account.portfolio import cost_ahead
from bot.orders.limits import CircuitBreaker, TokenBucket, VenueModes
from bot.orders.risk import SETTLES_MS, at_stake
from bot.reasons import Reason, ReasonCode
from bot.venue.account_watch import account_problem
from bot.venue.types import Account, VenueMode
from ledger.rows import OpenIntent, add_fill, add_intent, add_order_state, positions
from ledger.schema import OrderState
from ledger.values import Side, VenueTrade
from tests.unit.bot.making import END_MS, INTENT, SHARE, START_MS, ManualClock, make_ledger


def test_one_order_tries_when_a_mode_was_believed_long_enough() -> None:
    """While it is believed nothing leaves; then one entry tries, the others wait for its answer, and an exit waits for none."""
    mode = VenueModes()
    mode.note(VenueMode.RESTARTING, 0)
    assert "the venue is restarting" in (mode.refuse(999, entry=True) or "")
    assert "the venue is restarting" in (mode.refuse(999, entry=False) or "")
    assert [mode.refuse(1_000, entry=True) for _ in range(2)] == [None] * 2, (
        "one that was refused elsewhere tried nothing"
    )
    mode.tries(1_000)
    assert "another order tries first" in (mode.refuse(1_001, entry=True) or "")
    assert mode.refuse(1_001, entry=False) is None
    assert mode.refuse(20_000, entry=True) is None, "an answer that never came holds nobody up for ever"
    mode.note(VenueMode.NORMAL, 20_001)
    assert [mode.refuse(20_002, entry=True) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(("longest", "held"), [(15_000, [1000, 2000, 4000, 8000, 15_000, 15_000]), (200, [200] * 3)])
def test_a_mode_that_is_met_again_is_believed_longer_up_to_a_bound(longest: int, held: list[int]) -> None:
    """The pauses grow, and are never longer than a poll: trading goes on within one poll of the mode's end."""
    mode, now = VenueModes(longest), 0
    for pause in held:
        mode.note(VenueMode.POST_ONLY, now)
        mode.note(VenueMode.POST_ONLY, now)  # orders that were sent together count once
        assert mode.now(now + pause - 1) is VenueMode.POST_ONLY
        assert mode.now(now + pause) is VenueMode.NORMAL
        now += pause


WRONG = Reason(ReasonCode.ACCOUNT, "wrong wallet")


def test_trouble_with_the_account_passes_with_an_order_that_is_taken() -> None:
    """It closes entries for a while that grows; an order tries, and one that is taken ends it."""
    trouble = CircuitBreaker()
    trouble.note(WRONG, 0)
    assert (trouble.now(999), trouble.now(1_000)) == (WRONG, None)
    assert trouble.refuse(1_000, entry=True) is None
    trouble.note(WRONG, 1_000)
    assert (trouble.now(2_999), trouble.now(3_000)) == (WRONG, None)
    trouble.note(None, 3_000)
    assert (trouble.now(3_001), trouble.refuse(3_001, entry=True)) == (None, None)


def test_entries_leave_a_third_of_the_budget_to_exits() -> None:
    """A burst of entries ends with a reason before the exits' part; it fills again at its rate."""
    budget = TokenBucket(20)
    entries = 0
    while budget.refuse(0, entry=True) is None:
        budget.spend(0)
        entries += 1
    assert entries == 20
    assert "budget of 20 orders a second" in (budget.refuse(0, entry=True) or "")
    exits = 0
    while budget.refuse(0, entry=False) is None:
        budget.spend(0)
        exits += 1
    assert entries + exits == 30
    assert budget.refuse(50, entry=False) is None
    assert budget.refuse(550, entry=True) is None
    budget.empty(10_000)
    assert budget.refuse(10_000, entry=False) is not None


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (Account("0xW", 100 * SHARE, 100 * SHARE), None),
        (Account("0xW", SHARE - 1, 100 * SHARE), "deposit"),
        (Account("0xW", 100 * SHARE, 0), "give the allowance"),
        (Account("0xW", 100 * SHARE, 100 * SHARE, closed_only=True), "closed-only"),
    ],
)
def test_an_account_that_cannot_buy_is_told_what_to_do(account: Account, words: str | None) -> None:
    """No money, no allowance, closed-only: the words name it; an account that has all is not bothered."""
    found = account_problem(account)
    assert (found is None) if words is None else (found is not None and words in found)


@pytest.mark.parametrize("spent", [0, 1, 2 * SHARE, INTENT.cost, INTENT.cost + 1])
def test_an_open_entry_is_at_stake_only_with_what_it_may_still_cost(spent: int) -> None:
    """What its trades cost counts as a position; both together are its worst cost, however many shares the money brought."""
    ahead = cost_ahead(OpenIntent(INTENT, None, filled=25 * SHARE, spent=spent))
    assert ahead == max(0, INTENT.cost - spent)


@pytest.mark.parametrize(
    ("shares", "cost", "sold_ago_ms", "stake"),
    [
        (10, 6, None, 6),
        (10, -1, None, 0),  # more was sold for than it cost
        (0, -2, SETTLES_MS, 0),
        (0, -2, SETTLES_MS - 1, 6),
        (4, 1, SETTLES_MS, 1),
        (4, 1, SETTLES_MS - 1, 9),
    ],
)
def test_an_exit_makes_no_room_before_it_is_certain(
    shares: int, cost: int, sold_ago_ms: int | None, stake: int
) -> None:
    """A trade may fail on the chain: what was sold for 8 lately is at stake as if it were held, and later is not."""
    sales = () if sold_ago_ms is None else ((END_MS - sold_ago_ms, 8 * SHARE),)
    assert at_stake(shares * SHARE, cost * SHARE, sales, END_MS) == stake * SHARE


def test_the_sales_of_a_position_are_those_that_count(tmp_path: Path) -> None:
    """A sale is listed with its time and proceeds while the window is not resolved, and no more when its trade failed."""
    with make_ledger(tmp_path, ManualClock()) as ledger:
        bought, sold = replace(INTENT, order_id="0x1"), replace(INTENT, order_id="0x2", seq=2, side=Side.SELL)
        trade = VenueTrade(
            "t1",
            "0x1",
            bought.token_id,
            bought.condition_id,
            Side.BUY,
            Decimal("0.50"),
            10 * SHARE,
            0,
            "MATCHED",
            START_MS,
        )
        for intent in (bought, sold):
            add_intent(ledger, intent, START_MS, 0)
            add_order_state(ledger, 1, intent.order_id, OrderState.DONE, "", START_MS, 0)
        add_fill(ledger, 1, bought, trade)
        exit_trade = replace(
            trade, trade_id="t2", order_id="0x2", side=Side.SELL, price=Decimal("0.80"), at_ms=START_MS + 5
        )
        add_fill(ledger, 1, sold, exit_trade)
        (held,) = positions(ledger, START_MS)
        assert (held.shares, held.sales) == (0, ((START_MS + 5, 8 * SHARE),))
        add_fill(ledger, 1, sold, replace(exit_trade, status="FAILED"))
        (held,) = positions(ledger, START_MS)
        assert (held.shares, held.sales) == (10 * SHARE, ())
