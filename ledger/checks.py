"""What must always hold (design section 7), each as a check of the ledger, and of the ledger against the venue's record."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from bus import BusError
from ledger.base import Ledger
from ledger.schema import BY_HAND, COUNTED, DERIVED, OPEN, lets_enter
from ledger.values import VOID

# The venue's own record of one wallet, to hold the ledger against: from paper's URL, or from a file of `paper record`.


FETCH_LIMIT_S = 30
PAGE = 1000


@dataclass(slots=True)
class VenueRecord:
    """What the venue wrote down of one wallet. Rows as in docs/reference/paper.md."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    trades: list[dict[str, Any]] = field(default_factory=list)


def read_record(source: str, wallet: str) -> VenueRecord:
    """The venue's record of one wallet, from paper's URL or from a file of `python -m paper record`. Raises BusError."""
    record = VenueRecord()
    for kind, row in (
        _rows_of_url(source) if source.startswith(("http://", "https://")) else _rows_of_file(Path(source))
    ):
        try:
            if kind == "order" and row["wallet"] == wallet:
                record.orders[row["order_id"]] = row
            elif kind == "trade" and row["wallet"] == wallet:
                record.trades.append(row)
        except KeyError as error:
            raise BusError(f"{source} is not a record of paper (a row of kind {kind} has no {error})") from error
    return record


def _rows_of_url(url: str) -> Iterable[tuple[str, dict[str, Any]]]:
    after = 0
    while True:
        address = f"{url.rstrip('/')}/paper/record?after={after}&limit={PAGE}"
        try:
            with urllib.request.urlopen(address, timeout=FETCH_LIMIT_S) as answer:
                page = json.load(answer)
        except (urllib.error.URLError, TimeoutError, ValueError, OSError) as error:
            raise BusError(
                f"the venue's record could not be read from {address} ({error}); is paper running?"
            ) from error
        for kind in ("order", "trade"):
            yield from ((kind, row) for row in page.get(f"{kind}s", []))
        if page.get("next") is None:
            return
        after = int(page["next"])


def _rows_of_file(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        with path.open() as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    yield str(row["kind"]), row
                except (ValueError, KeyError, TypeError) as error:
                    raise BusError(
                        f"{path}, line {number}: expected JSON as `paper record` prints it ({error})"
                    ) from error
    except OSError as error:
        raise BusError(f"the venue's record could not be read ({error})") from error


# Bytes may stay in a stalled network for so long after their process died (design section 6).
IN_THE_NETWORK_MS = 15_000
# What the venue received this recently may not be in our ledger yet.
IN_FLIGHT_MS = 30_000
NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the audit. looked_at: how many things were looked at; violations: sentences, empty when it holds."""

    invariant: str
    promise: str
    looked_at: int
    violations: tuple[str, ...]
    note: str = ""


def audit(ledger: Ledger, record: VenueRecord | None, max_missed: int | None = None) -> list[Check]:
    """All checks. record: the venue's own, or None."""
    checks = [
        _epochs(ledger),
        _polls(ledger),
        _missed(ledger, max_missed),
        _intents(ledger),
        _entries(ledger),
        _controls(ledger),
        _money(ledger),
        _by_hand(ledger),
        _derived(ledger),
        _storage(ledger),
    ]
    if record is not None:
        checks += [_venue_orders(ledger, record), _venue_epochs(ledger, record), _venue_fills(ledger, record)]
    return checks


# --- from the ledger alone


def _epochs(ledger: Ledger) -> Check:
    rows = ledger.execute("SELECT epoch FROM epochs ORDER BY rowid")
    wrong = [f"epoch {epoch} stands where {n} was expected" for n, (epoch,) in enumerate(rows, 1) if epoch != n]
    tables = ("anchors", "intents", "orders", "fills", "outcomes", "corrections", "adopted", "redemptions")
    for table in (table for table in tables if _has(ledger, table)):
        written = [int(str(epoch)) for (epoch,) in ledger.execute(f"SELECT epoch FROM {table} ORDER BY rowid")]
        falls = [(old, new) for new, old in pairwise(written) if old < new]
        wrong += [f"a row of {table} of epoch {old} was written after one of epoch {new}" for old, new in falls]
    late = ledger.execute(
        "SELECT what, r.epoch FROM (SELECT 'the claim of tick ' || tick AS what, epoch, boot_ms FROM polls_claimed "
        "UNION ALL SELECT 'intent ' || order_id, epoch, boot_ms FROM intents "
        "UNION ALL SELECT 'a state of order ' || order_id, epoch, boot_ms FROM orders) w "
        "JOIN releases r ON r.epoch = w.epoch WHERE w.boot_ms > r.boot_ms"
    )
    wrong += [f"{what} came after the release of its epoch {epoch}" for what, epoch in late]
    crossed = ledger.execute(
        "SELECT c.tick, c.epoch, e.epoch FROM polls_claimed c JOIN epochs e ON e.epoch = c.epoch + 1 "
        "JOIN epochs own ON own.epoch = c.epoch AND own.boot_id = e.boot_id WHERE c.boot_ms > e.boot_ms"
    )
    wrong += [f"tick {tick} was claimed by epoch {old} after epoch {new} began" for tick, old, new in crossed]
    return Check("I1", "epochs rise by one; nothing follows a release", len(rows), tuple(wrong))


def _polls(ledger: Ledger) -> Check:
    """Every tick is accounted for once: between neighbours lies at most one interval of the grid in force."""
    anchors = ledger.execute("SELECT wall_ms, interval_ms FROM anchors ORDER BY id")
    widest = max((int(str(interval)) for _, interval in anchors), default=0)
    rows = ledger.execute(
        "SELECT tick, tick, 1 FROM polls_completed UNION ALL SELECT first_tick, last_tick, ticks FROM polls_missed ORDER BY 1"
    )
    unclaimed = ledger.execute(
        "SELECT tick FROM polls_completed p WHERE NOT EXISTS "
        "(SELECT 1 FROM polls_claimed c WHERE c.tick = p.tick AND c.epoch = p.epoch)"
    )
    wrong = [f"tick {tick} was completed without a claim of its epoch" for (tick,) in unclaimed]
    covered: int | None = None
    for first, last, _ in rows:
        first_tick, last_tick = int(str(first)), int(str(last))
        if covered is not None and first_tick <= covered:
            wrong.append(f"tick {first_tick} is accounted for twice")
        if covered is not None and first_tick - covered > widest:
            wrong.append(f"nothing is said of the ticks between {covered} and {first_tick}")
        covered = max(last_tick, covered or last_tick)
    return Check("I2", "every tick has one completed poll, or a reason", len(rows), tuple(wrong))


def _missed(ledger: Ledger, max_missed: int | None) -> Check:
    rows = ledger.execute("SELECT ticks, reason, first_tick FROM polls_missed ORDER BY first_tick")
    missed = sum(int(str(ticks)) for ticks, _, _ in rows)
    note = "; ".join(f"{ticks} at {first}: {reason}" for ticks, reason, first in rows[-NAMED:])
    too_many = max_missed is not None and missed > max_missed
    wrong = (f"{missed} ticks were missed, at most {max_missed} are allowed: {note}",) if too_many else ()
    return Check(
        "I2",
        f"ticks missed: {missed}" + ("" if max_missed is None else f" (allowed {max_missed})"),
        missed,
        wrong,
        note,
    )


def _intents(ledger: Ledger) -> Check:
    rows = ledger.integer("SELECT count(*) FROM intents")
    strays = ledger.execute("SELECT DISTINCT order_id FROM orders WHERE order_id NOT IN (SELECT order_id FROM intents)")
    wrong = [f"order {order_id} has no intent" for (order_id,) in strays]
    strays = ledger.execute("SELECT DISTINCT order_id FROM fills WHERE order_id NOT IN (SELECT order_id FROM intents)")
    wrong += [f"the fill of order {order_id} has no intent" for (order_id,) in strays]
    # A purchase is bounded by its money, and by its worst cost: the venue gives more shares at a better price.
    filled = ledger.execute(
        "SELECT i.order_id, i.side, i.price, i.size, i.cost, sum(f.size), sum(f.value), sum(f.fee) "
        f"FROM intents i JOIN fills f ON f.order_id = i.order_id WHERE {COUNTED} GROUP BY i.order_id"
    )
    for order_id, side, price, *numbers in filled:
        size, cost, shares, value, fee = (int(str(number)) for number in numbers)
        if side == "BUY" and value > Decimal(str(price)) * size:
            wrong.append(f"order {order_id} (BUY) spent {value}, more than {price} for each of {size}")
        elif (value + fee > cost) if side == "BUY" else (shares > size):
            wrong.append(f"order {order_id} ({side}) was filled beyond its intent: {shares} for {value + fee}")
    return Check("I3", "an intent before every order; no order filled beyond it", rows, tuple(wrong))


def _entries(ledger: Ledger) -> Check:
    rows = ledger.integer("SELECT count(*) FROM intents WHERE side = 'BUY'")
    bad = ledger.execute(
        "SELECT i.order_id, json_extract(c.body, '$.mode') FROM intents i LEFT JOIN controls_applied c "
        f"ON c.generation = i.generation WHERE i.side = 'BUY' AND NOT coalesce({lets_enter('c.body', 'i.wall_ms')}, 0)"
    )
    wrong = [
        f"entry {order_id} was decided under a control {'that was never applied' if mode is None else f'in mode {mode}'}"
        for order_id, mode in bad
    ]
    return Check("I6", "no entry under a pause or halt", rows, tuple(wrong))


def _controls(ledger: Ledger) -> Check:
    # The generation is the row's key: that an older one came later shows in its epoch.
    rows = ledger.execute("SELECT generation, epoch FROM controls_applied ORDER BY generation")
    wrong = [
        f"generation {later[0]} was applied after {earlier[0]} by an older epoch"
        for earlier, later in pairwise(rows)
        if int(str(later[1])) < int(str(earlier[1]))
    ]
    return Check("I7", "generations of control applied only rise", len(rows), tuple(wrong))


def _money(ledger: Ledger) -> Check:
    """Each outcome's PnL, with its corrections, is what its fills and payout add up to, to the last unit."""
    held = (
        "(SELECT coalesce(sum(CASE f.side WHEN 'BUY' THEN f.size ELSE -f.size END), 0) FROM fills f "
        "WHERE f.window = o.window AND f.outcome ="
    )
    rows = ledger.execute(
        "SELECT o.window, o.pnl, o.payout, "
        "(SELECT coalesce(sum(CASE f.side WHEN 'BUY' THEN -f.value ELSE f.value END - f.fee), 0) FROM fills f "
        f"WHERE f.window = o.window AND {COUNTED}), "
        f"CASE WHEN o.winner = '{VOID}' THEN ({held} 'Up' AND {COUNTED}) >> 1) + ({held} 'Down' AND {COUNTED}) >> 1) "
        f"ELSE {held} o.winner AND {COUNTED}) END "
        # A ledger that no holder of this release took yet knows no corrections.
        f"FROM {'results' if _has(ledger, 'results') else 'outcomes'} o"
    )
    wrong = [
        f"{window}: PnL {pnl} is not payout {payout} and fills {flow}"
        for window, pnl, payout, flow, _ in rows
        if int(str(pnl)) != int(str(payout)) + int(str(flow))
    ]
    wrong += [
        f"{window}: the payout is {payout}, {shares} winning shares are held"
        for window, _, payout, _, shares in rows
        if payout != shares
    ]
    return Check("I5", "the money of every resolved window adds up", len(rows), tuple(wrong))


def _by_hand(ledger: Ledger) -> Check:
    """What people settled is named by them, and taken back where the venue showed another truth."""
    tables = _has(ledger, "settled_by_hand")
    rows = ledger.execute("SELECT order_id, who, note FROM settled_by_hand") if tables else []
    named = {str(order_id) for order_id, who, note in rows if who and note}
    wrong = [
        f"order {order_id} was settled without a name or a note" for order_id, who, note in rows if not who or not note
    ]
    vouched = ledger.execute(f"SELECT DISTINCT order_id FROM fills WHERE trade_id LIKE '{BY_HAND}%'")
    wrong += [f"a fill of order {key} is vouched for by nobody" for (key,) in vouched if str(key) not in named]
    twice = ledger.execute(
        f"SELECT DISTINCT f.order_id FROM fills f WHERE f.trade_id LIKE '{BY_HAND}%' AND {COUNTED} AND EXISTS "
        f"(SELECT 1 FROM fills o WHERE o.order_id = f.order_id AND o.trade_id NOT LIKE '{BY_HAND}%' AND o.rowid > f.rowid)"
    )
    wrong += [f"order {key} counts a fill by hand beside a later one of the venue" for (key,) in twice]
    note = "; ".join(f"{str(key)[:12]} by {who}: {text}" for key, who, text in rows[-NAMED:])
    return Check("I5", "orders settled by hand have a name and a reason", len(rows), tuple(wrong), note)


def _derived(ledger: Ledger) -> Check:
    """What the triggers keep is what the history says."""
    promise = "the tables that are kept by triggers follow from the history"
    if not _has(ledger, "totals"):  # no holder of this release took it yet
        return Check("I8", promise, 0, ())
    wrong = []
    for table, query in DERIVED.items():
        # In one statement: the bot may be trading.
        rows = ledger.execute(
            f"SELECT 'has', k.* FROM (SELECT * FROM {table} EXCEPT {query}) k "
            f"UNION ALL SELECT 'lacks', l.* FROM ({query} EXCEPT SELECT * FROM {table}) l"
        )
        wrong += [f"{table} {what} {row}, against the history" for what, *row in rows]
    return Check("I8", promise, len(DERIVED), tuple(wrong))


def _has(ledger: Ledger, name: str) -> bool:
    return bool(ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = ?", (name,)))


def _storage(ledger: Ledger) -> Check:
    rows = ledger.execute("PRAGMA quick_check")
    wrong = tuple(str(text) for (text,) in rows if text != "ok")
    return Check("I8", "the ledger is whole", 1, wrong)


# --- against the venue's record


def _venue_orders(ledger: Ledger, record: VenueRecord) -> Check:
    intents = {str(key): int(str(at)) for key, at in ledger.execute("SELECT order_id, wall_ms FROM intents")}
    wrong = []
    adopted = _adopted(ledger)
    for order_id, row in record.orders.items():
        if order_id in adopted:
            continue
        if order_id not in intents:
            wrong.append(f"the venue has order {order_id}, which has no intent")
        elif int(row["received_ms"]) < intents[order_id] - 1:
            wrong.append(f"the venue received order {order_id} before its intent was made")
    keys = ledger.execute("SELECT window, side, seq, count(*) FROM intents GROUP BY 1, 2, 3 HAVING count(*) > 1")
    wrong += [f"{count} orders for the intent ({window}, {side}, {seq})" for window, side, seq, count in keys]
    theirs = len(adopted & record.orders.keys())
    note = f"{theirs} orders are adopted: their owner's own" if theirs else ""
    return Check("I3", "every order at the venue has its one intent", len(record.orders), tuple(wrong), note)


def _adopted(ledger: Ledger) -> set[str]:
    """The ids of orders that are the account owner's own."""
    return {str(key) for (key,) in ledger.execute("SELECT key FROM adopted")} if _has(ledger, "adopted") else set()


def _venue_epochs(ledger: Ledger, record: VenueRecord) -> Check:
    # How long after the intent the next epoch began, by CLOCK_BOOTTIME where it did not start anew: the wall clock may have
    # been set in between.
    next_taken = {
        str(key): int(str(taken))
        for key, taken in ledger.execute(
            "SELECT i.order_id, CASE WHEN own.boot_id = e.boot_id THEN i.wall_ms + e.boot_ms - i.boot_ms ELSE e.wall_ms END "
            "FROM intents i JOIN epochs e ON e.epoch = i.epoch + 1 JOIN epochs own ON own.epoch = i.epoch"
        )
    }
    wrong = [
        f"order {order_id} arrived {int(row['received_ms']) - next_taken[order_id]} ms after the next epoch began"
        for order_id, row in record.orders.items()
        if order_id in next_taken and int(row["received_ms"]) > next_taken[order_id] + IN_THE_NETWORK_MS
    ]
    return Check("I4", "nothing leaves under an epoch once a newer one exists", len(record.orders), tuple(wrong))


def _venue_fills(ledger: Ledger, record: VenueRecord) -> Check:
    """Fills agree both ways, to the last unit; what is open or just happened is listed, not counted as broken."""
    ours = {
        (str(trade), str(order)): (int(str(size)), int(str(fee)), int(str(at)))
        for trade, order, size, fee, at in ledger.execute(
            f"SELECT trade_id, order_id, size, fee, at_ms FROM fills f WHERE {COUNTED} AND trade_id NOT LIKE '{BY_HAND}%'"
        )
    }
    adopted = _adopted(ledger)
    open_ids = {str(key) for (key,) in ledger.execute(f"SELECT order_id FROM intents i WHERE {OPEN}")}
    newest = max((int(row["time_ms"]) for row in record.trades), default=0)
    theirs = {
        (str(row["trade_id"]), str(row["order_id"])): (int(row["size"]), int(row["fee"]), int(row["time_ms"]))
        for row in record.trades
        if row.get("status") != "FAILED" and str(row["order_id"]) not in adopted
    }
    wrong = []
    listed = 0
    for key, (size, fee, at_ms) in theirs.items():
        if key not in ours:
            if key[1] in open_ids or at_ms > newest - IN_FLIGHT_MS:
                listed += 1
            else:
                wrong.append(f"the venue's trade {key[0]} of order {key[1]} ({size} units) is not in the ledger")
        elif ours[key][:2] != (size, fee):
            wrong.append(f"trade {key[0]}: ledger has size and fee {ours[key][:2]}, the venue {(size, fee)}")
    failed = {(str(row["trade_id"]), str(row["order_id"])) for row in record.trades if row.get("status") == "FAILED"}
    for key in ours.keys() - theirs.keys():
        # Matched after the record was read (the venue gives whole seconds), or failed and not noticed yet.
        if ours[key][2] + 1000 > newest or (key in failed and ours[key][2] > newest - IN_FLIGHT_MS):
            listed += 1
        else:
            wrong.append(f"the ledger's fill {key[0]} of order {key[1]} is not at the venue")
    note = f"{listed} fills that are in flight, or of orders that are still open or in doubt" if listed else ""
    return Check("I5", "ledger and venue agree on every fill and fee", len(theirs), tuple(wrong), note)
