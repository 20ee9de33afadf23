"""`./ns explain`: one order's whole life out of ledger, inputs, the venue's record and logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.tools.explain import run_explain
from bus import Bus, BusError, InputsRing, open_bus
from ledger.rows import add_fill, add_intent, add_order_state, add_outcome
from ledger.schema import OrderState
from ledger.values import Outcome, Side, VenueTrade
from tests.unit.bot.making import INTENT, SHARE, START_MS, WINDOW, ManualClock, make_ledger

ORDER = "0x" + "ab" * 32
OTHER = "0x" + "cd" * 32


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """An order that was in doubt, filled and won, and one of the next tick that was refused; what was decided upon; a log."""
    made = open_bus(tmp_path / "bus")
    ledger = make_ledger(made.directory, ManualClock())
    intent = replace(INTENT, order_id=ORDER, reason="edge +0.120 at 0.48")
    add_intent(ledger, intent, START_MS + 10, 10)
    add_order_state(ledger, 1, ORDER, OrderState.IN_DOUBT, "no answer within 5 s", START_MS + 5_010, 5_010)
    trade = VenueTrade(
        "t1", ORDER, "1", "0xcondition", Side.BUY, Decimal("0.48"), 10 * SHARE, 175_000, "MATCHED", START_MS + 900
    )
    add_fill(ledger, 1, intent, trade)
    add_order_state(ledger, 1, ORDER, OrderState.DONE, "all its fills are recorded", START_MS + 6_000, 6_000)
    later = replace(INTENT, order_id=OTHER, tick=START_MS + 5_000, seq=2)
    add_intent(ledger, later, START_MS + 7_000, 7_000)
    add_order_state(ledger, 1, OTHER, OrderState.REFUSED, "not enough balance", START_MS + 7_050, 7_050)
    add_outcome(ledger, 1, WINDOW, "BTC-5m", Outcome.UP, START_MS + 310_000)
    ledger.claim(START_MS, 1, 5)
    ledger.complete(START_MS, 1, healthy=True, lag_ms=2, duration_ms=25, state="{}")
    ledger.miss(START_MS + 10_000, START_MS + 20_000, 3, 1, "no instance held the lease")
    ring = InputsRing(made.inputs)
    given = {"slot": "BTC-5m", "now_ms": START_MS + 3, "lead_price": 60_060.0, "strike": 60_000.0, "streak": 1}
    ring.add(
        START_MS, 1, json.dumps({"decisions": [{"inputs": given, "action": "enter", "reason": "edge +0.120 at 0.48"}]})
    )
    ring.close()
    line = {
        "time": "2027-01-15T08:00:00.030000+00:00",
        "event": "order_answered",
        "order_id": ORDER,
        "answer": "indoubt",
    }
    (tmp_path / "bot.log").write_text(f"{json.dumps(line)}\nno JSON, {ORDER}\n")
    yield made
    ledger.close()


def test_an_order_is_told_from_decision_to_outcome(bus: Bus, tmp_path: Path) -> None:
    """The beginning of an id is enough; decision, intent, doubt, fill, end and outcome come in order of time, logs between."""
    text = run_explain(bus.directory, ORDER[:12], None, [tmp_path / "bot.log"], as_json=False)
    told = [text.index(part) for part in (
        "decided enter", "intent: BUY 10 Up at 0.50", "order_answered", "fill: 10 at 0.48", "in_doubt", "done", "resolved Up",
    )]  # fmt: skip
    assert told == sorted(told)
    assert "epoch 1 (blue" in text
    assert OTHER[:10] not in text


def test_a_slot_and_a_tick_are_told(bus: Bus) -> None:
    """A slot shows its newest orders and decisions; a tick its poll, or why it was missed, and what came of it."""
    slot = run_explain(bus.directory, "BTC-5m", None, [], as_json=False)
    assert ORDER[:10] in slot
    assert "not enough balance" in slot
    tick = run_explain(bus.directory, str(START_MS), None, [], as_json=False)
    assert "completed in epoch 1, healthy, 2 ms late, 25 ms long" in tick
    assert ORDER[:10] in tick
    assert OTHER[:10] not in tick
    missed = json.loads(run_explain(bus.directory, str(START_MS + 15_000), None, [], as_json=True))
    assert [event["text"].rpartition(": ")[2] for event in missed] == ["no instance held the lease"]


def test_the_venues_own_record_is_put_beside(bus: Bus, tmp_path: Path) -> None:
    """With the venue's record, what it received and traded stands between; an order that it never saw is said."""
    rows = [
        {"kind": "order", "order_id": ORDER, "wallet": "0xWallet", "time_ms": START_MS + 700, "status": "matched"},
        {"kind": "trade", "order_id": ORDER, "wallet": "0xWallet", "trade_id": "t1", "time_ms": START_MS + 900,
         "size": 10 * SHARE, "price": "0.48", "status": "CONFIRMED"},
    ]  # fmt: skip
    record = tmp_path / "record.jsonl"
    record.write_text("\n".join(map(json.dumps, rows)))
    text = run_explain(bus.directory, ORDER, str(record), [], as_json=False)
    assert text.index("received:") < text.index("trade t1:") < text.index("in_doubt")
    assert "is not in the venue's record" in run_explain(bus.directory, OTHER, str(record), [], as_json=False)


@pytest.mark.parametrize("what", ["0xffff", "XRP-5m", "1700000000000", "yesterday", "0x"])
def test_what_is_not_known_is_said_in_one_line(bus: Bus, what: str) -> None:
    """A wrong name is answered with what was expected."""
    with pytest.raises(BusError, match=r"expected|known|knows"):
        run_explain(bus.directory, what, None, [], as_json=False)
