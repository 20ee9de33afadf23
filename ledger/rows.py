"""The bot's rows in the ledger: intents, orders, fills, outcomes (tables in `schema`).

What the venue said of an order is a new row in `orders`; an intent is open until one of its rows is terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bus import LedgerError
from bus.errors import code_of
from ledger.base import Ledger
from ledger.connection import UNIQUE
from ledger.schema import BY_HAND, COUNTED, DERIVED, LOOK_BACK_MS, OrderCode, OrderState
from ledger.values import FAILED, VOID, Outcome, Side, VenueTrade, trade_word


class SlotTakenError(LedgerError):
    """The slot has an open intent, or control does not allow the entry: nothing was written."""


@dataclass(frozen=True, slots=True)
class Intent:
    """The durable decision to place one order. size, cost: base units; cost is the worst case in pUSD (0 for exits).

    code: of the reason. manual: the id of the person's action that it is of; empty of the strategy's.
    """

    order_id: str
    epoch: int
    tick: int
    generation: int
    slot: str
    window: str
    window_end_ms: int
    condition_id: str
    token_id: str
    outcome: Outcome
    side: Side
    seq: int
    price: Decimal
    size: int
    cost: int
    order_type: str
    body: str
    reason: str
    code: str = ""
    manual: str = ""


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An intent without a terminal row: what was last said of it.

    filled, spent: shares in recorded trades, failed ones included, and what they cost with their fees; matched: the most that
    the venue said was matched, None when it said nothing (all in base units).
    """

    intent: Intent
    state: OrderState | None
    filled: int = 0
    matched: int | None = None
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Fills:
    """The recorded trades of one order, failed ones included: how many, their shares, value and fees in base units."""

    trades: int
    shares: int
    value: int
    fees: int


@dataclass(frozen=True, slots=True)
class Position:
    """Shares of one outcome of one window that is not resolved. shares, cost, fees: base units.

    sales: (UTC ms, proceeds in base units) of each exit that counts.
    """

    slot: str
    window: str
    window_end_ms: int
    condition_id: str
    token_id: str
    outcome: Outcome
    shares: int
    cost: int
    fees: int
    sales: tuple[tuple[int, int], ...] = ()


_INTENT = (
    "i.order_id, i.epoch, i.tick, i.generation, i.slot, i.window, i.window_end_ms, i.condition_id, i.token_id, i.outcome, "
    "i.side, i.seq, i.price, i.size, i.cost, i.order_type, i.body, i.reason, i.code, i.manual"
)


_ADD_INTENT = f"INSERT INTO intents({_INTENT.replace('i.', '')}, wall_ms, boot_ms) VALUES ({','.join('?' * 22)})"


def add_intent(ledger: Ledger, intent: Intent, wall_ms: int, boot_ms: int) -> None:
    """Make an intent durable. Raises SlotTakenError, FencedError, LedgerFullError, LedgerError."""
    try:
        ledger.execute(
            _ADD_INTENT,
            (
                intent.order_id,
                intent.epoch,
                intent.tick,
                intent.generation,
                intent.slot,
                intent.window,
                intent.window_end_ms,
                intent.condition_id,
                intent.token_id,
                intent.outcome,
                intent.side,
                intent.seq,
                str(intent.price),
                intent.size,
                intent.cost,
                intent.order_type,
                intent.body,
                intent.reason,
                intent.code,
                intent.manual,
                wall_ms,
                boot_ms,
            ),
        )
    except LedgerError as error:
        if error.code not in ("open", "control", UNIQUE):
            raise
        taken = SlotTakenError(str(error))
        taken.code = error.code
        raise taken from error


def add_order_state(
    ledger: Ledger,
    epoch: int,
    order_id: str,
    state: OrderState,
    text: str,
    wall_ms: int,
    boot_ms: int,
    matched: int | None = None,
) -> None:
    """Record what is known of an order now. text: why; a Reason's code is recorded beside it. matched: as in OpenIntent."""
    ledger.execute(
        "INSERT INTO orders(epoch, order_id, state, text, matched, wall_ms, boot_ms, code) VALUES (?,?,?,?,?,?,?,?)",
        (epoch, order_id, state, text[:500], matched, wall_ms, boot_ms, code_of(text)),
    )


def add_fill(ledger: Ledger, epoch: int, intent: Intent, trade: VenueTrade, wall_ms: int | None = None) -> bool:
    """Record a fill, or that one failed; False when it was known already.

    A trade that had failed before it was seen gets both rows: it counts as seen, and not as a fill. A fill that a person
    vouched for is reversed by the first trade that the venue itself shows. Where the window's outcome is recorded already, a
    correction of it is recorded beside (wall_ms: when; the trade's own time when None).
    """
    statuses = {
        str(status)
        for (status,) in ledger.execute(
            "SELECT status FROM fills WHERE trade_id = ? AND order_id = ?", (trade.trade_id, trade.order_id)
        )
    }
    wanted = ("MATCHED", "FAILED") if trade_word(trade.status) == FAILED else ("MATCHED",)
    new = [status for status in wanted if status not in statuses]
    if not new:
        return False
    with ledger.transaction():
        if not trade.trade_id.startswith(BY_HAND):
            _take_back_by_hand(ledger, epoch, trade.order_id)
        for status in new:
            ledger.execute(
                "INSERT INTO fills(trade_id, order_id, status, epoch, window, outcome, side, price, size, value, fee, at_ms) "
                "VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    trade.trade_id,
                    trade.order_id,
                    status,
                    epoch,
                    intent.window,
                    intent.outcome,
                    intent.side,
                    str(trade.price),
                    trade.size,
                    trade.worth,
                    trade.fee,
                    trade.at_ms,
                ),
            )
        _correct(
            ledger,
            epoch,
            intent.window,
            f"trade {trade.trade_id} of order {trade.order_id}: {', '.join(new)}",
            trade.at_ms if wall_ms is None else wall_ms,
        )
    return True


def _take_back_by_hand(ledger: Ledger, epoch: int, order_id: str) -> None:
    ledger.execute(
        "INSERT INTO fills(trade_id, order_id, status, epoch, window, outcome, side, price, size, value, fee, at_ms) "
        "SELECT trade_id, order_id, 'FAILED', ?, window, outcome, side, price, size, value, fee, at_ms FROM fills f "
        f"WHERE order_id = ? AND trade_id LIKE '{BY_HAND}%' AND {COUNTED}",
        (epoch, order_id),
    )


def _correct(ledger: Ledger, epoch: int, window: str, reason: str, wall_ms: int) -> None:
    """Record by how much a recorded outcome is wrong now, if at all."""
    rows = ledger.execute("SELECT slot, winner, payout, pnl, fees FROM results WHERE window = ?", (window,))
    if not rows:
        return
    slot, winner, *row = rows[0]
    wanted = _worth(ledger, window, str(winner))
    payout, pnl, fees = (now - _int(before) for now, before in zip(wanted, row, strict=True))
    if payout or pnl or fees:
        ledger.execute(
            "INSERT INTO corrections(epoch, window, slot, payout, pnl, fees, reason, wall_ms) VALUES (?,?,?,?,?,?,?,?)",
            (epoch, window, str(slot), payout, pnl, fees, reason[:500], wall_ms),
        )


def fills_of(ledger: Ledger, order_id: str) -> Fills:
    """The recorded trades of one order."""
    ((trades, shares, value, fees),) = ledger.execute(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(value), 0), coalesce(sum(fee), 0) FROM fills "
        "WHERE order_id = ? AND status = 'MATCHED'",
        (order_id,),
    )
    return Fills(_int(trades), _int(shares), _int(value), _int(fees))


def knows_fill(ledger: Ledger, trade_id: str, order_id: str, status: str) -> bool:
    """Whether what the venue says of a trade of an order is recorded."""
    recorded = FAILED if trade_word(status) == FAILED else "MATCHED"
    sql = "SELECT count(*) FROM fills WHERE trade_id = ? AND order_id = ? AND status = ?"
    return bool(ledger.integer(sql, (trade_id, order_id, recorded)))


def add_outcome(
    ledger: Ledger, epoch: int, position_window: str, slot: str, winner: str, wall_ms: int
) -> tuple[int, int]:
    """Record how a window resolved (an Outcome, or VOID); returns (payout, pnl) in base units. A winning share pays 1 pUSD."""
    payout, pnl, fees = _worth(ledger, position_window, winner)
    ledger.execute(
        "INSERT INTO outcomes(window, epoch, slot, winner, payout, pnl, fees, wall_ms) VALUES (?,?,?,?,?,?,?,?)",
        (position_window, epoch, slot, winner, payout, pnl, fees, wall_ms),
    )
    return payout, pnl


def _worth(ledger: Ledger, window: str, winner: str) -> tuple[int, int, int]:
    """(payout, pnl, fees) of a resolved window in base units, from the fills that count. winner: an Outcome, or VOID."""
    bought = sold = fees = 0
    held = dict.fromkeys(Outcome, 0)
    for outcome, side, size, value, fee in ledger.execute(
        f"SELECT outcome, side, size, value, fee FROM fills f WHERE window = ? AND {COUNTED}",
        (window,),
    ):
        size, value, fee = _int(size), _int(value), _int(fee)
        fees += fee
        buying = side == Side.BUY
        bought, sold = bought + value * buying, sold + value * (not buying)
        held[Outcome(str(outcome))] += size if buying else -size
    payout = sum(half(shares) for shares in held.values()) if winner == VOID else held[Outcome(winner)]
    return payout, payout + sold - bought - fees, fees


def half(shares: int) -> int:
    """What shares of one outcome pay in a void window: half of them, down to the base unit."""
    return shares // 2


def unresolved_slot(ledger: Ledger, window: str) -> str | None:
    """The slot that traded a window, however old, whose outcome is not recorded; None where there is no such window."""
    rows = ledger.execute(
        "SELECT i.slot FROM unresolved u JOIN fills f ON f.window = u.window JOIN intents i ON i.order_id = f.order_id "
        "WHERE u.window = ? LIMIT 1",
        (window,),
    )
    return str(rows[0][0]) if rows else None


def open_intents(ledger: Ledger, now_ms: int) -> list[OpenIntent]:
    """The intents that are not terminal, oldest first, of windows that ended less than LOOK_BACK_MS before `now_ms`."""
    rows = ledger.execute(
        f"SELECT {_INTENT}, (SELECT o.state FROM orders o WHERE o.order_id = i.order_id ORDER BY o.id DESC LIMIT 1), "
        "(SELECT coalesce(sum(f.size), 0) FROM fills f WHERE f.order_id = i.order_id AND f.status = 'MATCHED'), "
        "(SELECT max(o.matched) FROM orders o WHERE o.order_id = i.order_id), "
        "(SELECT coalesce(sum(f.value + f.fee), 0) FROM fills f WHERE f.order_id = i.order_id AND f.status = 'MATCHED') "
        "FROM open_orders u CROSS JOIN intents i ON i.order_id = u.order_id WHERE u.window_end_ms > ? ORDER BY i.rowid",
        (now_ms - LOOK_BACK_MS,),
    )
    return [
        OpenIntent(
            _intent(row),
            None if row[20] is None else OrderState(str(row[20])),
            _int(row[21]),
            None if row[22] is None else _int(row[22]),
            _int(row[23]),
        )
        for row in rows
    ]


def quiet_entries(ledger: Ledger, now_ms: int) -> list[OpenIntent]:
    """The entries that ended because nothing more came (`settlement`), of windows that have not closed."""
    rows = ledger.execute(
        f"SELECT {_INTENT}, "
        "(SELECT coalesce(sum(f.size), 0) FROM fills f WHERE f.order_id = i.order_id AND f.status = 'MATCHED'), "
        "(SELECT coalesce(sum(f.value + f.fee), 0) FROM fills f WHERE f.order_id = i.order_id AND f.status = 'MATCHED') "
        "FROM intents i WHERE i.window_end_ms > ? AND i.side = 'BUY' AND EXISTS (SELECT 1 FROM orders o "
        f"WHERE o.order_id = i.order_id AND o.state = '{OrderState.DONE}' AND o.code = '{OrderCode.QUIET}')",
        (now_ms,),
    )
    return [OpenIntent(_intent(row), OrderState.DONE, _int(row[20]), None, _int(row[21])) for row in rows]


def find_intent(ledger: Ledger, order_id: str) -> Intent | None:
    """The intent of one order id."""
    rows = ledger.execute(f"SELECT {_INTENT} FROM intents i WHERE i.order_id = ?", (order_id,))
    return _intent(rows[0]) if rows else None


def manual_intents(ledger: Ledger, window: str, action: str) -> list[tuple[str, int, str]]:
    """(order id, shares filled in base units, what was said of it last) of each order of a person's action, oldest first."""
    rows = ledger.execute(
        f"SELECT i.order_id, (SELECT coalesce(sum(f.size), 0) FROM fills f WHERE f.order_id = i.order_id AND {COUNTED}), "
        "(SELECT o.text FROM orders o WHERE o.order_id = i.order_id ORDER BY o.id DESC LIMIT 1) "
        "FROM intents i WHERE i.window = ? AND i.manual = ? ORDER BY i.rowid",
        (window, action),
    )
    return [(str(order_id), _int(shares), str(text or "")) for order_id, shares, text in rows]


def next_seq(ledger: Ledger, window: str, side: Side) -> int:
    """The next running number of a window's intents on one side, from 1."""
    return ledger.integer("SELECT coalesce(max(seq), 0) + 1 FROM intents WHERE window = ? AND side = ?", (window, side))


def positions(ledger: Ledger, now_ms: int) -> list[Position]:
    """What is held in windows that are not resolved, exits subtracted; one that was closed again is included with 0.

    Of windows that ended less than LOOK_BACK_MS before `now_ms`.
    """
    # A standby of this release may read the ledger of one before it, which has no such table.
    has_tables = ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'unresolved'")
    unresolved = "SELECT window FROM unresolved" if has_tables else DERIVED["unresolved"]
    rows = ledger.execute(
        "SELECT i.slot, f.window, i.window_end_ms, i.condition_id, i.token_id, f.outcome, "
        "sum(CASE f.side WHEN 'BUY' THEN f.size ELSE -f.size END), "
        "sum(CASE f.side WHEN 'BUY' THEN f.value ELSE -f.value END), sum(f.fee) "
        f"FROM ({unresolved}) u CROSS JOIN fills f ON f.window = u.window JOIN intents i ON i.order_id = f.order_id "
        f"WHERE {COUNTED} AND i.window_end_ms > ? GROUP BY f.window, f.outcome ORDER BY i.window_end_ms",
        (now_ms - LOOK_BACK_MS,),
    )
    sales: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for window, outcome, at_ms, value in ledger.execute(
        f"SELECT f.window, f.outcome, f.at_ms, f.value FROM ({unresolved}) u CROSS JOIN fills f ON f.window = u.window "
        f"WHERE {COUNTED} AND f.side = 'SELL' AND f.at_ms > ?",
        (now_ms - LOOK_BACK_MS,),
    ):
        sales.setdefault((str(window), str(outcome)), []).append((_int(at_ms), _int(value)))
    return [
        Position(
            str(s),
            str(w),
            _int(end),
            str(c),
            str(t),
            Outcome(str(o)),
            _int(shares),
            _int(cost),
            _int(fees),
            tuple(sales.get((str(w), str(o)), ())),
        )
        for s, w, end, c, t, o, shares, cost, fees in rows
    ]


def entries_since(ledger: Ledger, wall_ms: int, most: int) -> list[int]:
    """The wall times of the intents since then, of the newest `most`, oldest first: what the rate limit counts."""
    return [
        _int(at)
        for (at,) in ledger.execute(
            "SELECT wall_ms FROM intents WHERE rowid > (SELECT max(rowid) FROM intents) - ? AND wall_ms >= ? ORDER BY rowid",
            (most, wall_ms),
        )
    ]


def _intent(row: tuple[object, ...]) -> Intent:
    return Intent(
        order_id=str(row[0]),
        epoch=_int(row[1]),
        tick=_int(row[2]),
        generation=_int(row[3]),
        slot=str(row[4]),
        window=str(row[5]),
        window_end_ms=_int(row[6]),
        condition_id=str(row[7]),
        token_id=str(row[8]),
        outcome=Outcome(str(row[9])),
        side=Side(str(row[10])),
        seq=_int(row[11]),
        price=Decimal(str(row[12])),
        size=_int(row[13]),
        cost=_int(row[14]),
        order_type=str(row[15]),
        body=str(row[16]),
        reason=str(row[17]),
        code=str(row[18]),
        manual=str(row[19]),
    )


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise LedgerError(f"expected a number in the ledger, found {value!r}")
    return value


# The numbers that people ask the ledger for: lifetime totals, PnL by day and slot, the newest outcomes. Reads only.
