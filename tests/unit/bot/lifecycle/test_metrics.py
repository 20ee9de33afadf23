"""The bot's metrics: bounded names, unknown until known, the same totals whoever is asked."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from bot.lifecycle.metrics import Metrics, slot_state
from bot.lifecycle.polls import Poll
from bot.orders.risk import Usage, refuse_entry
from bot.reasons import Reason, ReasonCode
from bot.strategy.api import Decision
from bot.strategy.snipe import Parameters, decide
from bus import RiskLimits, SlotControl, Status, Totals
from bus.status import PositionStatus, SlotStatus
from bus.tasks import serve_metrics
from ledger.values import Outcome
from tests.unit.bot.making import inputs

HELD = PositionStatus(window="w", outcome="Up", shares=Decimal(1), cost=Decimal(1))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """One sample."""
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, f"{name}{labels} is not exported"
    return found


def status(**changes: Any) -> Status:
    """A status."""
    return Status(
        **{"epoch": 3, "instance": "i", "sha": "a", "color": "blue", "since_ms": 5_000, "interval_ms": 5_000, **changes}
    )


@pytest.mark.parametrize(
    ("name", "decision"),
    [
        ("no_data", decide(inputs(strike=None), Parameters())),
        ("no_offers", decide(inputs(asks_up=(), asks_down=()), Parameters())),
        ("before_snipe", decide(inputs(now_ms=inputs().start_ms), Parameters())),
        ("price", decide(inputs(), Parameters(max_price=0.1))),
        ("edge", decide(inputs(), Parameters(min_edge=0.9))),
        ("confirming", decide(inputs(), Parameters())),
        ("size", decide(inputs(), Parameters(confirmations=1, max_stake=0.5))),
        (
            "busy",
            decide(
                inputs(blocked=Reason(ReasonCode.BUSY, "an order of this slot is open")), Parameters(confirmations=1)
            ),
        ),
    ],
)
def test_what_the_strategy_says_has_a_name(name: str, decision: Decision) -> None:
    """Each reason of the strategy has one of a closed list of codes; its numbers never become a label."""
    assert decision.action == "none"
    assert decision.code == name


def test_what_risk_says_has_a_name() -> None:
    """Every refusal of risk has a name."""
    calm: dict[str, Any] = {
        "slot": 0,
        "asset": 0,
        "total": 0,
        "loss_today": 0,
        "orders_last_minute": 0,
        "balance": 10**12,
    }
    full = 10**13
    names = []
    wrongs: tuple[dict[str, Any], ...] = (
        {"slot": full},
        {"asset": full},
        {"total": full},
        {"loss_today": full},
        {"orders_last_minute": 999},
        {"balance": 0},
        {"loss_last_hour": full},
        {"losses_in_a_row": 3, "last_loss_ms": 0},
        {"directions": {Outcome.UP: full}},
        {"failed_last_hour": 10},
    )
    for wrong in wrongs:
        limits = RiskLimits(hourly_loss=Decimal(1), losses_in_a_row=3, max_direction=Decimal(1))
        refusal = refuse_entry(10**6, Usage(**{**calm, **wrong}), limits, SlotControl(), outcome=Outcome.UP)
        assert refusal is not None, wrong
        names.append(refusal.code)
    assert names == [
        "risk", "risk", "risk", "daily_loss", "rate", "bankroll", "hourly_loss", "losses_in_a_row", "direction",
        "failed_trades",
    ]  # fmt: skip


def test_the_label_has_the_codes_and_nothing_else() -> None:
    """The values of the label `reason` are the enumeration of codes, so that no words and no number ever become one."""
    metrics = Metrics("1", "sha")
    for name in ("bot_refusals", "bot_entries_closed"):
        (family,) = [family for family in metrics.registry.collect() if family.name == name]
        assert [sample.labels["reason"] for sample in family.samples] == [str(code) for code in ReasonCode]


def test_nothing_is_told_before_it_is_known() -> None:
    """Totals are NaN until status tells them, so that a new bot is never taken for one whose ledger is empty."""
    metrics = Metrics("1", "sha")
    assert math.isnan(value(metrics, "bot_ledger_polls_missed"))
    assert math.isnan(value(metrics, "bot_tick_timestamp_seconds"))
    totals = Totals(polls_missed=4, pnl=Decimal("-1.25"))
    metrics.note_status(
        status(tick=9_000, totals=totals, entries="control says pause", entries_code="paused", venue_mode="post-only")
    )
    assert value(metrics, "bot_ledger_polls_missed") == 4
    assert value(metrics, "bot_ledger_pnl_pusd") == -1.25
    assert value(metrics, "bot_tick_timestamp_seconds") == 9
    assert value(metrics, "bot_entries_open") == 0
    assert value(metrics, "bot_entries_closed", reason="paused") == 1
    assert value(metrics, "bot_venue_mode", mode="post-only") == 1
    assert value(metrics, "bot_venue_mode", mode="normal") == 0
    metrics.note_status(status())
    assert value(metrics, "bot_entries_closed", reason="paused") == 0


def test_no_series_appears_later() -> None:
    """Whatever happens, polls, orders, reasons that nobody knows: the series are those of the start."""
    metrics = Metrics("1", "sha")
    metrics.prepare((("BTC-5m", "BTC"),), ("binance BTC",))
    before = {(s.name, tuple(s.labels.items())) for family in metrics.registry.collect() for s in family.samples}
    decision = Decision("none", "something new 12.5")
    evaluation = SimpleNamespace(decision=decision)
    metrics.note_poll(Poll(5_000, True, None, cast(Any, [evaluation]), 1, 20), 0.001)
    metrics.note_shadow()
    metrics.note_order("in_doubt", 0.02, 1.0)
    slot = SlotStatus(slot="BTC-5m", asset="BTC", timeframe="5m", enabled=True, in_snipe=True)
    metrics.note_status(status(slots=(slot,), entries="whatever"))
    after = {(s.name, tuple(s.labels.items())) for family in metrics.registry.collect() for s in family.samples}
    assert after == before
    assert value(metrics, "bot_refusals_total", reason="other") == 1
    assert value(metrics, "bot_orders_total", outcome="in_doubt") == 1
    assert value(metrics, "bot_order_send_to_answer_seconds_sum") == 1.0
    assert value(metrics, "bot_slots", state="snipe") == 1


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "waiting"),
        ({"in_snipe": True}, "snipe"),
        ({"enabled": False}, "off"),
        (
            {
                "enabled": False,
                "position": PositionStatus(window="w", outcome="Up", shares=Decimal(1), cost=Decimal(1)),
            },
            "position",
        ),
        ({"in_snipe": True, "orders": 1}, "order_open"),
        ({"orders": 1, "in_doubt": 1}, "in_doubt"),
    ],
)
def test_a_slot_has_the_state_that_matters_most(changes: dict[str, Any], state: str) -> None:
    """Doubt comes before an open order, that before a position, that before being off."""
    assert (
        slot_state(SlotStatus(**{"slot": "s", "asset": "BTC", "timeframe": "5m", "enabled": True, **changes})) == state
    )


def test_dropped_lines_are_counted_when_asked(tmp_path: Path) -> None:
    """What the log dropped shows as a counter; it is looked at when Prometheus asks, and never goes back."""
    dropped = [0]
    metrics = Metrics("1", "sha", dropped=lambda: dropped[0])
    asked = []
    metrics.before_scrape(lambda: asked.append(1))
    dropped[0] = 7
    assert b"bot_log_lines_dropped_total 7.0" in metrics.text()
    assert b"bot_log_lines_dropped_total 7.0" in metrics.text()
    assert len(asked) == 2


def test_it_is_served_by_the_event_loop() -> None:
    """/metrics is answered in Prometheus' own format, by the loop that polls."""

    async def scrape() -> tuple[int, str, str]:
        metrics = Metrics("1", "sha")
        runner, address = await serve_metrics(metrics.text, "127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
                return answer.status, answer.headers["Content-Type"], await answer.text()
        finally:
            await runner.cleanup()

    code, kind, text = asyncio.run(scrape())
    assert code == 200
    assert kind.startswith("text/plain; version=")
    assert 'bot_build_info{git_sha="sha",version="1"} 1.0' in text
