"""The ledger's base: epochs, polls, applied control and the clock's anchor, in SQLite, only appended, fenced by epoch.

The lease holder alone writes. Every row carries the epoch of the decision that it belongs to; a trigger refuses a row whose
epoch is not the newest or is released. That fenced commit, not the lock, is the check that counts: a process that was
paused for an hour and still believes that it holds the lease cannot write a row.

A worker adds its own tables with `append_only` (see `ledger.base`). What the file survives is in `ledger.connection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from bus import Anchor, LedgerCorruptError, WrongLedgerError
from bus.errors import code_of
from ledger.connection import Connection, Value

# The tables of the ledger's base, and the triggers that keep them append-only and fenced by epoch.


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


@dataclass(frozen=True, slots=True)
class Added:
    """A column that came later, TEXT, empty in the rows of a former release, which goes on writing rows without it."""

    table: str
    column: str
    value: str = ""
    """SQL: what such a row should have there, made of its words. Empty: nothing."""
    where: str = ""
    """SQL: of which rows."""


ADDED = (
    Added("releases", "state"),  # the evaluation state (JSON) with which an epoch ended; empty where it left none
    Added("intents", "code"),  # of the reason
    Added(  # the id of the person's action that the order is of; empty of the strategy's
        "intents", "manual", "substr(reason, 8, instr(reason, ':') - 8)", "reason GLOB 'manual *:*'"
    ),
    # Of the text: why the order is in that state; of a refused one the venue's word.
    Added("orders", "code", "'quiet'", "text GLOB 'nothing more came:*'"),
    Added("polls_missed", "code"),  # of the reason
)
NEWEST = 1_000
"""So many rows of a former release are looked at: what is still open, or of a window that has not closed."""

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


class Released(StrEnum):
    """How an epoch was given up, as `releases.reason` has it: without a row its holder died."""

    HANDOVER = "handover"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Identity:
    """What one ledger belongs to."""

    venue: str
    chain: str
    wallet: str

    def __str__(self) -> str:
        return f"venue {self.venue}, chain {self.chain}, wallet {self.wallet}"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One holder's run: when taken (ms of both clocks), and the request that was spent by its release, if released."""

    epoch: int
    instance: str
    sha: str
    color: str
    request: str
    wall_ms: int
    boot_ms: int
    boot_id: str
    released: bool


@dataclass(frozen=True, slots=True)
class LastState:
    """The newest evaluation state (JSON), and when it was left: CLOCK_BOOTTIME in ms, and of which boot."""

    state: str
    boot_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class AppliedControl:
    """The newest control that was applied: its generation and the document's body as JSON."""

    generation: int
    body: str


class Ledger(Connection):
    """One connection to the ledger.

    Use `Ledger.hold` for the lease holder, `Ledger.reader` for everybody else. Not thread-safe.
    """

    @classmethod
    def hold(cls, path: Path, identity: Identity, schema: str = "") -> Self:
        """The holder's connection; makes the tables that are missing (`schema`: DDL of the worker's own).

        Call it only while holding the lease.

        Raises WrongLedgerError, LedgerCorruptError, LedgerFullError, FsyncFailedError (one failed, now or earlier: the mark
        is there), LedgerError.
        """
        ledger = cls.open_holder(path)
        try:
            ledger._check_identity(identity, allow_missing=True)
            with ledger.transaction():
                ledger.execute(SCHEMA + schema)
                for added in ADDED:
                    ledger._add(added)
                for key, value in (
                    ("schema", f"{MAJOR}.0"),
                    ("venue", identity.venue),
                    ("chain", identity.chain),
                    ("wallet", identity.wallet),
                ):
                    ledger.execute(
                        "INSERT INTO meta(key, value) SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = ?)",
                        (key, value, key),
                    )
            ledger.make_name_durable()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def reader(cls, path: Path, identity: Identity | None = None) -> Self | None:
        """A connection for short reads; None when there is no ledger yet.

        Raises WrongLedgerError, LedgerCorruptError, LedgerError.
        """
        ledger = cls.open_reader(path)
        if ledger is None:
            return None
        try:
            if not ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'controls_applied'"):
                ledger.close()
                return None
            if identity is not None:
                ledger._check_identity(identity, allow_missing=False)
        except BaseException:
            ledger.close()
            raise
        return ledger

    # --- epochs

    def take(
        self, *, instance: str, sha: str, color: str, request: str, wall_ms: int, boot_ms: int, boot_id: str
    ) -> int:
        """Begin a new epoch, durably, and return it. From now on no row of an older one is accepted."""
        with self.transaction():
            epoch = self.integer("SELECT coalesce(max(epoch), 0) + 1 FROM epochs")
            self.execute(
                "INSERT INTO epochs(epoch, instance, sha, color, request, wall_ms, boot_ms, boot_id) VALUES (?,?,?,?,?,?,?,?)",
                (epoch, instance, sha, color, request, wall_ms, boot_ms, boot_id),
            )
        return epoch

    def release(self, epoch: int, *, request: str, reason: str, wall_ms: int, boot_ms: int, state: str = "") -> None:
        """Mark an epoch as released; no row of it is accepted after this one. state: what its taker goes on from (JSON)."""
        self.execute(
            "INSERT INTO releases(epoch, request, reason, wall_ms, boot_ms, state) VALUES (?,?,?,?,?,?)",
            (epoch, request, reason, wall_ms, boot_ms, state),
        )

    def newest_epoch(self) -> Epoch | None:
        """The newest epoch, or None in a new ledger."""
        rows = self.execute(
            "SELECT epoch, instance, sha, color, request, wall_ms, boot_ms, boot_id, "
            "EXISTS (SELECT 1 FROM releases r WHERE r.epoch = e.epoch) FROM epochs e ORDER BY epoch DESC LIMIT 1"
        )
        if not rows:
            return None
        epoch, instance, sha, color, request, wall_ms, boot_ms, boot_id, released = rows[0]
        return Epoch(
            _int(epoch),
            str(instance),
            str(sha),
            str(color),
            str(request),
            _int(wall_ms),
            _int(boot_ms),
            str(boot_id),
            bool(released),
        )

    def is_newest(self, epoch: int) -> bool:
        """Whether `epoch` may still act: it is the newest and not released."""
        newest = self.newest_epoch()
        return newest is not None and newest.epoch == epoch and not newest.released

    def is_spent(self, request: str) -> bool:
        """Whether a handover request was used by a yield."""
        return bool(self.integer("SELECT count(*) FROM releases WHERE request = ?", (request,)))

    # --- ticks

    def anchor(self) -> Anchor | None:
        """Where the grid of ticks is fastened, or None."""
        rows = self.execute("SELECT wall_ms, boot_ms, boot_id, interval_ms FROM anchors ORDER BY id DESC LIMIT 1")
        if not rows:
            return None
        wall_ms, boot_ms, boot_id, interval_ms = rows[0]
        return Anchor(_int(wall_ms), _int(boot_ms), str(boot_id), _int(interval_ms))

    def fasten(self, epoch: int, anchor: Anchor) -> None:
        """Record a new anchor."""
        self.execute(
            "INSERT INTO anchors(epoch, wall_ms, boot_ms, boot_id, interval_ms) VALUES (?,?,?,?,?)",
            (epoch, anchor.wall_ms, anchor.boot_ms, anchor.boot_id, anchor.interval_ms),
        )

    def claim(self, tick: int, epoch: int, boot_ms: int) -> None:
        """Claim the poll of a tick. Raises TickTakenError when it is completed; a dead epoch's claim is no hindrance."""
        self.execute("INSERT INTO polls_claimed(tick, epoch, boot_ms) VALUES (?,?,?)", (tick, epoch, boot_ms))

    def complete(self, tick: int, epoch: int, *, healthy: bool, lag_ms: int, duration_ms: int, state: str) -> None:
        """Complete a claimed poll with its evaluation state (JSON). Raises TickTakenError, FencedError."""
        self.execute(
            "INSERT INTO polls_completed(tick, epoch, healthy, lag_ms, duration_ms, state) VALUES (?,?,?,?,?,?)",
            (tick, epoch, int(healthy), lag_ms, duration_ms, state),
        )

    def miss(self, first_tick: int, last_tick: int, ticks: int, epoch: int, reason: str) -> None:
        """Record ticks that have no completed poll. reason: its code (`MissCode`) is recorded beside it."""
        self.execute(
            "INSERT INTO polls_missed(first_tick, last_tick, ticks, epoch, reason, code) VALUES (?,?,?,?,?,?)",
            (first_tick, last_tick, ticks, epoch, reason, code_of(reason)),
        )

    def last_tick(self) -> int | None:
        """The newest tick that is completed or recorded as missed."""
        value = self.scalar(
            "SELECT max(t) FROM (SELECT max(tick) t FROM polls_completed UNION ALL SELECT max(last_tick) FROM polls_missed)"
        )
        return value if isinstance(value, int) else None

    def last_state(self) -> LastState | None:
        """The newest evaluation state: of a release, where no later epoch completed a poll, else of the newest completed poll."""
        polls = self.execute(
            "SELECT p.state, c.boot_ms, e.boot_id, p.epoch FROM polls_completed p JOIN polls_claimed c USING (tick, epoch) "
            "JOIN epochs e ON e.epoch = p.epoch ORDER BY p.tick DESC LIMIT 1"
        )
        # A reader may meet a ledger that no holder of this release has opened yet.
        releases = self.has_column("releases", "state") and self.execute(
            "SELECT r.state, r.boot_ms, e.boot_id, r.epoch FROM releases r JOIN epochs e USING (epoch) "
            "ORDER BY r.epoch DESC LIMIT 1"
        )
        if releases and releases[0][0] and (not polls or _int(releases[0][3]) >= _int(polls[0][3])):
            polls = releases
        if not polls:
            return None
        state, boot_ms, boot_id, _ = polls[0]
        return LastState(str(state), _int(boot_ms), str(boot_id))

    # --- control

    def apply_control(self, generation: int, epoch: int, *, body: str, refused: str, wall_ms: int) -> None:
        """Record what was applied. Raises FencedError when a newer generation was applied already."""
        self.execute(
            "INSERT INTO controls_applied(generation, epoch, wall_ms, body, refused) VALUES (?,?,?,?,?)",
            (generation, epoch, wall_ms, body, refused),
        )

    def applied_control(self) -> AppliedControl | None:
        """The newest applied control, or None."""
        rows = self.execute("SELECT generation, body FROM controls_applied ORDER BY generation DESC LIMIT 1")
        return AppliedControl(_int(rows[0][0]), str(rows[0][1])) if rows else None

    def _add(self, added: Added) -> None:
        """Make the column where the table is there, and fill in what the newest rows of a former release lack."""
        table, column = added.table, added.column
        if not self.has_column(table, "epoch"):
            return
        if not self.has_column(table, column):
            self.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
        lack = f"rowid > (SELECT max(rowid) FROM {table}) - {NEWEST} AND {column} = '' AND {added.where}"
        if added.value and self.integer(f"SELECT count(*) FROM {table} WHERE {lack}"):
            self.execute(f"DROP TRIGGER {table}_no_update")
            self.execute(f"UPDATE {table} SET {column} = {added.value} WHERE {lack}")
            self.execute(append_only(table))

    def order_code(self) -> str:
        """SQL: the code of a row `o` of orders. A release before wrote the venue's word at the start of the text alone."""
        word = "substr(o.text, 1, instr(o.text || ':', ':') - 1)"
        return f"CASE o.code WHEN '' THEN {word} ELSE o.code END" if self.has_column("orders", "code") else word

    def has_column(self, table: str, column: str) -> bool:
        """Whether the ledger has it: a reader may meet one that no holder of this release has opened yet."""
        return bool(self.integer("SELECT count(*) FROM pragma_table_info(?) WHERE name = ?", (table, column)))

    def _check_identity(self, identity: Identity, *, allow_missing: bool) -> None:
        if not self.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'"):
            if allow_missing:
                return
            raise LedgerCorruptError(f"{self.path.name} holds no ledger; move it away or set BUS_DIR elsewhere")
        meta = {str(key): str(value) for key, value in self.execute("SELECT key, value FROM meta")}
        if not meta and allow_missing:
            return
        schema = meta.get("schema", "")
        major = schema.partition(".")[0]
        if not (major.isascii() and major.isdigit()):
            raise LedgerCorruptError(f"{self.path.name}: expected a schema such as {MAJOR}.0, found {schema!r}")
        if int(major) > MAJOR:
            raise WrongLedgerError(
                f"{self.path.name} has schema {schema}, this release knows {MAJOR}.x; run a newer release"
            )
        found = Identity(meta.get("venue", "?"), meta.get("chain", "?"), meta.get("wallet", "?"))
        if found != identity:
            raise WrongLedgerError(
                f"this ledger belongs to {found}; expected {identity}: set BUS_DIR to a bus of its own, or use that account"
            )


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise LedgerCorruptError(f"expected a number in the ledger, found {value!r}")
    return value
