"""The test of the tests: a good ledger passes the audit, and each invariant broken by hand is named by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.orders.resolution import add_settled_by_hand
from bot.tools.audit import run_audit
from bus import BusError
from ledger import Ledger
from ledger.checks import IN_FLIGHT_MS, IN_THE_NETWORK_MS, VenueRecord, audit, read_record
from ledger.rows import add_fill, add_intent, add_order_state, add_outcome
from ledger.schema import DERIVED, OrderState
from ledger.values import Outcome, Side, VenueTrade
from tests.unit.bot.making import (
    END_MS,
    IDENTITY,
    INTENT,
    SHARE,
    START_MS,
    WINDOW,
    ManualClock,
    apply,
    make_ledger,
    take,
)

TICK_MS = 5000
TRADE = VenueTrade(
    "t1", "0x01", "1", "0xcondition", Side.BUY, Decimal("0.5"), 10 * SHARE, 175_000, "MATCHED", START_MS + 400
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Two epochs with a handover between them, polls, missed ticks, an entry, a failed trade, an exit, an outcome."""
    clock = ManualClock()
    with make_ledger(tmp_path, clock) as made:
        made.execute(
            "INSERT INTO anchors(epoch, wall_ms, boot_ms, boot_id, interval_ms) VALUES (1, ?, 0, 'b', ?)",
            (START_MS, TICK_MS),
        )
        poll(made, clock, 0, 1)
        add_intent(made, INTENT, clock.wall_ms(), clock.boot_ms())
        clock.moved_ms += 1000
        for state in (OrderState.ACCEPTED, OrderState.DONE):
            add_order_state(made, 1, INTENT.order_id, state, "", clock.wall_ms(), clock.boot_ms(), 10 * SHARE)
        add_fill(made, 1, INTENT, TRADE)
        add_fill(made, 1, INTENT, replace(TRADE, trade_id="t2", status="FAILED"))
        clock.moved_ms += TICK_MS
        made.release(1, request="r1", reason="handover", wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms())
        take(made, clock, "two")
        made.miss(START_MS + TICK_MS, START_MS + 2 * TICK_MS, 2, 2, "no instance held the lease")
        poll(made, clock, 3, 2)
        apply(made, 2, 2, "pause")
        exiting = replace(INTENT, order_id="0x02", epoch=2, side=Side.SELL, cost=0, size=4 * SHARE, generation=2)
        add_intent(made, exiting, clock.wall_ms(), clock.boot_ms())
        add_order_state(made, 2, "0x02", OrderState.DONE, "", clock.wall_ms(), clock.boot_ms())
        add_fill(made, 2, exiting, replace(TRADE, trade_id="t3", order_id="0x02", side=Side.SELL, size=4 * SHARE))
        add_outcome(made, 2, WINDOW, INTENT.slot, Outcome.UP, END_MS)
        add_settled_by_hand(made, 2, "0x02", "filled", 0, "ann", "the venue's page shows it", END_MS)
        yield made


def poll(ledger: Ledger, clock: ManualClock, number: int, epoch: int) -> None:
    """A completed poll of the n-th tick."""
    tick = START_MS + number * TICK_MS
    ledger.claim(tick, epoch, clock.boot_ms())
    ledger.complete(tick, epoch, healthy=True, lag_ms=1, duration_ms=2, state="{}")


def record(**order: Any) -> VenueRecord:
    """What the venue wrote down of that; with fields of the first order changed."""
    first = {"order_id": "0x01", "received_ms": START_MS + 300, "wallet": IDENTITY.wallet}
    second = first | {"order_id": "0x02", "received_ms": START_MS + TICK_MS + 2000}
    trades = [
        {"trade_id": key, "order_id": of, "size": size, "fee": 175_000, "time_ms": START_MS + 400, "status": status}
        for key, of, size, status in (
            ("t1", "0x01", 10 * SHARE, "CONFIRMED"),
            ("t2", "0x01", 10 * SHARE, "FAILED"),
            ("t3", "0x02", 4 * SHARE, "MATCHED"),
        )
    ]
    return VenueRecord({"0x01": first | order, "0x02": second}, trades)


def broken(ledger: Ledger, venue: VenueRecord | None = None, max_missed: int | None = None) -> dict[str, str]:
    """The violated invariants with their sentences."""
    return {
        check.invariant: "; ".join(check.violations) for check in audit(ledger, venue, max_missed) if check.violations
    }


def test_a_good_ledger_passes(ledger: Ledger) -> None:
    """Nothing is found in what is right, and each check looked at something."""
    assert broken(ledger, record(), max_missed=2) == {}
    assert all(check.looked_at for check in audit(ledger, record()))


NEW_EPOCH = (
    "INSERT INTO epochs SELECT {n}, instance, sha, color, request, wall_ms, boot_ms, boot_id FROM epochs LIMIT 1"
)
STATE = (
    "INSERT INTO orders(epoch, order_id, state, text, wall_ms, boot_ms) VALUES (1, '0x01', 'accepted', '', 0, {boot})"
)


@pytest.mark.parametrize(
    ("statements", "invariant", "sentence"),
    [
        ([NEW_EPOCH.format(n=4)], "I1", "epoch 4 stands where 3 was expected"),
        (["DELETE FROM epochs WHERE epoch = 1"], "I1", "epoch 2 stands where 1"),
        ([STATE.format(boot=0)], "I1", "a row of orders of epoch 1 was written after one of epoch 2"),
        (["UPDATE polls_claimed SET boot_ms = 2000000 WHERE epoch = 1"], "I1", "came after the release of its epoch 1"),
        (["UPDATE intents SET boot_ms = 2000000 WHERE epoch = 1"], "I1", "intent 0x01 came after the release"),
        (["UPDATE orders SET boot_ms = 2000000 WHERE epoch = 1"], "I1", "order 0x01 came after the release"),
        (
            ["DELETE FROM releases", "UPDATE polls_claimed SET boot_ms = 2000000 WHERE epoch = 1"],
            "I1",
            "was claimed by epoch 1 after epoch 2 began",
        ),
        (["DELETE FROM polls_missed"], "I2", "nothing is said of the ticks between"),
        (["UPDATE polls_missed SET last_tick = last_tick + 5000"], "I2", "is accounted for twice"),
        (["UPDATE polls_completed SET epoch = 1 WHERE epoch = 2"], "I2", "completed without a claim"),
        (
            ["DELETE FROM intents WHERE order_id = '0x02'"],
            "I3",
            "order 0x02 has no intent; the fill of order 0x02 has no",
        ),
        (["UPDATE intents SET cost = 5174999 WHERE side = 'BUY'"], "I3", "0x01 (BUY) was filled beyond its intent"),
        (["UPDATE intents SET price = '0.49' WHERE side = 'BUY'"], "I3", "0x01 (BUY) spent 5000000, more than 0.49"),
        (["UPDATE intents SET size = 3999999 WHERE side = 'SELL'"], "I3", "0x02 (SELL) was filled beyond its intent"),
        (
            ["UPDATE intents SET side = 'BUY', seq = 2, cost = 99999999 WHERE side = 'SELL'"],
            "I6",
            "under a control in mode pause",
        ),
        (
            ["UPDATE intents SET generation = 9 WHERE side = 'BUY'"],
            "I6",
            "0x01 was decided under a control that was never applied",
        ),
        (
            ["UPDATE controls_applied SET epoch = 3 - epoch"],
            "I7",
            "generation 2 was applied after 1 by an older epoch",
        ),
        (["UPDATE outcomes SET pnl = pnl + 1"], "I5", "is not payout"),
        (["UPDATE fills SET fee = fee + 1 WHERE trade_id = 't3'"], "I5", "is not payout"),
        (["DELETE FROM fills WHERE status = 'FAILED'"], "I5", "is not payout"),
        (["UPDATE outcomes SET payout = payout + 1, pnl = pnl + 1"], "I5", "winning shares are held"),
        (["UPDATE settled_by_hand SET who = ''"], "I5", "order 0x02 was settled without a name"),
        (
            ["UPDATE fills SET trade_id = 'by-hand:0x01' WHERE trade_id = 't1'"],
            "I5",
            "a fill of order 0x01 is vouched for by nobody",
        ),
        (
            [
                "PRAGMA writable_schema = ON",
                "UPDATE sqlite_schema SET sql = replace(sql, 'slot TEXT', 'slot INTEGER') WHERE name = 'outcomes'",
                "PRAGMA writable_schema = RESET",
            ],
            "I8",
            "outcomes.slot",
        ),
    ],
)
def test_each_broken_invariant_is_named(ledger: Ledger, statements: list[str], invariant: str, sentence: str) -> None:
    """With the triggers gone, one thing is broken by hand: the audit names the invariant and the thing."""
    for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        ledger.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        ledger.execute(statement)
    found = broken(ledger)
    assert invariant in found, found
    assert sentence in found[invariant]


def test_what_is_adopted_is_not_held_against_the_ledger(ledger: Ledger) -> None:
    """An order and its trade that a person called their own are no violation, and the audit says that they are there."""
    theirs = record()
    theirs.orders["0x99"] = {"order_id": "0x99", "received_ms": START_MS, "wallet": IDENTITY.wallet}
    theirs.trades.append(
        {"trade_id": "t9", "order_id": "0x99", "size": 1, "fee": 0, "time_ms": START_MS, "status": "CONFIRMED"}
    )
    theirs.trades.append(
        theirs.trades[0] | {"trade_id": "t10", "time_ms": START_MS + 10 * IN_FLIGHT_MS, "order_id": "0x99"}
    )
    assert set(broken(ledger, theirs)) == {"I3", "I5"}
    ledger.execute("INSERT INTO adopted VALUES ('0x99', 2, 'trade', '1', '0xc', 'BUY', 1, 'ann', '', 0)")
    assert broken(ledger, theirs) == {}
    assert any("1 orders are adopted" in check.note for check in audit(ledger, theirs))


def test_a_ledger_of_the_release_before_is_audited(ledger: Ledger) -> None:
    """Without the tables that came later, what is there is checked all the same."""
    for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%_counted'"):
        ledger.execute(f"DROP TRIGGER {name}")
    ledger.execute("DROP VIEW results")
    for name in (*DERIVED, "corrections", "adopted", "compared", "settled_by_hand", "asks_answered", "redemptions"):
        ledger.execute(f"DROP TABLE {name}")
    assert broken(ledger, record(), max_missed=2) == {}


def test_too_many_missed_ticks_are_a_violation_where_asked_for(ledger: Ledger) -> None:
    """Missed ticks with a reason are allowed up to the number that is given, and the reason is told."""
    assert broken(ledger, max_missed=1) == {
        "I2": f"2 ticks were missed, at most 1 are allowed: 2 at {START_MS + TICK_MS}: no instance held the lease"
    }


LATE_MS = START_MS + 1000 + TICK_MS + IN_THE_NETWORK_MS + 1


@pytest.mark.parametrize(
    ("change", "invariant", "sentence"),
    [
        ({"order_id": "0x99"}, "I3", "the venue has order 0x99, which has no intent"),
        ({"received_ms": START_MS - 2}, "I3", "received order 0x01 before its intent was made"),
        ({"received_ms": LATE_MS}, "I4", "order 0x01 arrived 15001 ms after the next epoch began"),
    ],
)
def test_the_venues_orders_are_held_against_the_intents(
    ledger: Ledger, change: dict[str, Any], invariant: str, sentence: str
) -> None:
    """An order without intent, one from before its intent, and one of an epoch that was long over are named."""
    venue = record(**change)
    venue.orders = {row["order_id"]: row for row in venue.orders.values()}
    found = broken(ledger, venue)
    assert sentence in found[invariant]


def test_a_wall_clock_that_was_set_makes_no_order_late(ledger: Ledger) -> None:
    """Two hours back between an intent and the next take: what arrived at once is not late, by CLOCK_BOOTTIME."""
    for (name,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        ledger.execute(f"DROP TRIGGER {name}")
    ledger.execute("UPDATE epochs SET wall_ms = wall_ms - 7200000 WHERE epoch = 2")
    assert broken(ledger, record()) == {}
    late = record(received_ms=LATE_MS)
    assert "after the next epoch began" in broken(ledger, late)["I4"]


def test_the_venues_fills_are_held_against_the_ledgers(ledger: Ledger) -> None:
    """A difference of one unit, a fill that only one side has: named, unless it is too young to be known."""
    venue = record()
    venue.trades[0]["size"] += 1
    assert "trade t1: ledger has size and fee" in broken(ledger, venue)["I5"]
    venue = record()
    venue.trades.pop(0)
    assert broken(ledger, venue) == {}, "it may have been matched after the record was read"
    venue.trades[-1]["time_ms"] += 2 * IN_FLIGHT_MS
    assert "the ledger's fill t1 of order 0x01 is not at the venue" in broken(ledger, venue)["I5"]
    venue = record()
    venue.trades.append(venue.trades[0] | {"trade_id": "t9"})
    assert broken(ledger, venue) == {}, "it happened just now"
    venue.trades.append(venue.trades[2] | {"trade_id": "t9b", "time_ms": START_MS + 400 + IN_FLIGHT_MS + 1})
    assert "trade t9 of order 0x01" in broken(ledger, venue)["I5"]


def test_the_command_prints_and_exits_by_what_it_found(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 and 'holds' for a good ledger; 1 with the broken line named, in the table and as JSON."""
    assert run_audit(tmp_path, None, 2, as_json=False) == 0
    assert "BROKEN" not in capsys.readouterr().out
    assert run_audit(tmp_path, None, 1, as_json=False) == 1
    assert "BROKEN" in capsys.readouterr().out
    assert run_audit(tmp_path, None, 1, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["handovers"], told["fills"]) == (False, 1, 3)


def test_a_record_from_a_file_is_read_and_a_bad_one_refused_by_line(tmp_path: Path) -> None:
    """Rows of other wallets are left out; a line that is no row, a row that lacks a field and a missing file are said."""
    path = tmp_path / "record.jsonl"
    rows = [
        {"kind": "order", "wallet": "mine", "order_id": "0x01"},
        {"kind": "order", "wallet": "other", "order_id": "0x02"},
        {"kind": "trade", "wallet": "mine", "trade_id": "t1"},
        {"kind": "request"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_record(str(path), "mine")
    assert (list(found.orders), len(found.trades)) == (["0x01"], 1)
    path.write_text(json.dumps(rows[0]) + "\n{\n")
    with pytest.raises(BusError, match="line 2"):
        read_record(str(path), "mine")
    path.write_text(json.dumps({"kind": "order"}) + "\n")
    with pytest.raises(BusError, match="'wallet'"):
        read_record(str(path), "mine")
    for missing in (str(tmp_path / "none"), "http://127.0.0.1:9/"):
        with pytest.raises(BusError, match="could not be read"):
            read_record(missing, "mine")


def test_nothing_to_audit_is_said(tmp_path: Path) -> None:
    """A bus without a ledger is an error in one line, not an empty table."""
    with pytest.raises(BusError, match="there is no ledger"):
        run_audit(tmp_path, None, None, as_json=False)
