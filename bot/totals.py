"""The numbers that people ask the ledger for: lifetime totals, PnL by day and slot, the newest outcomes. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from bus import Ledger, LedgerError, Value


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
    """Lifetime numbers; reads whole tables, so it is called at a take and not at a poll."""
    resolved = ledger.execute(
        "SELECT coalesce(sum(pnl), 0), coalesce(sum(fees), 0), coalesce(sum(pnl > 0), 0), coalesce(sum(pnl < 0), 0) "
        "FROM results"
    )[0]
    return Lifetime(
        polls_completed=ledger.integer("SELECT count(*) FROM polls_completed"),
        polls_missed=ledger.integer("SELECT coalesce(sum(ticks), 0) FROM polls_missed"),
        orders=ledger.integer("SELECT count(*) FROM intents"),
        fills=ledger.integer("SELECT count(*) FROM fills WHERE status = 'MATCHED'"),
        pnl=_int(resolved[0]),
        fees=_int(resolved[1]),
        wins=_int(resolved[2]),
        losses=_int(resolved[3]),
    )


def pnl_since(ledger: Ledger, wall_ms: int) -> int:
    """PnL of the windows resolved since then and of corrections made since then, in base units."""
    return sum(
        ledger.integer(f"SELECT coalesce(sum(pnl), 0) FROM {table} WHERE wall_ms >= ?", (wall_ms,))
        for table in ("outcomes", "corrections")
    )


def pnl_by_slot(ledger: Ledger) -> dict[str, int]:
    """PnL a slot, in base units."""
    return {str(slot): _int(pnl) for slot, pnl in ledger.execute("SELECT slot, sum(pnl) FROM results GROUP BY slot")}


def recent_outcomes(ledger: Ledger, limit: int = 20) -> list[tuple[str, str, str, int, int, int]]:
    """(window, slot, winner, pnl, fees, wall ms) of the newest resolved windows, newest first."""
    rows = ledger.execute(
        "SELECT window, slot, winner, pnl, fees, wall_ms FROM results ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [(str(w), str(s), str(o), _int(pnl), _int(fees), _int(at)) for w, s, o, pnl, fees, at in rows]


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise LedgerError(f"expected a number in the ledger, found {value!r}")
    return value
