"""The tables of the ledger's base, and the triggers that keep them append-only and fenced by epoch."""

from __future__ import annotations

MAJOR = 1


def append_only(table: str, *, fenced: bool = True) -> str:
    """The triggers that make UPDATE and DELETE on `table` fail and, when fenced, refuse rows of an old epoch."""
    statements = [
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'append-only: {table}'); END;"
        for verb in ("UPDATE", "DELETE")
    ]
    if fenced:
        statements.append(
            f"CREATE TRIGGER IF NOT EXISTS {table}_fence BEFORE INSERT ON {table} BEGIN "
            "SELECT RAISE(ABORT, 'fenced: the epoch is not the newest') "
            "WHERE NEW.epoch IS NOT (SELECT max(epoch) FROM epochs); "
            "SELECT RAISE(ABORT, 'fenced: the epoch is released') "
            "WHERE EXISTS (SELECT 1 FROM releases WHERE epoch = NEW.epoch); END;"
        )
    return "\n".join(statements)


# For every other trigger on a fenced table: they fire in no promised order, and where the fence refuses, a holder that was
# paused must hear that its epoch is over, and nothing else.
IN_FORCE = (
    "WHEN NEW.epoch IS (SELECT max(epoch) FROM epochs) AND NOT EXISTS (SELECT 1 FROM releases WHERE epoch = NEW.epoch) "
)

# Columns that came later: added to a ledger of a former release, which goes on writing rows without them.
# releases.state: the evaluation state (JSON) with which an epoch ended; empty where it left none.
ADDED = {("releases", "state"): "TEXT NOT NULL DEFAULT ''"}

SCHEMA = "\n".join(
    [
        "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",
        append_only("meta", fenced=False),
        "CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, instance TEXT NOT NULL, sha TEXT NOT NULL, "
        "color TEXT NOT NULL, request TEXT NOT NULL, wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL, "
        "boot_id TEXT NOT NULL) STRICT;",
        append_only("epochs", fenced=False),
        "CREATE TRIGGER IF NOT EXISTS epochs_next BEFORE INSERT ON epochs BEGIN "
        "SELECT RAISE(ABORT, 'fenced: only the newest epoch + 1 is accepted') "
        "WHERE NEW.epoch IS NOT (SELECT coalesce(max(epoch), 0) + 1 FROM epochs); END;",
        "CREATE TABLE IF NOT EXISTS releases (epoch INTEGER PRIMARY KEY, request TEXT NOT NULL, reason TEXT NOT NULL, "
        "wall_ms INTEGER NOT NULL, boot_ms INTEGER NOT NULL) STRICT;",
        append_only("releases"),
        "CREATE TABLE IF NOT EXISTS anchors (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, wall_ms INTEGER NOT NULL, "
        "boot_ms INTEGER NOT NULL, boot_id TEXT NOT NULL, interval_ms INTEGER NOT NULL) STRICT;",
        append_only("anchors"),
        "CREATE TABLE IF NOT EXISTS polls_claimed (tick INTEGER NOT NULL, epoch INTEGER NOT NULL, "
        "boot_ms INTEGER NOT NULL, PRIMARY KEY (tick, epoch)) STRICT, WITHOUT ROWID;",
        append_only("polls_claimed"),
        "CREATE TABLE IF NOT EXISTS polls_completed (tick INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, "
        "healthy INTEGER NOT NULL, lag_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL, state TEXT NOT NULL) STRICT;",
        append_only("polls_completed"),
        "CREATE TRIGGER IF NOT EXISTS polls_claimed_once BEFORE INSERT ON polls_claimed "
        f"{IN_FORCE} BEGIN "
        "SELECT RAISE(ABORT, 'taken: the tick has a completed poll') "
        "WHERE EXISTS (SELECT 1 FROM polls_completed WHERE tick = NEW.tick); END;",
        "CREATE TRIGGER IF NOT EXISTS polls_completed_claimed BEFORE INSERT ON polls_completed "
        f"{IN_FORCE} BEGIN "
        "SELECT RAISE(ABORT, 'taken: the tick has a completed poll') "
        "WHERE EXISTS (SELECT 1 FROM polls_completed WHERE tick = NEW.tick); "
        "SELECT RAISE(ABORT, 'the poll was not claimed under this epoch') WHERE NOT EXISTS "
        "(SELECT 1 FROM polls_claimed WHERE tick = NEW.tick AND epoch = NEW.epoch); END;",
        "CREATE TABLE IF NOT EXISTS polls_missed (first_tick INTEGER PRIMARY KEY, last_tick INTEGER NOT NULL, "
        "ticks INTEGER NOT NULL, epoch INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;",
        append_only("polls_missed"),
        "CREATE TABLE IF NOT EXISTS controls_applied (generation INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, "
        "wall_ms INTEGER NOT NULL, body TEXT NOT NULL, refused TEXT NOT NULL) STRICT;",
        append_only("controls_applied"),
        "CREATE TRIGGER IF NOT EXISTS controls_applied_rise BEFORE INSERT ON controls_applied "
        f"{IN_FORCE} BEGIN "
        "SELECT RAISE(ABORT, 'fenced: generations applied only rise') "
        "WHERE NEW.generation <= (SELECT coalesce(max(generation), 0) FROM controls_applied); END;",
        # Not appended to: filled and emptied, so that free pages and room in the WAL exist on a full disk.
        "CREATE TABLE IF NOT EXISTS reserve (filler BLOB NOT NULL) STRICT;",
    ]
)
