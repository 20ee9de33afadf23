"""The bot's tables in the ledger, and the triggers that hold what must never happen even if the code above them is wrong.

A second open intent in one slot is refused, and an entry under a control that does not allow it. Money and shares are integers
in base units, prices decimal text.

History only grows, and what is asked at every poll and before every order must not grow with it: `open_orders`, `unresolved`,
`unpaid`, `totals` and `slot_totals` follow from the history and are kept by triggers, in the transaction of the row that changes
them, whichever release writes it. The audit holds them against the history.
"""

from __future__ import annotations

from enum import StrEnum

from ledger.base import append_only
from ledger.predictions import TABLES
from ledger.values import FAILED


class OrderState(StrEnum):
    """What is known of an order. Terminal: abandoned, refused, done."""

    ABANDONED = "abandoned"  # never sent
    ACCEPTED = "accepted"  # the venue has it
    REFUSED = "refused"  # the venue does not have it and never will
    IN_DOUBT = "in_doubt"  # may have arrived
    DONE = "done"  # nothing more will happen to it; all its fills are recorded


class OrderCode(StrEnum):
    """Why an order is in its state, where the bot says so itself. Of an answer it is the venue's word, of a stop the bot's."""

    SHOWN = "shown"  # the venue shows it, or its trades
    WHOLE = "whole"  # its trades reach what was signed
    CLOSED = "closed"  # its window has closed
    QUIET = "quiet"  # nothing more came: its money stays reserved until its window closes
    BY_HAND = "by_hand"
    NO_MATCH = "no_match"  # refused: it met nothing to trade with, which is nobody's fault
    REFUSED = "refused"  # the venue gave no word that is known


class MissCode(StrEnum):
    """Why ticks have no completed poll."""

    NO_HOLDER = "no_holder"  # no instance held the lease
    LATE = "late"  # the poll before came late or took long
    DISK = "disk"  # the disk of the bus was full


TERMINAL = (OrderState.ABANDONED, OrderState.REFUSED, OrderState.DONE)
_TERMINAL_SQL = ",".join(f"'{state}'" for state in TERMINAL)
# Of a fill f: a trade that failed on chain is reversed: it counts as if it had not been.
COUNTED = (
    "f.status = 'MATCHED' AND "
    "NOT EXISTS (SELECT 1 FROM fills x WHERE x.trade_id = f.trade_id AND x.order_id = f.order_id AND x.status = 'FAILED')"
)
# Of an intent i: no row of it is terminal.
OPEN = f"NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = i.order_id AND o.state IN ({_TERMINAL_SQL}))"
# The start of the trade id of a fill that a person vouches for, until the venue shows the trade itself.
BY_HAND = "by-hand:"
# What a won position ends with.
PAID_SQL = "'paid', 'dust', 'given_up'"
# Windows that ended longer ago are not looked at any more.
LOOK_BACK_MS = 7 * 86_400_000

# What follows from the history, by table: the rows that it should have. `results`: outcomes with their corrections.
DERIVED = {
    "open_orders": f"SELECT i.order_id, i.slot, i.window_end_ms FROM intents i WHERE {OPEN}",
    "unresolved": f"SELECT DISTINCT f.window FROM fills f WHERE {COUNTED} AND f.window NOT IN (SELECT window FROM outcomes)",
    "unpaid": "SELECT o.window, o.wall_ms FROM results o WHERE o.payout > 0 AND NOT EXISTS "
    f"(SELECT 1 FROM redemptions r WHERE r.window = o.window AND r.state IN ({PAID_SQL}))",
    "slot_totals": "SELECT o.slot, sum(o.pnl) FROM results o GROUP BY o.slot",
    "totals": "SELECT 1, (SELECT count(*) FROM polls_completed), (SELECT coalesce(sum(ticks), 0) FROM polls_missed), "
    "(SELECT count(*) FROM fills WHERE status = 'MATCHED'), coalesce(sum(o.pnl), 0), coalesce(sum(o.fees), 0), "
    "coalesce(sum(o.pnl > 0), 0), coalesce(sum(o.pnl < 0), 0) FROM results o",
}


def lets_enter(body: str, wall_ms: str) -> str:
    """SQL: whether a control, by the expression of its JSON, lets an entry leave at a moment in UTC ms (bus.Control.mode_at)."""
    mode, until = (f"json_extract({body}, '$.{name}')" for name in ("mode", "pause_until_ms"))
    return f"({mode} = 'run' OR ({mode} = 'pause' AND {wall_ms} >= {until}))"


def _fill(table: str) -> str:
    """Fills a derived table of a ledger that has none yet: `totals` has its row from then on, and is filled last."""
    none_yet = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM totals)"
    return f"INSERT INTO {table} SELECT d.* FROM ({none_yet}) CROSS JOIN ({DERIVED[table]}) d;"


def _follows(table: str, does: str, when: str = "") -> str:
    """The trigger that keeps derived tables after a row of a table."""
    return f"CREATE TRIGGER IF NOT EXISTS {table}_counted AFTER INSERT ON {table} {when} BEGIN {does} END;"


SCHEMA = "\n".join(
    [
        "CREATE TABLE IF NOT EXISTS intents (order_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, tick INTEGER NOT NULL, "
        "generation INTEGER NOT NULL, slot TEXT NOT NULL, window TEXT NOT NULL, window_end_ms INTEGER NOT NULL, "
        "condition_id TEXT NOT NULL, token_id TEXT NOT NULL, outcome TEXT NOT NULL, side TEXT NOT NULL, seq INTEGER NOT NULL, "
        "price TEXT NOT NULL, size INTEGER NOT NULL, cost INTEGER NOT NULL, order_type TEXT NOT NULL, body TEXT NOT NULL, "
        "reason TEXT NOT NULL, wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL, UNIQUE (window, side, seq)) STRICT;",
        "CREATE INDEX IF NOT EXISTS intents_window_end ON intents(window_end_ms);",
        "CREATE INDEX IF NOT EXISTS intents_slot ON intents(slot, window_end_ms);",
        append_only("intents"),
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, order_id TEXT NOT NULL, "
        "state TEXT NOT NULL, text TEXT NOT NULL, matched INTEGER, wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL) STRICT;",
        "CREATE INDEX IF NOT EXISTS orders_order ON orders(order_id, state);",
        append_only("orders"),
        "CREATE TABLE IF NOT EXISTS fills (trade_id TEXT NOT NULL, order_id TEXT NOT NULL, status TEXT NOT NULL, "
        "epoch INTEGER NOT NULL, window TEXT NOT NULL, outcome TEXT NOT NULL, side TEXT NOT NULL, price TEXT NOT NULL, "
        "size INTEGER NOT NULL, value INTEGER NOT NULL, fee INTEGER NOT NULL, at_ms INTEGER NOT NULL, "
        "PRIMARY KEY (trade_id, order_id, status)) STRICT;",
        "CREATE INDEX IF NOT EXISTS fills_window ON fills(window);",
        "CREATE INDEX IF NOT EXISTS fills_order ON fills(order_id);",
        f"CREATE INDEX IF NOT EXISTS fills_failed ON fills(status) WHERE status = '{FAILED}';",
        append_only("fills"),
        "CREATE TABLE IF NOT EXISTS outcomes (window TEXT PRIMARY KEY, epoch INTEGER NOT NULL, slot TEXT NOT NULL, "
        "winner TEXT NOT NULL, payout INTEGER NOT NULL, pnl INTEGER NOT NULL, fees INTEGER NOT NULL, "
        "wall_ms INTEGER NOT NULL) STRICT;",
        "CREATE INDEX IF NOT EXISTS outcomes_wall ON outcomes(wall_ms);",
        append_only("outcomes"),
        # What came to light after an outcome was recorded (a fill, a trade that failed): by how much the outcome was wrong.
        "CREATE TABLE IF NOT EXISTS corrections (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, window TEXT NOT NULL, "
        "slot TEXT NOT NULL, payout INTEGER NOT NULL, pnl INTEGER NOT NULL, fees INTEGER NOT NULL, reason TEXT NOT NULL, "
        "wall_ms INTEGER NOT NULL) STRICT;",
        "CREATE INDEX IF NOT EXISTS corrections_window ON corrections(window);",
        append_only("corrections"),
        # What stood at the account before this ledger, or beside it, and is its owner's own: known, and left alone.
        "CREATE TABLE IF NOT EXISTS adopted (key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, kind TEXT NOT NULL, "
        "token_id TEXT NOT NULL, condition_id TEXT NOT NULL, side TEXT NOT NULL, size INTEGER NOT NULL, "
        "who TEXT NOT NULL, note TEXT NOT NULL, wall_ms INTEGER NOT NULL) STRICT;",
        append_only("adopted"),
        # What was predicted and believed, for `bot calibrate`.
        TABLES,
        append_only("predictions"),
        append_only("beliefs"),
        # When ledger and account were compared, and how much was found that neither the ledger nor `adopted` knows.
        "CREATE TABLE IF NOT EXISTS compared (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at_ms INTEGER NOT NULL, "
        "strangers INTEGER NOT NULL) STRICT;",
        append_only("compared"),
        # What a person decided about an order that the venue never resolved.
        "CREATE TABLE IF NOT EXISTS settled_by_hand (order_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, verdict TEXT NOT NULL, "
        "shares INTEGER NOT NULL, who TEXT NOT NULL, note TEXT NOT NULL, wall_ms INTEGER NOT NULL) STRICT;",
        append_only("settled_by_hand"),
        # What people asked of the active instance (`./ns adopt`, `./ns settle`), and its answer: each id is done at most once.
        "CREATE TABLE IF NOT EXISTS asks_answered (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, action TEXT NOT NULL, "
        "who TEXT NOT NULL, done INTEGER NOT NULL, answer TEXT NOT NULL, wall_ms INTEGER NOT NULL) STRICT;",
        append_only("asks_answered"),
        # What was done to have a won position paid: a row before each request leaves, and one for what the venue showed then.
        "CREATE TABLE IF NOT EXISTS redemptions (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, window TEXT NOT NULL, "
        "condition_id TEXT NOT NULL, state TEXT NOT NULL, shares INTEGER NOT NULL, text TEXT NOT NULL, "
        "wall_ms INTEGER NOT NULL) STRICT;",
        "CREATE INDEX IF NOT EXISTS redemptions_window ON redemptions(window);",
        append_only("redemptions"),
        # Outcomes as they are known now.
        "CREATE VIEW IF NOT EXISTS results AS SELECT o.rowid AS id, o.window, o.epoch, o.slot, o.winner, "
        "o.payout + coalesce((SELECT sum(c.payout) FROM corrections c WHERE c.window = o.window), 0) AS payout, "
        "o.pnl + coalesce((SELECT sum(c.pnl) FROM corrections c WHERE c.window = o.window), 0) AS pnl, "
        "o.fees + coalesce((SELECT sum(c.fees) FROM corrections c WHERE c.window = o.window), 0) AS fees, "
        "o.wall_ms FROM outcomes o;",
        # --- derived
        "CREATE TABLE IF NOT EXISTS open_orders (order_id TEXT PRIMARY KEY, slot TEXT NOT NULL, "
        "window_end_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        # Windows in which something was filled that counts, and whose outcome is not recorded.
        "CREATE TABLE IF NOT EXISTS unresolved (window TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;",
        # Windows that were won and are neither paid, nor dust, nor given up; wall_ms: of the outcome.
        "CREATE TABLE IF NOT EXISTS unpaid (window TEXT PRIMARY KEY, wall_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        "CREATE INDEX IF NOT EXISTS unpaid_wall ON unpaid(wall_ms);",
        "CREATE TABLE IF NOT EXISTS slot_totals (slot TEXT PRIMARY KEY, pnl INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        "CREATE TABLE IF NOT EXISTS totals (one INTEGER PRIMARY KEY CHECK (one = 1), polls_completed INTEGER NOT NULL, "
        "polls_missed INTEGER NOT NULL, fills INTEGER NOT NULL, pnl INTEGER NOT NULL, fees INTEGER NOT NULL, "
        "wins INTEGER NOT NULL, losses INTEGER NOT NULL) STRICT;",
        *(_fill(table) for table in DERIVED),
        _follows("intents", "INSERT INTO open_orders VALUES (NEW.order_id, NEW.slot, NEW.window_end_ms);"),
        _follows(
            "orders", "DELETE FROM open_orders WHERE order_id = NEW.order_id;", f"WHEN NEW.state IN ({_TERMINAL_SQL})"
        ),
        _follows(
            "fills",
            "DELETE FROM unresolved WHERE window = NEW.window; "
            f"INSERT INTO unresolved {DERIVED['unresolved']} AND f.window = NEW.window; "
            "UPDATE totals SET fills = fills + (NEW.status = 'MATCHED');",
        ),
        _follows(
            "outcomes",
            "DELETE FROM unresolved WHERE window = NEW.window; "
            "INSERT INTO unpaid SELECT NEW.window, NEW.wall_ms WHERE NEW.payout > 0; "
            "INSERT INTO slot_totals VALUES (NEW.slot, NEW.pnl) ON CONFLICT (slot) DO UPDATE SET pnl = pnl + excluded.pnl; "
            "UPDATE totals SET pnl = pnl + NEW.pnl, fees = fees + NEW.fees, wins = wins + (NEW.pnl > 0), "
            "losses = losses + (NEW.pnl < 0);",
        ),
        _follows(
            "corrections",
            "DELETE FROM unpaid WHERE window = NEW.window; "
            f"INSERT INTO unpaid {DERIVED['unpaid']} AND o.window = NEW.window; "
            "UPDATE slot_totals SET pnl = pnl + NEW.pnl WHERE slot = NEW.slot; "
            "UPDATE totals SET pnl = totals.pnl + NEW.pnl, fees = totals.fees + NEW.fees, "
            "wins = wins + (o.pnl > 0) - (o.pnl - NEW.pnl > 0), losses = losses + (o.pnl < 0) - (o.pnl - NEW.pnl < 0) "
            "FROM results o WHERE o.window = NEW.window;",
        ),
        _follows("redemptions", "DELETE FROM unpaid WHERE window = NEW.window;", f"WHEN NEW.state IN ({PAID_SQL})"),
        _follows("polls_completed", "UPDATE totals SET polls_completed = polls_completed + 1;"),
        _follows("polls_missed", "UPDATE totals SET polls_missed = polls_missed + NEW.ticks;"),
        # Of releases before: one looked through a week of intents at every one, one let an entry's doubt keep exits back, and one
        # knew no pause with an end.
        "DROP TRIGGER IF EXISTS intents_one_open;",
        "DROP TRIGGER IF EXISTS intents_slot_is_free;",
        "DROP TRIGGER IF EXISTS intents_may_open;",
        "CREATE TRIGGER IF NOT EXISTS intents_may_leave BEFORE INSERT ON intents BEGIN "
        "SELECT RAISE(ABORT, 'open: the slot or its window has an open intent') WHERE NEW.side = 'BUY' AND EXISTS ("
        "SELECT 1 FROM open_orders o JOIN intents i ON i.order_id = o.order_id WHERE "
        f"(o.slot = NEW.slot OR i.window = NEW.window) AND o.window_end_ms > NEW.window_end_ms - {LOOK_BACK_MS}); "
        # Whatever became of the exit before, this venue has no short selling: a second one sells at most what is left.
        "SELECT RAISE(ABORT, 'open: an exit of the window waits for its answer') WHERE NEW.side = 'SELL' AND EXISTS ("
        "SELECT 1 FROM open_orders o JOIN intents i ON i.order_id = o.order_id WHERE i.window = NEW.window "
        "AND i.side = 'SELL' AND i.epoch = NEW.epoch AND NOT EXISTS (SELECT 1 FROM orders s WHERE s.order_id = i.order_id)); "
        "SELECT RAISE(ABORT, 'control: an entry needs the newest control, in mode run') WHERE NEW.side = 'BUY' AND NOT EXISTS "
        "(SELECT 1 FROM controls_applied c WHERE c.generation = NEW.generation "
        f"AND {lets_enter('c.body', 'NEW.wall_ms')} AND c.generation = (SELECT max(generation) FROM controls_applied)); END;",
    ]
)
