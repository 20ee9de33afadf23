"""What the panel reads from a ledger with the bot's tables: orders, fills, outcomes, PnL, continuity."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bus import Bus, open_bus
from ledger import Identity, Ledger
from ledger.schema import SCHEMA
from panel import LedgerQueries
from panel.performance import performance
from tests.unit.panel.ledgers import DAY, NOW, make_day, make_ledger


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """One with the ledger of `make_ledger`."""
    bus = open_bus(tmp_path / "bus")
    make_ledger(bus)
    return bus


def test_orders_and_fills_show_what_came_of_them(bus: Bus) -> None:
    """A trade that failed counts for nothing; the newest state and the time to the answer are each order's; slots select."""
    newest, oldest = LedgerQueries(bus).orders(None, 10).orders
    assert (newest.order_id, newest.state, newest.filled, newest.answer_ms) == ("0x2", "in_doubt", Decimal(0), 5_000)
    assert (oldest.order_id, oldest.state, oldest.filled, oldest.answer_ms) == ("0x1", "done", Decimal(4), 40)
    assert [one.order_id for one in LedgerQueries(bus).orders("BTC-5m", 10).orders] == ["0x1"]
    assert [(one.trade_id, one.counts, one.slot) for one in LedgerQueries(bus).fills("BTC-5m", 10).fills] == [
        ("t2", False, "BTC-5m"),
        ("t1", True, "BTC-5m"),
    ]
    assert LedgerQueries(bus).fills("ETH-5m", 10).fills == ()


def test_pnl_by_slot_and_day_and_its_curve_count_corrections(bus: Bus) -> None:
    """A corrected outcome counts as corrected; the curve ends at the sum of everything."""
    rows = [(one.day_ms, one.slot, one.pnl, one.wins, one.losses) for one in LedgerQueries(bus).pnl(30, NOW).rows]
    today = NOW // DAY * DAY
    assert rows == [
        (today, "BTC-5m", Decimal("3.5"), 1, 0),
        (today, "ETH-5m", Decimal("-0.5"), 0, 1),
        (today - DAY, "BTC-5m", Decimal(-2), 0, 1),
    ]
    assert {one.day_ms for one in LedgerQueries(bus).pnl(1, NOW).rows} == {today}
    curve = LedgerQueries(bus).summary().curve
    assert [(one.total, one.won) for one in curve] == [
        (Decimal(-2), False),
        (Decimal("1.5"), True),
        (Decimal(1), False),
    ]
    assert [one.window for one in LedgerQueries(bus).outcomes("BTC-5m", 1).outcomes] == ["w1"]


def test_the_summary_tells_a_crash_from_a_handover(bus: Bus) -> None:
    """Continuity counts from the newest gap; a take after a death is a restart, one after a release a handover."""
    summary = LedgerQueries(bus).summary()
    kept = summary.continuity
    assert (kept.gap_ms, kept.gap_reason, kept.restarts, kept.handovers) == (NOW - 92_000, "no instance ran", 1, 1)
    assert [one.order_id for one in summary.doubt] == ["0x2"]
    assert (summary.latency.lag.p50, summary.latency.handover.most, summary.latency.order.count) == (3, 30, 2)


def test_what_was_predicted_is_judged_beside_the_market(bus: Bus) -> None:
    """Who knew better is said with its interval; a slot without predictions has none; so has a ledger without the table."""
    found = LedgerQueries(bus).calibration("BTC-5m")
    (score,) = found.scores
    assert (score.name, score.windows, score.model) == ("60 s left", 40, 0.25)
    assert score.market == pytest.approx(0.01)
    assert score.verdict == "the market knew better than the model"
    assert [(one.who, one.n) for one in found.bins] == [("model", 40), ("market", 20), ("market", 20)]
    assert LedgerQueries(bus).calibration("ETH-5m").scores == ()


def test_how_well_it_traded_is_summed_over_the_time_that_is_asked_about(bus: Bus) -> None:
    """By slot, asset, commit, reason and day with corrections; equity ends at the whole ledger's PnL, whatever is asked about."""
    ever, day = LedgerQueries(bus).performance(None, NOW), LedgerQueries(bus).performance(1, NOW + 1)
    assert (ever.problem, ever.total, day.total, ever.whole) == (None, Decimal(1), Decimal(1), True)
    assert ever.all is not None
    assert day.all is not None
    assert (ever.all.pnl, ever.all.windows, ever.all.wins, ever.all.losses) == (Decimal(1), 3, 1, 2)
    assert (day.all.pnl, day.all.windows, [one.total for one in day.equity]) == (
        Decimal(3),
        2,
        [Decimal("1.5"), Decimal(1)],
    )
    assert ever.all.low == pytest.approx(0.0615, abs=1e-3), "1 of 3 by Wilson"
    assert ever.all.high == pytest.approx(0.7923, abs=1e-3)
    groups = {(one.by, one.name): one.pnl for one in ever.groups}
    assert groups["slot", "BTC-5m"] == groups["asset", "BTC"] == Decimal("1.5")
    assert groups["slot", "ETH-5m"] == Decimal("-0.5")
    assert groups["commit", "s"] == Decimal("3.5"), "the one window in which an order was filled"
    assert groups["reason", "? → held"] == 1
    for kind in ("slot", "asset", "hour", "reason", "commit", "day"):
        assert sum(pnl for (by, _), pnl in groups.items() if by == kind) == 1, kind
    assert (ever.drawdown.amount, day.drawdown.amount) == (Decimal(2), Decimal("0.5"))
    assert (ever.answer.count, ever.answer.most) == (2, 5_000)


def test_more_windows_than_are_looked_at_are_said_and_the_total_is_of_all(bus: Bus) -> None:
    """The newest are shown; the equity begins where the older ones left it."""
    ledger = Ledger.reader(bus.ledger)
    assert ledger is not None
    with ledger:
        found = performance(ledger, None, windows=1)
    assert found.all is not None
    assert (found.whole, found.total, found.all.pnl) == (False, Decimal(1), Decimal("-0.5"))
    assert [one.total for one in found.equity] == [1]


def test_slippage_is_against_the_price_of_the_decision(tmp_path: Path) -> None:
    """Bought dearer or sold cheaper than the book said is worse; an order without a decision is left out."""
    bus = open_bus(tmp_path / "bus")
    make_day(bus, NOW, windows=3)
    with Ledger.hold(bus.ledger, Identity("paper", "137", "0xabc"), SCHEMA) as ledger:
        window = "SELECT window FROM intents WHERE side = 'SELL'"
        for side, price in (("BUY", 0.49), ("SELL", 0.53)):
            ledger.execute(f"INSERT INTO beliefs VALUES (({window}), ?, 1, 1, 1, 0.5, 0.5, 0.5, ?)", (side, price))
    found = LedgerQueries(bus).performance(None, NOW).slippage
    assert (found.orders, found.mean, found.cost) == (2, Decimal("0.02"), Decimal("0.4"))
    assert (found.p50, found.p99) == (Decimal("0.03"), Decimal("0.03"))


def test_an_orders_life_is_told_in_order_of_time(bus: Bus) -> None:
    """Its intent, answers, trades and its window's outcome; an id that is not known has none."""
    life = LedgerQueries(bus).life("0x1")
    assert life.order is not None
    assert life.order.state == "done"
    assert {one.what for one in life.events} == {"intended", "accepted", "done", "filled", "failed", "resolved"}
    assert [one.time_ms for one in life.events] == sorted(one.time_ms for one in life.events)
    assert LedgerQueries(bus).life("0x9").events == ()


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """No ledger is an empty answer; a damaged one is a problem in words."""
    bus = open_bus(tmp_path / "bus")
    assert LedgerQueries(bus).summary().problem is None
    bus.ledger.write_bytes(b"no database" * 500)
    assert "cannot be read" in (LedgerQueries(bus).orders(None, 1).problem or "")
