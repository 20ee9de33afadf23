"""What was predicted of each window, and what was believed when an order was decided: rows for `bot calibrate`.

They may be lost: they are written after the poll whose decisions they are of, and neither an order nor a poll waits for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ledger.base import Ledger
from ledger.values import Side

HORIZONS_S = (120, 90, 60, 30, 10)
"""So many seconds before a window's end its prediction is recorded: at the first poll that is not earlier."""

TABLES = """
CREATE TABLE IF NOT EXISTS predictions (window TEXT NOT NULL, horizon_s INTEGER NOT NULL, epoch INTEGER NOT NULL,
  slot TEXT NOT NULL, at_ms INTEGER NOT NULL, strike REAL, model REAL, market REAL, belief REAL, basis REAL,
  PRIMARY KEY (window, horizon_s)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS beliefs (window TEXT NOT NULL, side TEXT NOT NULL, tick INTEGER NOT NULL, epoch INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, model REAL, market REAL, belief REAL, price REAL,
  PRIMARY KEY (window, side, tick)) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was said of a window so long before its end. Probabilities are of Up."""

    window: str
    """The window's slug."""
    horizon_s: int
    """One of HORIZONS_S."""
    slot: str
    at_ms: int
    """When it was said, UTC ms by the venue."""
    strike: float | None
    """In USD; the strike of the next window tells how this one ended."""
    model: float | None
    """The strategy's own probability, 0 to 1."""
    market: float | None
    """The middle of the market, 0 to 1."""
    belief: float | None
    """What was decided upon, 0 to 1."""
    basis: float | None
    """log(lead / settlement price)."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What stood behind one order when it was decided. Probabilities are of Up."""

    window: str
    side: Side
    tick: int
    """The poll's tick, as the intent has it, UTC ms."""
    at_ms: int
    """When it was decided, UTC ms by the venue."""
    model: float | None
    market: float | None
    belief: float | None
    price: float | None
    """What a share of the whole size was to cost or bring by the book, pUSD."""


_ADD_PREDICTIONS = (
    "INSERT OR IGNORE INTO predictions SELECT value ->> 'window', value ->> 'horizon_s', ?, value ->> 'slot', "
    "value ->> 'at_ms', value ->> 'strike', value ->> 'model', value ->> 'market', value ->> 'belief', value ->> 'basis' "
    "FROM json_each(?)"
)
_ADD_BELIEFS = (
    "INSERT OR IGNORE INTO beliefs SELECT value ->> 'window', value ->> 'side', value ->> 'tick', ?, value ->> 'at_ms', "
    "value ->> 'model', value ->> 'market', value ->> 'belief', value ->> 'price' FROM json_each(?)"
)


def add_predictions(
    ledger: Ledger, epoch: int, predictions: Iterable[Prediction], beliefs: Iterable[Belief] = ()
) -> None:
    """Record them; a window's horizon that has its row keeps it. Raises LedgerError (FencedError, LedgerFullError)."""
    for sql, rows in ((_ADD_PREDICTIONS, list(predictions)), (_ADD_BELIEFS, list(beliefs))):
        if rows:
            ledger.execute(sql, (epoch, json.dumps([_floats(asdict(row)) for row in rows])))


def read_predictions(ledger: Ledger, slot: str | None = None, most: int = -1) -> list[Prediction]:
    """The newest of one slot or all, by time; none of a ledger of a release that recorded none. most: -1 is all of them."""
    if not _has(ledger, "predictions"):
        return []
    rows = ledger.execute(
        "SELECT window, horizon_s, slot, at_ms, strike, model, market, belief, basis FROM predictions "
        "WHERE ? IS NULL OR slot = ? ORDER BY at_ms DESC, window DESC LIMIT ?",
        (slot, slot, most),
    )
    return [Prediction(*row) for row in reversed(rows)]  # type: ignore[arg-type]  # a STRICT table


def read_winners(ledger: Ledger) -> dict[str, str]:
    """How the windows resolved that were traded, by slug: Up, Down or Void."""
    return {str(window): str(winner) for window, winner in ledger.execute("SELECT window, winner FROM outcomes")}


@dataclass(frozen=True, slots=True)
class Slip:
    """One order that was filled: what a share was to cost, and what it cost, pUSD; shares in base units."""

    side: Side
    decided: float
    filled: float
    shares: int


def read_slips(ledger: Ledger) -> list[Slip]:
    """Each order whose belief is on record, against its fills."""
    if not _has(ledger, "beliefs"):
        return []
    rows = ledger.execute(
        "SELECT b.side, b.price, sum(f.value) * 1.0 / sum(f.size), sum(f.size) FROM beliefs b "
        "JOIN intents i ON i.window = b.window AND i.side = b.side AND i.tick = b.tick "
        "JOIN fills f ON f.order_id = i.order_id AND f.status = 'MATCHED' "
        "WHERE b.price IS NOT NULL GROUP BY b.window, b.side, b.tick ORDER BY b.at_ms"
    )
    return [Slip(Side(str(s)), float(d or 0), float(f or 0), int(n or 0)) for s, d, f, n in rows]


def read_results(ledger: Ledger) -> list[tuple[str, str, str, int, int]]:
    """(window, slot, code of its first order's reason, PnL after fees, fees) of each window that was traded; base units."""
    code = "i.code" if ledger.has_column("intents", "code") else "''"
    rows = ledger.execute(
        f"SELECT r.window, r.slot, coalesce((SELECT {code} FROM intents i WHERE i.window = r.window AND i.side = 'BUY' "
        "ORDER BY i.seq LIMIT 1), ''), r.pnl, r.fees FROM results r ORDER BY r.wall_ms, r.window"
    )
    return [(str(w), str(s), str(why), int(p or 0), int(f or 0)) for w, s, why, p, f in rows]


def _has(ledger: Ledger, table: str) -> bool:
    return bool(ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = ?", (table,)))


_REAL = ("strike", "model", "market", "belief", "basis", "price")


def _floats(row: dict[str, object]) -> dict[str, object]:
    """JSON writes 1.0 as a number that SQLite reads as real; an int would be refused by a STRICT table's REAL."""
    return {
        name: float(value) if name in _REAL and isinstance(value, int | float) else value for name, value in row.items()
    }
