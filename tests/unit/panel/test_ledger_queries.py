"""What the panel reads from a ledger with the bot's tables: orders, fills, outcomes, PnL, continuity."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bus import Bus, open_bus
from ledger import Identity, Ledger
from ledger.schema import SCHEMA
from panel import LedgerQueries

DAY = 86_400_000
NOW = 20_000 * DAY + 5_000
INTENT = (
    "INSERT INTO intents(order_id, epoch, tick, generation, slot, window, window_end_ms, condition_id, token_id, outcome, side, "
    "seq, price, size, cost, order_type, body, reason, wall_ms, boot_ms) "
    "VALUES (?, ?, 1, 1, ?, ?, ?, 'c', 't', 'Up', ?, 1, '0.50', 10000000, 5000000, 'FAK', '{}', 'edge', ?, ?)"
)


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """Two epochs, the first one's holder died; two orders, one in doubt; three outcomes on two days, one corrected."""
    bus = open_bus(tmp_path / "bus")
    with Ledger.hold(bus.ledger, Identity("paper", "137", "0xabc"), SCHEMA) as ledger:
        one = take(ledger, NOW - 90_000, 1_000)
        ledger.apply_control(1, one, body='{"mode":"run"}', refused="[]", wall_ms=1)
        ledger.miss(NOW - 95_000, NOW - 92_000, 2, one, "no instance ran")
        ledger.claim(NOW - 90_000, one, 1_000)
        ledger.complete(NOW - 90_000, one, healthy=True, lag_ms=3, duration_ms=12, state="{}")
        ledger.execute(INTENT, ("0x1", one, "BTC-5m", "w1", NOW, "BUY", NOW - 80_000, 2_000))
        state = "INSERT INTO orders(epoch, order_id, state, text, wall_ms, boot_ms) VALUES (?, ?, ?, '', 1, ?)"
        ledger.execute(state, (one, "0x1", "accepted", 2_040))
        ledger.execute(state, (one, "0x1", "done", 2_900))
        fill = "INSERT INTO fills VALUES (?, '0x1', ?, ?, 'w1', 'Up', 'BUY', '0.50', ?, 1, 70000, ?)"
        ledger.execute(fill, ("t1", "MATCHED", one, 4_000_000, NOW))
        ledger.execute(fill, ("t2", "MATCHED", one, 6_000_000, NOW))
        ledger.execute(fill, ("t2", "FAILED", one, 6_000_000, NOW))
        two = take(ledger, NOW - 60_000, 30_000)
        ledger.execute(INTENT, ("0x2", two, "ETH-5m", "w2", NOW, "BUY", NOW - 50_000, 40_000))
        ledger.execute(state, (two, "0x2", "in_doubt", 45_000))
        outcome = "INSERT INTO outcomes(window, epoch, slot, winner, payout, pnl, fees, wall_ms) VALUES (?,?,?,'Up',0,?,5000,?)"
        ledger.execute(outcome, ("w0", two, "BTC-5m", -2_000_000, NOW - DAY))
        ledger.execute(outcome, ("w1", two, "BTC-5m", 3_500_000, NOW))
        ledger.execute(outcome, ("w3", two, "ETH-5m", 1_000_000, NOW))
        ledger.execute(
            "INSERT INTO corrections(epoch, window, slot, payout, pnl, fees, reason, wall_ms) "
            "VALUES (?, 'w3', 'ETH-5m', 0, -1500000, 0, 'x', ?)",
            (two, NOW),
        )
        ledger.release(two, request="r", reason="named", wall_ms=NOW, boot_ms=50_000)
        take(ledger, NOW, 50_030)
    return bus


def take(ledger: Ledger, wall_ms: int, boot_ms: int) -> int:
    """Begin an epoch."""
    return ledger.take(instance="i", sha="s", color="blue", request="", wall_ms=wall_ms, boot_ms=boot_ms, boot_id="b")


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


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """No ledger is an empty answer; a damaged one is a problem in words."""
    bus = open_bus(tmp_path / "bus")
    assert LedgerQueries(bus).summary().problem is None
    bus.ledger.write_bytes(b"no database" * 500)
    assert "cannot be read" in (LedgerQueries(bus).orders(None, 1).problem or "")
