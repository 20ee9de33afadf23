"""What happened on the bus since the last look: rows of the ledger, lines of its files, who died, what is halted. Reads only.

Bounded: at most so many rows and bytes a look. What is more is left out, and said to be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bus import (
    Bus,
    Control,
    DocumentError,
    InstanceView,
    LedgerError,
    Status,
    Step,
    is_halted,
    is_locked,
    open_regular,
    read_control,
    read_instances,
    read_status,
)
from ledger import Ledger, Row, Value
from panel.audit_log import Write, writes_file
from panel.notify.notices import SILENT_MS, Dead, FillRow, Kind, Memory, OrderRow, OutcomeRow, Seen

MOST_ROWS = 2_000
MOST_BYTES = 1 << 20
SILENT_POLLS = 6
_BASE_UNITS = 1_000_000
T = TypeVar("T")

# By table: what is read of each new row; the row's number comes first.
_QUERIES = {
    "fills": "SELECT f.rowid, coalesce((SELECT i.slot FROM intents i WHERE i.order_id = f.order_id), f.window), f.outcome, "
    "f.side, f.price, f.size, f.value, f.status, f.at_ms FROM fills f WHERE f.status IN ('MATCHED', 'FAILED') AND f.rowid",
    "outcomes": "SELECT rowid, slot, window, winner, pnl, wall_ms, '' FROM outcomes WHERE rowid",
    "corrections": "SELECT id, slot, window, '', pnl, wall_ms, reason FROM corrections WHERE id",
    "orders": "SELECT o.id, coalesce((SELECT i.slot FROM intents i WHERE i.order_id = o.order_id), ''), o.state, o.text, "
    "o.wall_ms, CODE FROM orders o WHERE o.state IN ('accepted', 'refused') AND o.id",
}
_KIND_OF = {
    "fills": Kind.FILLS,
    "outcomes": Kind.OUTCOMES,
    "corrections": Kind.OUTCOMES,
    "orders": Kind.REFUSALS,
    "steps": Kind.DEPLOYS,
    "writes": Kind.HALTS,
}


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is new in the ledger."""

    ledger: int
    newest: Mapping[str, int]
    rows: Mapping[str, list[Row]]
    left_out: tuple[str, ...] = ()


def read(bus: Bus, known: Memory, *, now_ms: int, since_ms: int) -> Seen:
    """What happened since. since_ms: when this process began to look (UTC): before that nobody is called silent.

    What cannot be read now is left for the next look. Raises nothing but OSError.
    """
    halted = is_halted(bus)  # before the record of writes, which follows it
    found = _ledger(bus, known)
    rows: Mapping[str, list[Row]] = found.rows if found is not None else {}
    steps, steps_to, steps_cut = lines_since(bus.deploys, known.steps, _step)
    writes, writes_to, writes_cut = lines_since(writes_file(bus), known.writes, Write.model_validate_json)
    cut = {*(found.left_out if found is not None else ()), *(["steps"] * steps_cut), *(["writes"] * writes_cut)}
    status, written_ms = _status(bus)
    return Seen(
        now_ms=now_ms,
        ledger=found.ledger if found is not None else None,
        newest=found.newest if found is not None else None,
        fills=tuple(_fill(row) for row in rows.get("fills", ())),
        outcomes=tuple(_outcome(row) for row in rows.get("outcomes", ())),
        corrections=tuple(_outcome(row) for row in rows.get("corrections", ())),
        orders=tuple(
            OrderRow(_int(row[0]), str(row[1]), str(row[2]), str(row[3]), _int(row[4]), str(row[5]))
            for row in rows.get("orders", ())
        ),
        steps=tuple(steps),
        steps_to=steps_to,
        writes=tuple(writes),
        writes_to=writes_to,
        dead=_dead(bus),
        halted=halted,
        limits=_limits(bus, status),
        silent_ms=None if written_ms is None else max(0, now_ms - max(written_ms, since_ms)),
        limit_ms=SILENT_MS if status is None else max(SILENT_MS, SILENT_POLLS * status.interval_ms),
        venue=status.venue if status is not None else "",
        deployer=bus.deployer_lock.exists() and is_locked(bus.deployer_lock),
        left_out=frozenset(_KIND_OF[name] for name in cut),
    )


def lines_since(path: Path, offset: int, parse: Callable[[bytes], T]) -> tuple[list[T], int, bool]:
    """What the lines after that byte say, the byte to go on from, and whether there were too many to read.

    For files that only grow, by whole lines. A line without its end is read when it has one; one that says nothing is left out. A
    file that is shorter than the offset is another one: nothing of it is news.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            size = file.seek(0, 2)
            if size < offset:
                return [], size, False
            begin = max(offset, size - MOST_BYTES)
            if begin > 0:  # an append that failed was cut off again: the next line may begin before the offset
                file.seek(begin - 1)
                if file.read(1) != b"\n":
                    begin = _line_begin(file.seek, file.read, begin) if begin == offset else begin
            file.seek(begin)
            data = file.read(size - begin)
    except OSError:
        return [], offset, False
    whole, newline, _ = data.rpartition(b"\n")
    parsed = []
    for line in whole.split(b"\n") if newline else ():
        try:
            parsed.append(parse(line))
        except (ValueError, RecursionError):  # torn by a power cut, cut at the beginning, or empty
            continue
    return parsed, begin + len(whole) + len(newline), begin > offset


def _line_begin(seek: Callable[[int], int], take: Callable[[int], bytes], offset: int) -> int:
    start = max(0, offset - (64 << 10))
    seek(start)
    before = take(offset - start)
    return start + before.rfind(b"\n") + 1


def limits_reached(status: Status, control: Control) -> dict[str, str]:
    """The limits on losses that close all entries now, by name, in words; those that no limit is set for are left out."""
    usage, risk = status.usage, control.risk
    if usage is None:
        return {}
    reached: dict[str, str] = {}
    if usage.loss_today >= risk.daily_loss:
        reached["daily_loss"] = f"today's loss of {usage.loss_today:.2f} pUSD reached the limit of {risk.daily_loss}"
    if risk.hourly_loss is not None and usage.loss_last_hour >= risk.hourly_loss:
        reached["hourly_loss"] = (
            f"the last hour's loss of {usage.loss_last_hour:.2f} pUSD reached the limit of {risk.hourly_loss}"
        )
    if usage.cooling_until_ms is not None:
        reached["losses_in_a_row"] = (
            f"{usage.losses_in_a_row} losses in a row; entries wait {risk.cool_down_minutes} minutes after the last"
        )
    if usage.failed_trades_last_hour >= risk.failed_trades_per_hour:
        reached["failed_trades"] = (
            f"{usage.failed_trades_last_hour} trades of the last hour failed on the chain, "
            f"the limit is {risk.failed_trades_per_hour}"
        )
    return reached


def _ledger(bus: Bus, known: Memory) -> _Rows | None:
    """New rows of each table; None where there is no ledger, or where it cannot be read now."""
    try:
        ledger = Ledger.reader(bus.ledger)
        if ledger is None:
            return None
        with ledger:
            if not ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'results'"):
                return None
            born = ledger.integer("SELECT wall_ms FROM epochs ORDER BY epoch LIMIT 1")
            newest = {table: _newest(ledger, table) for table in _QUERIES}
            before = {table: getattr(known, table) for table in _QUERIES}
            if known.ledger not in (0, born) or any(before[table] > newest[table] for table in _QUERIES):
                return _Rows(born, newest, {})  # another ledger, or an older state of it: nothing of it is news
            rows = {table: _since(ledger, table, before[table], newest[table]) for table in _QUERIES}
            left_out = tuple(table for table in _QUERIES if newest[table] - before[table] > MOST_ROWS)
            return _Rows(born, newest, rows, left_out)
    except LedgerError:
        return None


def _newest(ledger: Ledger, table: str) -> int:
    return ledger.integer(f"SELECT coalesce(max(rowid), 0) FROM {table}")


def _since(ledger: Ledger, table: str, before: int, newest: int) -> list[Row]:
    """The newest rows up to `newest`, oldest first: what comes meanwhile is for the next look."""
    query = _QUERIES[table].replace("CODE", ledger.order_code())
    return ledger.execute(f"{query} BETWEEN ? AND ? ORDER BY 1", (max(before, newest - MOST_ROWS) + 1, newest))


def _step(line: bytes) -> Step:
    content = json.loads(line)
    if isinstance(content, dict):
        content.pop("schema", None)
    return Step.model_validate(content)


def _dead(bus: Bus) -> tuple[Dead, ...] | None:
    try:
        views = [view for view in read_instances(bus) if not view.alive]
    except OSError:
        return None
    return tuple(_dead_one(view) for view in views)


def _dead_one(view: InstanceView) -> Dead:
    document = view.document
    if document is not None:
        return Dead(view.id, document.color, document.sha, document.role)
    _, color, sha, _ = view.id.split("-")  # as `bus.new_id` makes it
    return Dead(view.id, color, sha, "")


def _status(bus: Bus) -> tuple[Status | None, int | None]:
    """The status, and when it was written (UTC ms)."""
    try:
        found = read_status(bus)
    except DocumentError:
        return None, None
    return found.body, found.stamp.time_ms


def _limits(bus: Bus, status: Status | None) -> Mapping[str, str] | None:
    """None where the status is of another control than the one that stands, or one of them cannot be read."""
    if status is None:
        return None
    try:
        control = read_control(bus)
    except (DocumentError, ValidationError):
        return None
    return limits_reached(status, control) if status.control.applied == control.generation else None


def _fill(row: Row) -> FillRow:
    number, slot, outcome, side, price, size, value, status, at_ms = row
    return FillRow(
        row=_int(number),
        slot=str(slot),
        outcome=str(outcome),
        side=str(side),
        price=Decimal(str(price)),
        size=_units(size),
        value=_units(value),
        failed=status == "FAILED",
        time_ms=_int(at_ms),
    )


def _outcome(row: Row) -> OutcomeRow:
    number, slot, window, winner, pnl, wall_ms, why = row
    return OutcomeRow(_int(number), str(slot), str(window), str(winner), _units(pnl), _int(wall_ms), str(why))


def _units(value: Value) -> Decimal:
    return Decimal(_int(value)) / _BASE_UNITS


def _int(value: Value) -> int:
    return value if isinstance(value, int) else 0
