"""The bot's tables: what the triggers refuse even if the code above them is wrong, and money that adds up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.orders.resolution import add_settled_by_hand, vouched_trade
from bus import FencedError, LedgerError
from ledger import Ledger
from ledger.checks import audit
from ledger.rows import (
    OpenIntent,
    SlotTakenError,
    add_fill,
    add_intent,
    add_order_state,
    add_outcome,
    entries_since,
    find_intent,
    next_seq,
    open_intents,
    positions,
)
from ledger.schema import OrderState
from ledger.totals import lifetime, pnl_by_slot, pnl_since, recent_outcomes
from ledger.values import Outcome, Side, VenueTrade
from tests.unit.bot.making import END_MS, INTENT, SHARE, START_MS, WINDOW, ManualClock, apply, make_ledger, take


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Epoch 1 under a control in mode run."""
    with make_ledger(tmp_path, ManualClock()) as made:
        yield made


def trade(order_id: str = INTENT.order_id, number: int = 1, **fields: object) -> VenueTrade:
    """A fill of ten shares at a half."""
    made = VenueTrade(
        f"t{number}", order_id, "1", "0xcondition", Side.BUY, Decimal("0.5"), 10 * SHARE, 175_000, "MATCHED", START_MS
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # the fields' names are the caller's


def finish(ledger: Ledger, order_id: str = INTENT.order_id, epoch: int = 1) -> None:
    """An intent's terminal row."""
    add_order_state(ledger, epoch, order_id, OrderState.DONE, "", START_MS, 0)


def test_a_second_open_intent_in_a_slot_is_refused_until_the_first_is_terminal(ledger: Ledger) -> None:
    """A slot has one open intent, whatever its window; another slot is free."""
    add_intent(ledger, INTENT, START_MS, 0)
    other = replace(INTENT, order_id="0x02", window="btc-updown-5m-1", seq=1)
    for state in (OrderState.ACCEPTED, OrderState.IN_DOUBT):
        add_order_state(ledger, 1, INTENT.order_id, state, "", START_MS, 0)
        with pytest.raises(SlotTakenError, match="open intent"):
            add_intent(ledger, other, START_MS, 0)
    add_intent(ledger, replace(other, slot="ETH-5m"), START_MS, 0)
    finish(ledger)
    add_intent(ledger, replace(INTENT, order_id="0x03", seq=2), START_MS, 0)
    assert [found.intent.order_id for found in open_intents(ledger, START_MS)] == ["0x02", "0x03"]


def test_one_key_is_one_intent(ledger: Ledger) -> None:
    """(window, side, seq) is taken once, even after the first is finished."""
    add_intent(ledger, INTENT, START_MS, 0)
    finish(ledger)
    with pytest.raises(SlotTakenError, match="UNIQUE"):
        add_intent(ledger, replace(INTENT, order_id="0x02"), START_MS, 0)
    assert next_seq(ledger, WINDOW, Side.BUY) == 2
    assert next_seq(ledger, WINDOW, Side.SELL) == 1


@pytest.mark.parametrize("mode", ["pause", "halt"])
def test_an_entry_needs_the_newest_control_in_mode_run(ledger: Ledger, mode: str) -> None:
    """After a pause no entry is written, not even one decided under the control before; exits are."""
    apply(ledger, 1, 2, mode)
    for generation in (1, 2, 3):
        with pytest.raises(SlotTakenError, match="newest control"):
            add_intent(ledger, replace(INTENT, generation=generation), START_MS, 0)
    add_intent(ledger, replace(INTENT, side=Side.SELL, generation=2), START_MS, 0)
    assert entries_since(ledger, START_MS, 10) == [START_MS]


@pytest.mark.parametrize(("mode", "late"), [("pause", True), ("pause", False), ("halt", True)])
def test_an_entry_is_written_again_once_a_pauses_own_end_is_there(ledger: Ledger, mode: str, late: bool) -> None:
    """To the millisecond, and the audit agrees; a halt has no end."""
    body = json.dumps({"mode": mode, "pause_until_ms": START_MS})
    ledger.apply_control(2, 1, body=body, refused="[]", wall_ms=1)
    intent, at_ms = replace(INTENT, generation=2), START_MS if late else START_MS - 1
    if mode == "pause" and late:
        add_intent(ledger, intent, at_ms, 0)
    else:
        with pytest.raises(SlotTakenError, match="newest control"):
            add_intent(ledger, intent, at_ms, 0)
        ledger.execute("DROP TRIGGER intents_may_leave")
        add_intent(ledger, intent, at_ms, 0)
    broken = [check.promise for check in audit(ledger, None) if check.violations]
    assert ("no entry under a pause or halt" in broken) == (not (mode == "pause" and late))


@pytest.mark.parametrize("table", ["intents", "orders", "fills", "outcomes"])
def test_rows_are_only_appended(ledger: Ledger, table: str) -> None:
    """No row of the bot is changed or removed."""
    add_intent(ledger, INTENT, START_MS, 0)
    finish(ledger)
    add_fill(ledger, 1, INTENT, trade())
    add_outcome(ledger, 1, WINDOW, INTENT.slot, Outcome.UP, START_MS)
    for statement in (f"UPDATE {table} SET epoch = epoch", f"DELETE FROM {table}"):
        with pytest.raises(LedgerError, match="append-only"):
            ledger.execute(statement)
    assert ledger.integer(f"SELECT count(*) FROM {table}") == 1


def test_an_old_epoch_writes_nothing(ledger: Ledger) -> None:
    """Once a newer epoch exists, and after a release, every table refuses the old one's rows."""
    add_intent(ledger, INTENT, START_MS, 0)
    second = take(ledger, ManualClock(), "two")
    for _ in range(2):
        with pytest.raises((FencedError, SlotTakenError)):
            add_intent(ledger, replace(INTENT, order_id="0x02", slot="ETH-5m", seq=2), START_MS, 0)
        with pytest.raises(FencedError):
            finish(ledger)
        with pytest.raises(FencedError):
            add_fill(ledger, 1, INTENT, trade())
        with pytest.raises(FencedError):
            add_outcome(ledger, 1, WINDOW, INTENT.slot, Outcome.UP, START_MS)
        if not ledger.is_newest(second):
            break
        ledger.release(second, request="", reason="stopped", wall_ms=START_MS, boot_ms=0)
    with pytest.raises(FencedError):
        finish(ledger, epoch=second)
    assert ledger.integer("SELECT count(*) FROM orders") == 0


def test_a_known_trade_is_no_news_and_a_failed_one_is_reversed(ledger: Ledger) -> None:
    """A trade counts once; when it fails it counts no more, and only the first word of it is news."""
    add_intent(ledger, INTENT, START_MS, 0)
    assert add_fill(ledger, 1, INTENT, trade())
    assert not add_fill(ledger, 1, INTENT, trade(status="CONFIRMED"))
    assert [position.shares for position in positions(ledger, START_MS)] == [10 * SHARE]
    assert add_fill(ledger, 1, INTENT, trade(status="FAILED"))
    assert not add_fill(ledger, 1, INTENT, trade(status="FAILED"))
    assert positions(ledger, START_MS) == []
    assert add_fill(ledger, 1, INTENT, trade(number=2, status="FAILED"))
    assert add_outcome(ledger, 1, WINDOW, INTENT.slot, Outcome.UP, START_MS) == (0, 0)


def test_an_open_intent_remembers_what_the_venue_said(ledger: Ledger) -> None:
    """State, the most that was matched, and the shares in trades survive the process."""
    add_intent(ledger, INTENT, START_MS, 0)
    assert [(f.state, f.filled, f.matched) for f in open_intents(ledger, START_MS)] == [(None, 0, None)]
    add_order_state(ledger, 1, INTENT.order_id, OrderState.ACCEPTED, "", START_MS, 0, 7 * SHARE)
    add_fill(ledger, 1, INTENT, trade(size=4 * SHARE))
    found = open_intents(ledger, START_MS)[0]
    assert (found.intent, found.state) == (INTENT, OrderState.ACCEPTED)
    assert (found.filled, found.matched) == (4 * SHARE, 7 * SHARE)
    assert find_intent(ledger, INTENT.order_id) == INTENT
    assert find_intent(ledger, "0xnone") is None


fills = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.sampled_from(list(Outcome)),
        st.integers(1, 99).map(lambda cents: Decimal(cents) / 100),
        st.integers(1, 100_000).map(lambda cents: cents * SHARE // 100),
        st.integers(0, 3 * SHARE),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(fills, st.sampled_from(list(Outcome)))
def test_money_adds_up_to_the_last_unit(
    made: list[tuple[Side, Outcome, Decimal, int, int, bool]], winner: Outcome
) -> None:
    """Of any fills, some of which fail: PnL is winning shares, plus what was sold, less what was bought and the fees."""
    cash = fees = 0
    held = dict.fromkeys(Outcome, 0)
    with TemporaryDirectory() as folder, make_ledger(Path(folder), ManualClock()) as ledger:
        for number, (side, outcome, price, size, fee, fails) in enumerate(made):
            intent = replace(INTENT, order_id=f"0x{number}", seq=number, side=side, outcome=outcome)
            add_intent(ledger, intent, START_MS, 0)
            finish(ledger, intent.order_id)
            one = trade(intent.order_id, number, side=side, price=price, size=size, fee=fee)
            add_fill(ledger, 1, intent, one)
            if fails:
                add_fill(ledger, 1, intent, replace(one, status="FAILED"))
                continue
            sign = 1 if side is Side.BUY else -1
            held[outcome] += sign * size
            cash -= sign * int(price * size) + fee
            fees += fee
        before = {position.outcome: position.shares for position in positions(ledger, START_MS)}
        assert all(before.get(outcome, 0) == shares for outcome, shares in held.items())
        assert sum(-p.cost - p.fees for p in positions(ledger, START_MS)) == cash
        payout, pnl = add_outcome(ledger, 1, WINDOW, INTENT.slot, winner, END_MS)
        assert payout == held[winner]
        assert pnl == held[winner] + cash
        assert positions(ledger, START_MS) == []
        total = lifetime(ledger)
        assert (total.pnl, total.fees, total.orders) == (pnl, fees, len(made))
        assert (total.wins, total.losses) == (int(pnl > 0), int(pnl < 0))
        assert pnl_by_slot(ledger) == {INTENT.slot: pnl}
        assert (pnl_since(ledger, END_MS), pnl_since(ledger, END_MS + 1)) == (pnl, 0)
        assert recent_outcomes(ledger) == [(WINDOW, INTENT.slot, str(winner), pnl, fees, END_MS)]


def resolved(ledger: Ledger, winner: Outcome = Outcome.UP) -> None:
    """Ten shares of Up bought at a half, done, and the window's outcome."""
    add_intent(ledger, INTENT, START_MS, 0)
    add_fill(ledger, 1, INTENT, trade())
    finish(ledger)
    add_outcome(ledger, 1, WINDOW, INTENT.slot, winner, END_MS)


def test_a_trade_that_fails_after_the_outcome_corrects_it(ledger: Ledger) -> None:
    """The outcome stands as it was written; beside it stands by how much it was wrong, on the day that it came to light."""
    resolved(ledger)
    assert lifetime(ledger).pnl == 10 * SHARE - 5 * SHARE - 175_000
    later = END_MS + 86_400_000
    assert add_fill(ledger, 1, INTENT, trade(status="FAILED"), later)
    assert not add_fill(ledger, 1, INTENT, trade(status="FAILED"), later + 1), "once"
    totals = lifetime(ledger)
    assert (totals.pnl, totals.fees, totals.wins) == (0, 0, 0)
    assert pnl_by_slot(ledger) == {INTENT.slot: 0}
    assert pnl_since(ledger, END_MS) == 0
    assert pnl_since(ledger, later) == -(5 * SHARE - 175_000)
    assert ledger.integer("SELECT pnl FROM outcomes") == 5 * SHARE - 175_000
    assert not any(check.violations for check in audit(ledger, None))


@pytest.mark.parametrize(("winner", "pnl"), [(Outcome.UP, 10 * SHARE - 350_000), (Outcome.DOWN, -10 * SHARE - 350_000)])
def test_a_fill_that_comes_after_the_outcome_corrects_it(ledger: Ledger, winner: Outcome, pnl: int) -> None:
    """A second trade of the order shows after the window was resolved: PnL, payout and fees are those of both."""
    resolved(ledger, winner)
    assert add_fill(ledger, 1, INTENT, trade(number=2))
    assert lifetime(ledger).pnl == pnl
    assert recent_outcomes(ledger)[0][3:5] == (pnl, 350_000)
    assert not any(check.violations for check in audit(ledger, None) if check.invariant == "I5")


def test_a_fill_by_hand_gives_way_to_the_venues_own(ledger: Ledger) -> None:
    """What a person vouched for counts until the venue shows a trade of the order; then that alone counts."""
    add_intent(ledger, INTENT, START_MS, 0)
    found = OpenIntent(INTENT, OrderState.IN_DOUBT, matched=10 * SHARE)
    vouched = vouched_trade(found, "filled", None, known=0, now_ms=END_MS + 60_000)
    assert vouched is not None
    add_settled_by_hand(ledger, 1, INTENT.order_id, "filled", vouched.size, "ann", "seen on the site", END_MS)
    add_fill(ledger, 1, INTENT, vouched)
    finish(ledger)
    assert [held.shares for held in positions(ledger, START_MS)] == [10 * SHARE]
    add_outcome(ledger, 1, WINDOW, INTENT.slot, Outcome.DOWN, END_MS)
    assert add_fill(ledger, 1, INTENT, trade(size=6 * SHARE, fee=100_000))
    assert lifetime(ledger).pnl == -3 * SHARE - 100_000
    assert not any(check.violations for check in audit(ledger, None))


def test_what_a_person_says_must_fit_what_is_known() -> None:
    """Too early, more than the order, less than its trades, refused with trades: each is refused with a sentence."""
    found, late = OpenIntent(INTENT, OrderState.IN_DOUBT), END_MS + 60_000
    for verdict, shares, known, now, words in (
        ("filled", None, 0, END_MS, "has not closed"),
        ("filled", 11 * SHARE, 0, late, "found 11"),
        ("filled", 3 * SHARE, 4 * SHARE, late, "between 4 shares"),
        ("refused", None, 4 * SHARE, late, "was not refused"),
    ):
        with pytest.raises(ValueError, match=words):
            vouched_trade(found, verdict, shares, known=known, now_ms=now)  # type: ignore[arg-type]  # of a table
    assert vouched_trade(found, "refused", None, known=0, now_ms=late) is None
    assert vouched_trade(found, "filled", 4 * SHARE, known=4 * SHARE, now_ms=late) is None
    whole = vouched_trade(found, "filled", None, known=4 * SHARE, now_ms=late)
    assert whole is not None
    assert whole.size == 6 * SHARE
    assert 4 * whole.price * SHARE + int(whole.price * whole.size) + whole.fee <= INTENT.cost
