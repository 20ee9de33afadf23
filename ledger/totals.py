"""The numbers that people ask the ledger for: lifetime totals, PnL by day and slot, the newest outcomes."""

from __future__ import annotations

from dataclasses import dataclass

from bus import LedgerError
from ledger.base import Ledger
from ledger.connection import Value


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Lifetime numbers. Money in base units of pUSD."""

    polls_completed: int
    polls_missed: int
    orders: int
    fills: int
    pnl: int
    fees: int
    wins: int
    losses: int


def lifetime(ledger: Ledger) -> Lifetime:
    """Lifetime numbers, kept by the ledger's triggers."""
    polls, missed, fills, pnl, fees, wins, losses, orders = (
        _as_int(value)
        for value in ledger.execute(
            "SELECT polls_completed, polls_missed, fills, pnl, fees, wins, losses, "
            # Nothing is ever deleted there, so the newest row's number is how many there are.
            "(SELECT coalesce(max(rowid), 0) FROM intents) FROM totals"
        )[0]
    )
    return Lifetime(polls, missed, orders, fills, pnl, fees, wins, losses)


def pnl_since(ledger: Ledger, wall_ms: int) -> int:
    """PnL of the windows resolved since then and of corrections made since then, in base units."""
    return sum(
        ledger.integer(f"SELECT coalesce(sum(pnl), 0) FROM {table} WHERE wall_ms >= ?", (wall_ms,))
        for table in ("outcomes", "corrections")
    )


def pnl_by_slot(ledger: Ledger) -> dict[str, int]:
    """PnL a slot, in base units."""
    return {str(slot): _as_int(pnl) for slot, pnl in ledger.execute("SELECT slot, pnl FROM slot_totals")}


def recent_outcomes(ledger: Ledger, limit: int = 20) -> list[tuple[str, str, str, int, int, int]]:
    """(window, slot, winner, pnl, fees, wall ms) of the newest resolved windows, newest first."""
    rows = ledger.execute(
        "SELECT window, slot, winner, pnl, fees, wall_ms FROM results ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [(str(w), str(s), str(o), _as_int(pnl), _as_int(fees), _as_int(at)) for w, s, o, pnl, fees, at in rows]


def _as_int(value: Value) -> int:
    if not isinstance(value, int):
        raise LedgerError(f"expected a number in the ledger, found {value!r}")
    return value
