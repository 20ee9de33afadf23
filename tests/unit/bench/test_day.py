"""The simulated day: it holds over handovers and kills, equal seeds trade equally, and what is broken is found."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.day import Day, Plan, run
from bench.inside import InsideVenue
from bus import Bus
from ledger import Ledger
from ledger.checks import audit
from ledger.values import VenueTrade
from recording.tapes import HEADER

# Windows of 5 and of 15 minutes end a little after the simulation does, so that nothing is waited for.
BEGIN = datetime(2022, 1, 5, 12, 12, 30, tzinfo=UTC)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two minutes of BTC, an instance every 40 s."""
    path, source, price = tmp_path / "btc.csv", random.Random(5), 47_000.0
    rows = [HEADER]
    for minute in range(20):
        opened, price = price, price * math.exp(source.gauss(0, 1e-3))
        high, low = max(opened, price) * 1.0004, min(opened, price) * 0.9996
        rows.append(f"{(BEGIN + timedelta(minutes=minute - 10)).isoformat()},{opened},{high},{low},{price},1")
    path.write_text("\n".join(rows) + "\n")
    return Plan(2 / 60, 1, f"{path}@BTC", BEGIN, step_s=1.0, quote_s=3.0, epoch_ms=40_000, settle_ms=60_000)


def violations(day: Day) -> str:
    """All of them, as one text."""
    return "\n".join(text for check in day.checks for text in check.violations)


def test_holds_over_handovers_and_kills_and_a_fill_that_the_venue_does_not_show_is_found(
    plan: Plan, tmp_path: Path
) -> None:
    """Every check holds, twice with the same trades; without one of its trades, or a unit of it, the record is refused."""
    day, bus, record = run(plan, tmp_path / "first")
    assert not violations(day)
    assert day.handovers, "else this shows nothing"
    assert day.kills
    assert day.facts["fills"] >= 2
    assert day.facts["polls_missed"] == 0
    again, _, _ = run(plan, tmp_path / "again")
    assert again.digest == day.digest

    oldest = min(record.trades, key=lambda row: row["time_ms"])
    oldest["size"] += 1
    assert oldest["trade_id"] in broken(bus, record)
    record.trades.remove(oldest)
    assert f"the ledger's fill {oldest['trade_id']}" in broken(bus, record)


def test_a_fill_that_the_bot_is_never_shown_is_found(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wallet's money is held against the ledger: an order whose fills stay hidden shows as a difference."""
    hidden: set[str] = set()
    trades = InsideVenue.trades

    async def without_the_first(venue: InsideVenue, *given: object, **named: object) -> list[VenueTrade]:
        found = await trades(venue, *given, **named)  # type: ignore[arg-type]  # passed on as they came
        if found and not hidden:
            hidden.add(found[0].order_id)
        return [row for row in found if row.order_id not in hidden]

    monkeypatch.setattr(InsideVenue, "trades", without_the_first)
    day, _, _ = run(plan, tmp_path)
    assert "the wallet has" in violations(day)


def broken(bus: Bus, record: object) -> str:
    """What the audit finds with this record."""
    ledger = Ledger.reader(bus.ledger)
    assert ledger is not None
    with ledger:
        return "\n".join(text for check in audit(ledger, record) for text in check.violations)  # type: ignore[arg-type]
