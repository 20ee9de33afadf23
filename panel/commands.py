"""What the page's buttons do, on the command line: the same actions, recorded in the same place.

Every action is based on the newest generation of control, and waits until the bot says what became of it.
"""

from __future__ import annotations

import csv
import getpass
import json
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ValidationError

from bus import Bus, Clock, DocumentError, RiskLimits, SlotControl, read_instances, read_status
from panel.actions import Actions, Asker, Written
from panel.errors import ConfirmationNeededError, StartError
from panel.ledger_queries import Fill, LedgerQueries, Order, OutcomeRow
from panel.views import Progress, follow, read_base

FOLLOW_LIMIT_S = 15.0
LOOK_EVERY_S = 0.1
MOST_ROWS = 1_000_000
Table = Literal["orders", "fills", "outcomes"]
TABLES: Mapping[Table, type[BaseModel]] = {"orders": Order, "fills": Fill, "outcomes": OutcomeRow}
# The commands that write control, and what each does.
ACTIONS = {
    "halt": "no entries any more, by the halt file too, which works when nothing else does; exits stay possible",
    "pause": "no entries; exits go on; --for 30m: it ends by itself, whoever lives then",
    "resume": "entries again; --yes where trading was halted",
    "flatten": "sell what is held in the present window of a slot, or of all",
    "set": "risk.NAME=VALUE, strategy.NAME=VALUE, slot.SLOT=on|off, slot.SLOT.max_order=VALUE; `default` as a value",
}


def person() -> str:
    """The name that is recorded beside what a person did."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return "nobody named"


def change(
    bus: Bus,
    actions: Actions,
    clock: Clock,
    command: str,
    values: Sequence[str],
    who: Asker,
    *,
    agreed: bool = False,
    for_s: int | None = None,
    why: str = "",
) -> Written:
    """Do one of halt, pause, resume, flatten, set; returns what was written and how far it came within 15 s.

    values: for flatten a slot, or nothing for all; for set the assignments (`assignments`). for_s, why: of a pause.
    Raises StartError, PanelError, BusError, OSError.
    """
    if command == "halt":
        actions.set_halt()  # before control is even read: it must work when nothing else does
    base = read_base(bus)
    if base.control is None:
        raise StartError(base.problem or "nothing ran on this bus yet; begin with `ns run`")
    generation = base.control.generation
    match command:
        case "halt":
            written = actions.halt(generation, who)
        case "pause":
            written = actions.pause(generation, who, for_s=for_s, why=why)
        case "resume":
            try:
                written = actions.resume(generation, who, confirm=agreed)
            except ConfirmationNeededError:
                raise StartError("trading is halted; look why, then say `ns resume --yes`") from None
        case "flatten":
            written = actions.flatten(generation, who, values[0] if values else None)
        case _:
            written = _set(actions, generation, who, values)
    return written.model_copy(update={"progress": _follow(bus, clock, written)})


def assignments(values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`risk.NAME=VALUE`, `strategy.NAME=VALUE`, `slot.SLOT=on|off`, `slot.SLOT.max_order=VALUE`, by what they change.

    Returns the changes by "risk", "strategy" and "slot SLOT"; `default` as a value stands for None. Raises StartError.
    """
    changes: dict[str, dict[str, Any]] = {}
    for text in values:
        name, sign, value = text.partition("=")
        room, _, rest = name.partition(".")
        if not sign or not rest or room not in ("risk", "strategy", "slot"):
            raise StartError(
                f"expected risk.NAME=VALUE, strategy.NAME=VALUE, slot.SLOT=on or slot.SLOT.max_order=VALUE, found {text!a:.60}"
            )
        if room == "slot":
            slot, _, field = rest.partition(".")
            changes.setdefault(f"slot {slot}", {})[field or "enabled"] = _plain(value)
        else:
            changes.setdefault(room, {})[rest] = _plain(value)
    return changes


def _plain(text: str) -> str | int | Decimal | bool | None:
    known: Mapping[str, bool | None] = {"on": True, "true": True, "off": False, "false": False, "default": None}
    if text.lower() in known:
        return known[text.lower()]
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite():
        return text
    return int(number) if "." not in text and number == number.to_integral_value() else number


def _set(actions: Actions, generation: int, who: Asker, values: Sequence[str]) -> Written:
    """One write for each thing that is changed. Values are checked before the first one; an unknown slot at its own turn."""
    changes = assignments(values)
    steps: list[Callable[[int], Written]] = []
    for room, fields in changes.items():
        if room == "strategy":
            plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in fields.items()}
            steps.append(partial(actions.strategy, who=who, values=plain))
        elif room == "risk":
            steps.append(partial(actions.risk, who=who, changes=_checked(RiskLimits, room, fields)))
        else:
            slot = room.removeprefix("slot ")
            steps.append(partial(actions.slot, slot, who=who, changes=_checked(SlotControl, room, fields)))
    if not steps:
        raise StartError("nothing to set; for example: ns set risk.max_order=25 slot.BTC-5m=off")
    written = steps[0](generation)
    for step in steps[1:]:
        written = step(written.generation)
    return written


def _checked(kind: type[RiskLimits] | type[SlotControl], room: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(fields) - set(kind.model_fields))
    if unknown:
        raise StartError(f"{room} has no {unknown[0]!a:.40}; it has {', '.join(kind.model_fields)}")
    given = {name: kind.model_fields[name].get_default() if value is None else value for name, value in fields.items()}
    try:
        made = kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise StartError(f"{room}.{first['loc'][0]}: {first['msg']}, found {first['input']!a:.40}") from None
    return {name: getattr(made, name) for name in given}


def _follow(bus: Bus, clock: Clock, written: Written) -> Progress:
    """How far a write came: until it is settled, 15 s at most; not waited for where no bot lives."""
    deadline = clock.boot_ms() + FOLLOW_LIMIT_S * 1000
    while True:
        try:
            status = read_status(bus).body
        except DocumentError:
            status = None
        progress = follow(written.generation, written.manual, status)
        over = progress.settled or progress.stage in ("applied", "refused")
        if over or clock.boot_ms() > deadline or not any(view.alive for view in read_instances(bus)):
            return progress
        time.sleep(LOOK_EVERY_S)


def say(command: str, written: Written, *, as_json: bool) -> str:
    """What was written and what became of it, for a person or as JSON."""
    if as_json:
        return written.model_dump_json(indent=1)
    progress = written.progress
    said = f"{command}: generation {written.generation}"
    if progress is not None:
        said += f" {progress.stage}" + "".join(f"; {reason}" for reason in progress.reasons)
        said += "".join(f"\n  {action.id}: {action.state}, {action.text}" for action in progress.manual)
        if progress.stage == "requested":
            said += "; no bot has seen it yet (ns status)"
    return said + ("; the halt file is set" if written.halted else "")


def rows(bus: Bus, table: Table, slot: str | None, most: int) -> tuple[BaseModel, ...]:
    """The newest rows of one table, newest first. Raises StartError: the ledger cannot be read."""
    queries = LedgerQueries(bus)
    read = {"orders": queries.orders, "fills": queries.fills, "outcomes": queries.outcomes}[table](slot, most)
    if read.problem:
        raise StartError(read.problem)
    found: tuple[BaseModel, ...] = getattr(read, table)
    return found


def write_rows(found: Sequence[BaseModel], table: Table, out: TextIO, *, as_json: bool) -> None:
    """As CSV with a head line, or as a JSON list."""
    if as_json:
        json.dump([row.model_dump(mode="json") for row in found], out, indent=1)
        out.write("\n")
        return
    names = list(TABLES[table].model_fields)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in found:
        writer.writerow([getattr(row, name) for name in names])


def as_lines(found: Sequence[BaseModel]) -> str:
    """The same for a terminal: columns as wide as their content."""
    if not found:
        return "none yet"
    names = list(type(found[0]).model_fields)
    cells = [names, *([str(getattr(row, name)) for name in names] for row in found)]
    widths = [min(24, max(len(line[n]) for line in cells)) for n in range(len(names))]
    return "\n".join(
        "  ".join(cell[:width].ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
