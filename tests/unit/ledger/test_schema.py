"""What the ledger's triggers keep beside the history: right whatever happened, and never slower as the history grows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path

import pytest

from bot.account.redeem import won_positions
from bus import LedgerError
from ledger import Ledger
from ledger.checks import audit
from ledger.rows import (
    Intent,
    add_fill,
    add_intent,
    add_order_state,
    add_outcome,
    fills_of,
    find_intent,
    manual_intents,
    next_seq,
    open_intents,
    positions,
    quiet_entries,
)
from ledger.schema import DERIVED, SCHEMA, OrderState
from ledger.totals import lifetime, pnl_by_slot, recent_outcomes
from ledger.values import Outcome, Side, VenueTrade
from tests.unit.bot.making import END_MS, IDENTITY, INTENT, SHARE, START_MS, ManualClock, make_ledger, take

LATER = ("code", "manual")
SLOTS = ("BTC-5m", "ETH-5m", "SOL-15m")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Epoch 1 under a control in mode run."""
    with make_ledger(tmp_path, ManualClock()) as made:
        yield made


class Trading:
    """Windows one after the other; what becomes of each order and window is drawn."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger, self._random, self.windows = ledger, random.Random(seed), 0

    def window(self, *, ends: bool = False) -> Intent:
        """One order and its end, or not; returns it. ends: it is bought, resolved and paid, in any case."""
        self.windows += 1
        drawn, number = self._random, self.windows
        intent = replace(
            INTENT,
            order_id=f"0x{number:04x}",
            window=f"w{number}",
            slot=SLOTS[number % 3] if ends else f"slot-{number}",
            side=Side.BUY if ends else drawn.choice(list(Side)),
        )
        add_intent(self._ledger, intent, START_MS + number, 0)
        size = drawn.randint(1, 9) * SHARE
        trade = VenueTrade(
            f"t{number}", intent.order_id, "1", "0xc", intent.side, Decimal("0.5"), size, 9, "MATCHED", START_MS
        )
        failed, other = replace(trade, status="FAILED"), replace(trade, trade_id=f"o{number}")
        if ends or drawn.random() < 0.8:
            add_fill(self._ledger, 1, intent, trade)
        states = (OrderState.DONE,) if ends else (None, OrderState.ACCEPTED, OrderState.IN_DOUBT, *OrderState)
        if (state := drawn.choice(states)) is not None:
            add_order_state(self._ledger, 1, intent.order_id, state, "", START_MS, 0)
        if ends or drawn.random() < 0.7:
            winner = Outcome.UP if ends else drawn.choice(list(Outcome))
            add_outcome(self._ledger, 1, intent.window, intent.slot, winner, END_MS)
        for state in (
            ("sent", "paid") if ends else drawn.choice(((), ("sent",), ("left",), ("sent", "dust"), ("given_up",)))
        ):
            self._ledger.execute(
                "INSERT INTO redemptions(epoch, window, condition_id, state, shares, text, wall_ms) VALUES (1,?,'0xc',?,0,'',0)",
                (intent.window, state),
            )
        late = () if ends else drawn.choice(((), (failed,), (other,), (other, failed)))
        for one in late:  # where it comes after the outcome, that is corrected
            add_fill(self._ledger, 1, intent, one)
        return intent


def wrong(ledger: Ledger) -> list[str]:
    """What the audit says of the derived tables."""
    return [text for check in audit(ledger, None) if "kept by triggers" in check.promise for text in check.violations]


@pytest.mark.parametrize("seed", range(6))
def test_what_triggers_keep_follows_from_the_history(ledger: Ledger, seed: int) -> None:
    """After any orders, fills, failures, outcomes, corrections and payments each table has just the rows that it should have."""
    trading = Trading(ledger, seed)
    for tick in range(80):
        trading.window()
        ledger.claim(tick, 1, 0)
        ledger.complete(tick, 1, healthy=True, lag_ms=0, duration_ms=0, state="{}")
    ledger.miss(90, 95, 6, 1, "nobody traded")
    assert wrong(ledger) == []
    assert (lifetime(ledger).polls_completed, lifetime(ledger).polls_missed) == (80, 6)
    assert all(ledger.integer(f"SELECT count(*) FROM {table}") for table in DERIVED), "the test came by every table"


@pytest.mark.parametrize(
    "trigger", ["intents", "orders", "fills", "outcomes", "corrections", "redemptions", "polls_completed"]
)
def test_the_audit_sees_what_a_missing_trigger_leaves_out(ledger: Ledger, trigger: str) -> None:
    """Without one of the triggers the audit names a table that does not follow from the history."""
    ledger.execute(f"DROP TRIGGER {trigger}_counted")
    trading = Trading(ledger, 1)
    for tick in range(80):
        trading.window()
        ledger.claim(tick, 1, 0)
        ledger.complete(tick, 1, healthy=True, lag_ms=0, duration_ms=0, state="{}")
    assert wrong(ledger) != []


def test_a_ledger_of_the_release_before_gets_them_at_the_first_take(tmp_path: Path) -> None:
    """They are filled from the history once; the former release, which knows none of them, keeps them right as it writes."""
    with make_ledger(tmp_path, ManualClock()) as ledger:
        trading = Trading(ledger, 2)
        for _ in range(40):
            trading.window()
        expected = positions(ledger, START_MS)
        for (name,) in ledger.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '%_counted'"
        ):
            ledger.execute(f"DROP TRIGGER {name}")
        for table in DERIVED:
            ledger.execute(f"DROP TABLE {table}")
        ledger.execute("DROP TRIGGER intents_may_leave")
        ledger.execute("CREATE TRIGGER intents_may_open BEFORE INSERT ON intents BEGIN SELECT 1; END")
        ledger.execute("CREATE TRIGGER intents_one_open BEFORE INSERT ON intents BEGIN SELECT 1; END")
        assert expected
        assert positions(ledger, START_MS) == expected, "a standby reads it before anybody of this release took it"
    with Ledger.hold(tmp_path / "ledger.db", IDENTITY, SCHEMA) as ledger:
        assert wrong(ledger) == []
        former = "name IN ('intents_one_open', 'intents_may_open')"
        assert not ledger.integer(f"SELECT count(*) FROM sqlite_schema WHERE {former}")
        trading = Trading(ledger, 3)
        trading.windows = 100
        for _ in range(40):
            trading.window()
        assert wrong(ledger) == []
        assert positions(ledger, START_MS)


def objects(ledger: Ledger) -> set[tuple[object, ...]]:
    """All tables, indices and triggers, as they stand in the file."""
    return set(ledger.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def write_as_before(ledger: Ledger, epoch: int, order_id: str, reason: str, text: str) -> None:
    """An order and its end as the release before wrote them: it knew no column for a code or a person's action."""
    intent = replace(INTENT, order_id=order_id, epoch=epoch, window=order_id, slot=order_id, reason=reason)
    row = {name: str(v) if isinstance(v, Decimal) else v for name, v in asdict(intent).items() if name not in LATER}
    names = ", ".join((*row, "wall_ms", "boot_ms"))
    ledger.execute(f"INSERT INTO intents({names}) VALUES ({','.join('?' * (len(row) + 2))})", (*row.values(), 1, 1))
    ledger.execute(
        "INSERT INTO orders(epoch, order_id, state, text, matched, wall_ms, boot_ms) VALUES (?,?,'done',?,NULL,0,0)",
        (epoch, order_id, text),
    )


def test_what_the_release_before_said_in_words_alone_is_found_by_its_column(tmp_path: Path) -> None:
    """A ledger of it becomes as a new one, at the first take and after each return of that release, and stays append-only."""
    ids, clock = ("1800000000000-0000000a", "1800000000000-0000000b"), ManualClock()
    with make_ledger(tmp_path, clock) as ledger:
        whole = objects(ledger)
        for table, column in (("intents", "code"), ("intents", "manual"), ("orders", "code"), ("polls_missed", "code")):
            ledger.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        write_as_before(ledger, 1, "0xa", f"manual {ids[0]}: 5 Up at up to 0.5", "nothing more came: no trades")
        write_as_before(ledger, 1, "0x1", "edge +0.05 at 0.5", "no_match: no orders found to match")
        codes = f"SELECT {ledger.order_code()} FROM orders o ORDER BY o.id"
        assert ledger.execute(codes) == [("nothing more came",), ("no_match",)], "read before it has the column"
    with Ledger.hold(tmp_path / "ledger.db", IDENTITY, SCHEMA) as ledger:
        assert objects(ledger) == whole
        assert [[row[0] for row in manual_intents(ledger, "0xa", name)] for name in ids] == [["0xa"], []]
        assert [order.intent.order_id for order in quiet_entries(ledger, START_MS)] == ["0xa"]
        with pytest.raises(LedgerError, match="append-only"):
            ledger.execute("UPDATE intents SET manual = ''")
        write_as_before(
            ledger, take(ledger, clock), "0xb", f"manual {ids[1]}: 5 Up at up to 0.5", "nothing more came: x"
        )
    with Ledger.hold(tmp_path / "ledger.db", IDENTITY, SCHEMA) as ledger:
        assert objects(ledger) == whole
        assert [[row[0] for row in manual_intents(ledger, "0xb", name)] for name in ids] == [[], ["0xb"]]
        assert [order.intent.order_id for order in quiet_entries(ledger, START_MS)] == ["0xa", "0xb"]


def test_nothing_that_a_poll_or_an_order_asks_for_grows_with_the_history(ledger: Ledger) -> None:
    """With ten times as many windows behind it each question takes the same number of the database's own steps."""
    trading = Trading(ledger, 4)

    def steps() -> dict[str, int]:
        newest = trading.window(ends=True)
        asked: dict[str, Callable[[], object]] = {
            "an order and its end": lambda: trading.window(ends=True),
            "open intents": lambda: open_intents(ledger, START_MS),
            "positions": lambda: positions(ledger, START_MS),
            "won positions": lambda: won_positions(ledger, START_MS),
            "totals": lambda: lifetime(ledger),
            "PnL by slot": lambda: pnl_by_slot(ledger),
            "outcomes": lambda: recent_outcomes(ledger, 5),
            "shares of an order": lambda: fills_of(ledger, newest.order_id),
            "an intent": lambda: find_intent(ledger, newest.order_id),
            "the next number": lambda: next_seq(ledger, newest.window, Side.BUY),
        }
        return {name: count(ledger, question) for name, question in asked.items()}

    for _ in range(30):
        trading.window(ends=True)
    before = steps()
    for _ in range(300):
        trading.window(ends=True)
    assert steps() == before


def count(ledger: Ledger, question: Callable[[], object]) -> int:
    """Steps of SQLite's virtual machine."""
    seen = 0

    def step() -> bool:
        nonlocal seen
        seen += 1
        return False

    ledger._connection.set_progress_handler(step, 1)
    try:
        question()
    finally:
        ledger._connection.set_progress_handler(None)
    return seen
