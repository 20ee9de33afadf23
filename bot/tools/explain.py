"""`./ns explain ORDER|SLOT|TICK`: the life of one order, the newest of a slot, or all that happened at a tick, in order of time.

Read from the ledger, the ring of inputs, and on request the venue's own record and log files. Reads only; may run while the bot
trades.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw

from bot.venue.types import BASE_UNITS
from bus import Bus, BusError, bus_to_read, open_named
from bus.documents import check_database
from ledger import Ledger
from ledger.checks import VenueRecord, read_record

NEWEST = 5
LINES_A_FILE = 1_000_000
_ORDER = re.compile(r"0x[0-9a-fA-F]{4,64}")
_SLOT = re.compile(r"[A-Z]{2,6}-[0-9]+[sm](\+[0-9]+)?")
_TICK = re.compile(r"[0-9]{13}")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. time_ms: UTC ms, or None where nobody knows. source: ledger, inputs, venue or a log's name."""

    time_ms: int | None
    source: str
    text: str


def run_explain(bus_directory: Path, what: str, venue: str | None, logs: Sequence[Path], *, as_json: bool) -> str:
    """The text to print. Raises BusError: nothing of that name is known, or a source cannot be read."""
    bus = bus_to_read(bus_directory)
    ledger = Ledger.reader(bus.ledger)
    if ledger is None:
        raise BusError(f"there is no ledger in {bus_directory}; start the bot first, or set BUS_DIR")
    with ledger:
        wallet = str(ledger.scalar("SELECT value FROM meta WHERE key = 'wallet'"))
        record = read_record(venue, wallet) if venue else None
        events, ids = explain(bus, ledger, what)
    for order_id in ids:
        events += list(_venue(record, order_id)) if record is not None else []
    events += list(_logs(logs, ids, what))
    events.sort(key=lambda event: (event.time_ms is None, event.time_ms or 0))
    if as_json:
        return json.dumps([asdict(event) for event in events], indent=1)
    return "\n".join(f"{_time(event.time_ms)}  {event.source:<7} {event.text}" for event in events)


def explain(bus: Bus, ledger: Ledger, what: str) -> tuple[list[Event], list[str]]:
    """What ledger and inputs tell of an order id (its beginning is enough), a slot or a tick; and the order ids met.

    Raises BusError.
    """
    if _ORDER.fullmatch(what):
        ids = _ids(ledger, "order_id LIKE ?", f"{what}%", 2)
        if len(ids) != 1:
            found = "more than one order" if ids else "no order"
            raise BusError(f"expected the id of one order, found {found} in the ledger that begins with {what}")
        return list(_order(ledger, ids[0])) + list(_inputs_of_order(bus, ledger, ids[0])), ids
    if _SLOT.fullmatch(what):
        ids = _ids(ledger, "slot = ?", what, NEWEST)
        events = [event for order_id in ids for event in _order(ledger, order_id)]
        events += list(_inputs(bus, slot=what, newest=NEWEST))
        if not events:
            raise BusError(
                f"neither an order nor a decision of slot {what} is known; slots are named as in status.json"
            )
        return events, ids
    if _TICK.fullmatch(what):
        tick = int(what)
        ids = _ids(ledger, "tick = ?", tick, 1_000)
        events = list(_poll(ledger, tick)) + list(_inputs(bus, tick=tick))
        events += [event for order_id in ids for event in _order(ledger, order_id)]
        if not events:
            raise BusError(
                f"the ledger knows no tick {tick}; ticks are UTC ms on the grid, as in the log and in status.json"
            )
        return events, ids
    raise BusError(f"expected an order id (0x...), a slot such as BTC-5m or a tick in UTC ms, found {what!r}")


# --- the ledger


def _ids(ledger: Ledger, where: str, value: str | int, most: int) -> list[str]:
    rows = ledger.execute(f"SELECT order_id FROM intents WHERE {where} ORDER BY rowid DESC LIMIT {most}", (value,))
    return [str(row[0]) for row in reversed(rows)]


def _order(ledger: Ledger, order_id: str) -> Iterator[Event]:
    short = order_id[:10]
    for row in ledger.execute(
        "SELECT i.wall_ms, i.slot, i.window, i.side, i.outcome, i.size, i.price, i.order_type, i.cost, i.tick, i.generation, "
        "i.epoch, e.color, e.sha, e.instance, i.reason FROM intents i JOIN epochs e ON e.epoch = i.epoch "
        "WHERE i.order_id = ?",
        (order_id,),
    ):
        slot, window, side, outcome = row[1:5]
        yield Event(
            _int(row[0]),
            "ledger",
            f"{short} intent: {side} {_shares(row[5])} {outcome} at {row[6]} ({row[7]}), worst cost {_shares(row[8])} pUSD, "
            f"slot {slot}, window {window}, tick {row[9]}, control {row[10]}, epoch {row[11]} ({row[12]} "
            f"{str(row[13])[:7]}, {row[14]}): {row[15]}",
        )
        yield from _outcome(ledger, str(window))
    for state, text, matched, wall_ms, epoch in ledger.execute(
        "SELECT state, text, matched, wall_ms, epoch FROM orders WHERE order_id = ? ORDER BY id", (order_id,)
    ):
        more = "" if matched is None else f", {_shares(matched)} matched"
        yield Event(_int(wall_ms), "ledger", f"{short} {state} in epoch {epoch}{more}: {text}")
    for trade, status, size, price, fee, at_ms, epoch in ledger.execute(
        "SELECT trade_id, status, size, price, fee, at_ms, epoch FROM fills WHERE order_id = ? ORDER BY rowid",
        (order_id,),
    ):
        what = "fill" if status == "MATCHED" else "a fill was reversed"
        text = f"{short} {what}: {_shares(size)} at {price}, fee {_shares(fee)} pUSD, trade {trade}, recorded in epoch {epoch}"
        yield Event(_int(at_ms), "ledger", text)
    if _has(ledger, "settled_by_hand"):
        for verdict, who, note, wall_ms in ledger.execute(
            "SELECT verdict, who, note, wall_ms FROM settled_by_hand WHERE order_id = ?", (order_id,)
        ):
            yield Event(_int(wall_ms), "ledger", f"{short} settled by hand as {verdict} by {who}: {note}")


def _outcome(ledger: Ledger, window: str) -> Iterator[Event]:
    for winner, pnl, fees, wall_ms in ledger.execute(
        "SELECT winner, pnl, fees, wall_ms FROM outcomes WHERE window = ?", (window,)
    ):
        text = f"{window} resolved {winner}: PnL {_shares(pnl)} pUSD, fees {_shares(fees)}"
        yield Event(_int(wall_ms), "ledger", text)
    if _has(ledger, "corrections"):
        for pnl, reason, wall_ms in ledger.execute(
            "SELECT pnl, reason, wall_ms FROM corrections WHERE window = ? ORDER BY id", (window,)
        ):
            yield Event(_int(wall_ms), "ledger", f"{window} corrected by {_shares(pnl)} pUSD: {reason}")


def _poll(ledger: Ledger, tick: int) -> Iterator[Event]:
    for (epoch,) in ledger.execute("SELECT epoch FROM polls_claimed WHERE tick = ? ORDER BY boot_ms", (tick,)):
        yield Event(tick, "ledger", f"tick {tick} claimed in epoch {epoch}")
    for epoch, healthy, lag_ms, took_ms in ledger.execute(
        "SELECT epoch, healthy, lag_ms, duration_ms FROM polls_completed WHERE tick = ?", (tick,)
    ):
        health = "healthy" if healthy else "not healthy"
        yield Event(
            tick, "ledger", f"tick {tick} completed in epoch {epoch}, {health}, {lag_ms} ms late, {took_ms} ms long"
        )
    for first, last, reason in ledger.execute(
        "SELECT first_tick, last_tick, reason FROM polls_missed WHERE first_tick <= ? AND last_tick >= ?", (tick, tick)
    ):
        yield Event(tick, "ledger", f"tick {tick} was missed, with all from {first} to {last}: {reason}")


# --- the ring of inputs


def _inputs_of_order(bus: Bus, ledger: Ledger, order_id: str) -> Iterator[Event]:
    for tick, slot in ledger.execute("SELECT tick, slot FROM intents WHERE order_id = ?", (order_id,)):
        events = list(_inputs(bus, tick=_int(tick), slot=str(slot)))
        yield from events
        if not events:
            yield Event(None, "inputs", f"what was decided upon at tick {tick} is no longer kept")


def _inputs(
    bus: Bus, *, tick: int | None = None, slot: str | None = None, newest: int | None = None
) -> Iterator[Event]:
    """The decisions of a tick, or the newest ones; of one slot, or of all."""
    events = []
    for at, body in _records(bus, tick):
        for decision in body.get("decisions", ()):
            given: dict[str, Any] = decision.get("inputs", {})
            if slot is None or given.get("slot") == slot:
                events.append(Event(given.get("now_ms", at), "inputs", _decision(decision, given)))
                if newest is not None and len(events) >= newest:
                    yield from events
                    return
    yield from events


def _records(bus: Bus, tick: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Newest first. Nothing where the ring is missing or spoiled: it may be lost."""
    if not bus.inputs.exists():
        return
    try:
        check_database(bus.inputs)
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
        connection = apsw.Connection(str(bus.directory.resolve() / bus.inputs.name), flags=flags)
        try:
            connection.set_busy_timeout(1_000)
            where = "" if tick is None else "WHERE tick = ?"
            rows = connection.execute(
                f"SELECT tick, body FROM inputs {where} ORDER BY id DESC", () if tick is None else (tick,)
            )
            for at, body in rows:
                yield int(at), json.loads(body)
        finally:
            connection.close()
    except (apsw.Error, OSError, ValueError) as error:
        raise BusError(f"{bus.inputs.name} cannot be read ({error}); remove it, it only holds recent inputs") from error


def _decision(decision: dict[str, Any], given: dict[str, Any]) -> str:
    def best(side: str) -> str:
        levels = given.get(side) or ()
        first = levels[0] if levels else None
        price = first.get("price") if isinstance(first, dict) else first[0] if first else "none"
        return str(price)

    return (
        f"{given.get('slot')} decided {decision.get('action')}: {decision.get('reason')} (lead {given.get('lead_price')}, "
        f"strike {given.get('strike')}, ask Up {best('asks_up')}, ask Down {best('asks_down')}, "
        f"streak {given.get('streak')})"
    )


# --- the venue's record, and logs


def _venue(record: VenueRecord, order_id: str) -> Iterator[Event]:
    order = record.orders.get(order_id)
    short = order_id[:10]
    if order is None:
        yield Event(
            None, "venue", f"{short} is not in the venue's record (which proves nothing while it may be on its way)"
        )
        return
    shown = {key: value for key, value in order.items() if key not in ("order_id", "wallet", "time_ms", "seq", "body")}
    yield Event(order.get("time_ms"), "venue", f"{short} received: {json.dumps(shown, default=str)}")
    for trade in record.trades:
        if trade.get("order_id") == order_id:
            text = f"{short} trade {trade.get('trade_id')}: {trade.get('size')} at {trade.get('price')}, {trade.get('status')}"
            yield Event(trade.get("time_ms"), "venue", text)


def _logs(files: Iterable[Path], ids: Sequence[str], what: str) -> Iterator[Event]:
    """The JSON lines that name one of these orders, or the slot or tick that was asked for."""
    words = [*ids, what]
    for path in files:
        try:
            with io.TextIOWrapper(open_named(path), "utf-8", "replace") as file:
                for number, line in enumerate(file):
                    if number >= LINES_A_FILE:
                        break
                    if any(word in line for word in words) and (event := _line(path, line)) is not None:
                        yield event
        except OSError as error:
            raise BusError(f"the log {path} cannot be read ({error.strerror})") from error


def _line(path: Path, line: str) -> Event | None:
    try:
        entry = json.loads(line)
        at = datetime.fromisoformat(entry.pop("time"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    event = entry.pop("event", "")
    shown = {
        key: value for key, value in entry.items() if key not in ("seq", "level", "git_sha", "deploy_id", "instance")
    }
    return Event(
        round(at.timestamp() * 1000), path.stem[-7:] or "log", f"{event} {json.dumps(shown, ensure_ascii=False)}"
    )


# --- words


def _has(ledger: Ledger, table: str) -> bool:
    return ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = ?", (table,)) > 0


def _shares(units: object) -> str:
    return f"{Decimal(_int(units)) / BASE_UNITS:f}"


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise BusError(f"expected a number in the ledger, found {value!r}")
    return value


def _time(time_ms: int | None) -> str:
    if time_ms is None:
        return f"{'?':<23}"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


__all__ = ["Event", "explain", "run_explain"]
