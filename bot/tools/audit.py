"""The audit: runs all checks, prints a table or JSON.

`./ns audit`. Reads only; may run while the bot trades (what is in flight is then shown as such, not as a violation).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bus import Bus, BusError, bus_to_read
from bus.main import console
from ledger import Ledger
from ledger.base import Released
from ledger.checks import Check, audit, read_record
from ledger.schema import OPEN

SHOWN = 3


def run_audit(bus_directory: Path, source: str | None, max_missed: int | None, *, as_json: bool) -> int:
    """Print the audit; 0 when everything holds, 1 when not. Raises BusError (nothing to audit, unreadable source)."""
    bus = bus_to_read(bus_directory)
    ledger = Ledger.reader(bus.ledger)
    if ledger is None:
        raise BusError(f"there is no ledger in {bus_directory}; start the bot first, or set BUS_DIR")
    with ledger:
        wallet = str(ledger.scalar("SELECT value FROM meta WHERE key = 'wallet'"))
        record = read_record(source, wallet) if source else None
        checks = audit(ledger, record, max_missed)
        facts = summary(ledger)
    broken = [check for check in checks if check.violations]
    if as_json:
        console().print_json(json.dumps({"holds": not broken, **facts, "checks": [asdict(check) for check in checks]}))
    else:
        _print(bus, checks, facts)
    return 1 if broken else 0


def summary(ledger: Ledger) -> dict[str, int]:
    """The numbers that a person asks for first."""
    return {
        "epochs": ledger.integer("SELECT count(*) FROM epochs"),
        "handovers": ledger.integer("SELECT count(*) FROM releases WHERE reason = ?", (Released.HANDOVER,)),
        "polls_completed": ledger.integer("SELECT count(*) FROM polls_completed"),
        "polls_missed": ledger.integer("SELECT coalesce(sum(ticks), 0) FROM polls_missed"),
        "intents": ledger.integer("SELECT count(*) FROM intents"),
        "fills": ledger.integer("SELECT count(*) FROM fills WHERE status = 'MATCHED'"),
        "outcomes": ledger.integer("SELECT count(*) FROM outcomes"),
        "open_or_in_doubt": ledger.integer(f"SELECT count(*) FROM intents i WHERE {OPEN}"),
    }


def _print(bus: Bus, checks: list[Check], facts: dict[str, int]) -> None:
    table = Table(title=f"audit of {bus.directory}", title_justify="left")
    for name in ("", "promise", "looked at", "result"):
        table.add_column(name, overflow="fold")
    for check in checks:
        shown = "\n".join(check.violations[:SHOWN])
        more = len(check.violations) - SHOWN
        result = f"[red]BROKEN[/red] {len(check.violations)}\n{shown}" if check.violations else "[green]holds[/green]"
        table.add_row(
            check.invariant,
            check.promise,
            str(check.looked_at),
            result + (f"\n… and {more} more" if more > 0 else "") + (f"\n{check.note}" if check.note else ""),
        )
    out = console()
    out.print(table)
    out.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
