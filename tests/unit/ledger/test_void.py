"""A window in which nobody won pays half a pUSD a share: an outcome like others, and what a person may say of a window."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.account.reconciler import VOID_AFTER_MS
from bot.account.redeem import won_positions
from bot.orders.resolution import CLOSED_MARGIN_MS
from bus import read_status
from ledger.checks import audit
from ledger.rows import add_fill, add_intent, add_order_state, add_outcome, half, positions
from ledger.schema import OrderState
from ledger.totals import lifetime
from ledger.values import VOID, Outcome, Side, VenueTrade
from tests.unit.bot.fake_venue import FakeVenue
from tests.unit.bot.lifecycle.test_instance import until
from tests.unit.bot.making import END_MS, INTENT, MARKET, SHARE, START_MS, WINDOW, ManualClock, make_ledger
from tests.unit.bot.odd import OddVenue, enter, held, rows, trading, until_ms
from tests.unit.bot.operator.test_requests import say
from tests.unit.bot.running import Running

OUTCOMES = "SELECT winner, payout, pnl FROM results"


def shown_void(running: Running, *, from_ms: int = END_MS) -> None:
    """From then on the venue shows the window as closed, with 0.5 for each outcome."""

    def describe(slug: str) -> object:
        over = running.clock.wall_ms() >= from_ms and slug == WINDOW
        return replace(MARKET, slug=slug, closed=over, accepting=not over, winner=None, is_void=over)

    running.venue.describe = describe  # type: ignore[assignment]  # it gives a Market


def test_a_void_window_is_an_outcome_and_frees_its_limits(tmp_path: Path) -> None:
    """Ten shares for 6.01 pay 5: PnL, a redemption, and room for the next entry, minutes after the window and not never."""

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        shown_void(running)
        await until_ms(running, END_MS + 2_000)
        assert running.count("SELECT count(*) FROM outcomes") == 0, "one look at 0.5 and 0.5 proves nothing"
        await until("an outcome", lambda: running.count("SELECT count(*) FROM outcomes"), VOID_AFTER_MS / 1000 + 10)
        await until("status without it", lambda: read_status(running.bus).body.positions == (), 5)
        status = read_status(running.bus).body
        assert (status.outcomes[0].winner, status.outcomes[0].pnl) == (VOID, Decimal("-1.01"))
        assert status.totals.losses == 1
        assert status.usage is not None
        assert status.usage.total == 0

    running = trading(tmp_path, FakeVenue(), enter, work, risk={"max_slot": 7, "max_order": 7})
    assert rows(running, OUTCOMES) == [(VOID, 5 * SHARE, -SHARE - SHARE // 100)]


def test_a_window_that_is_shown_void_for_a_moment_waits_for_its_outcome(tmp_path: Path) -> None:
    """A market that is only closed may show 0.5 and 0.5: what it resolves to afterwards counts."""

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        shown_void(running)
        await until_ms(running, END_MS + VOID_AFTER_MS - 10_000)
        running.venue.describe = lambda slug: replace(MARKET, slug=slug, closed=slug == WINDOW, winner=Outcome.UP)
        await until("an outcome", lambda: running.count("SELECT count(*) FROM outcomes"), 30)

    running = trading(tmp_path, FakeVenue(), enter, work)
    assert rows(running, OUTCOMES)[0][0] == "Up"


@pytest.mark.parametrize("late", ["nothing", "a fill", "a failure"])
def test_both_outcomes_pay_half_and_late_news_correct_it(tmp_path: Path, late: str) -> None:
    """To the base unit, with odd shares of both outcomes, exits subtracted; the audit agrees."""
    with make_ledger(tmp_path, ManualClock()) as ledger:
        up, down = INTENT, replace(INTENT, order_id="0x02", outcome=Outcome.DOWN, token_id="2", seq=2)
        out = replace(INTENT, order_id="0x03", side=Side.SELL, cost=0, seq=1)
        trades = [
            VenueTrade("t1", "0x01", "1", "0xc", Side.BUY, Decimal("0.5"), 5_000_001, 10, "MATCHED", START_MS),
            VenueTrade("t2", "0x02", "2", "0xc", Side.BUY, Decimal("0.4"), 3_000_001, 10, "MATCHED", START_MS),
            VenueTrade("t3", "0x03", "1", "0xc", Side.SELL, Decimal("0.6"), 2_000_000, 10, "MATCHED", START_MS),
        ]
        for intent, trade in zip((up, down, out), trades, strict=True):
            add_intent(ledger, intent, START_MS, 0)
            add_fill(ledger, 1, intent, trade)
            add_order_state(ledger, 1, intent.order_id, OrderState.DONE, "", START_MS, 0)
        payout, pnl = add_outcome(ledger, 1, WINDOW, INTENT.slot, VOID, END_MS)
        assert payout == half(3_000_001) + half(3_000_001) == 3_000_000
        assert pnl == payout - int(Decimal("0.5") * 5_000_001) - int(Decimal("0.4") * 3_000_001) + 1_200_000 - 30
        assert positions(ledger, END_MS) == []
        (won,) = won_positions(ledger, END_MS + 1)
        assert won.shares == payout
        if late == "a fill":
            add_fill(ledger, 1, up, replace(trades[0], trade_id="t4", size=1_000_000))
        elif late == "a failure":
            add_fill(ledger, 1, down, replace(trades[1], status="FAILED"))
        expected = {"nothing": payout, "a fill": 3_500_000, "a failure": half(3_000_001)}[late]
        assert ledger.integer("SELECT payout FROM results") == expected
        assert lifetime(ledger).pnl == ledger.integer("SELECT pnl FROM results")
        assert [text for check in audit(ledger, None) for text in check.violations if "I3" not in check.invariant] == []


def test_the_outcome_that_is_held_of_a_void_window_is_claimed(tmp_path: Path) -> None:
    """Up was bought, and its trade failed on the chain; Down was bought then: Down's balance says whether all is paid.

    Failed before: Up was looked at, of which nothing is held, and the window was called paid.
    """
    with make_ledger(tmp_path, ManualClock()) as ledger:
        down = replace(INTENT, order_id="0x02", outcome=Outcome.DOWN, token_id="2", seq=2)
        for intent, status in ((INTENT, "FAILED"), (down, "MATCHED")):
            trade = VenueTrade(
                f"t{intent.seq}", intent.order_id, intent.token_id, "0xc", Side.BUY, Decimal("0.5"), 5_000_000, 0, status,
                START_MS,
            )  # fmt: skip
            add_intent(ledger, intent, START_MS, 0)
            add_fill(ledger, 1, intent, trade)
            add_order_state(ledger, 1, intent.order_id, OrderState.DONE, "", START_MS, 0)
        add_outcome(ledger, 1, WINDOW, INTENT.slot, VOID, END_MS)
        (won,) = won_positions(ledger, END_MS + 1)
        assert (won.token_id, won.shares) == ("2", 2_500_000)


# --- by hand


@pytest.mark.parametrize(("verdict", "payout"), [("Up", 10 * SHARE), ("Down", 0), ("Void", 5 * SHARE)])
def test_a_person_says_how_a_window_resolved(tmp_path: Path, verdict: str, payout: int) -> None:
    """Not before it closed, once, with name and reason; its PnL counts and its limits are free."""

    async def work(running: Running) -> None:
        await until("an entry", lambda: held(running))
        running.venue.describe = lambda slug: replace(MARKET, slug=slug, closed=slug == WINDOW, accepting=False)
        early, words = await say(running, action="settle", order_id=WINDOW, verdict=verdict, note="early")
        assert not early
        assert "has not closed" in words
        await until_ms(running, END_MS + CLOSED_MARGIN_MS + 10_000)
        assert (await say(running, action="settle", order_id=WINDOW, verdict=verdict, note="the site shows it"))[0]
        again, words = await say(running, action="settle", order_id=WINDOW, verdict=verdict, note="again")
        assert not again
        assert "has no outcome yet" in words
        await asyncio.sleep(1)
        assert read_status(running.bus).body.positions == ()

    running = trading(tmp_path, FakeVenue(), enter, work)
    assert rows(running, OUTCOMES) == [(verdict, payout, payout - 6 * SHARE - SHARE // 100)]
    assert rows(running, "SELECT order_id, verdict, who FROM settled_by_hand") == [(WINDOW, verdict, "ann")]


def test_a_person_ends_all_that_is_open_in_a_window(tmp_path: Path) -> None:
    """The venue says that something was matched and never shows it: the window's name is enough, and then how it resolved."""
    venue = OddVenue(after_s=None, show=lambda _matched: "LIVE")
    venue.claims = 4 * SHARE

    async def work(running: Running) -> None:
        await until("an entry", lambda: running.count("SELECT count(*) FROM intents") == 1)
        await until_ms(running, END_MS + CLOSED_MARGIN_MS + 30_000)
        assert running.count("SELECT count(*) FROM open_orders") == 1, "what was matched is not known"
        done, words = await say(running, action="settle", order_id=WINDOW, verdict="refused", note="never filled")
        assert done, words
        assert "1 orders of window" in words
        assert running.count("SELECT count(*) FROM open_orders") == 0

    trading(tmp_path, venue, enter, work)


def test_a_window_that_was_not_traded_is_not_settled(tmp_path: Path) -> None:
    """A slip of the pen changes nothing."""

    async def work(running: Running) -> None:
        done, words = await say(running, action="settle", order_id="btc-updown-5m-1", verdict="Up", note="slip")
        assert not done
        assert "is not one that was traded" in words

    trading(tmp_path, FakeVenue(), lambda inputs: replace(enter(inputs), action="none"), work)
