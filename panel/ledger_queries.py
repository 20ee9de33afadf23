"""What the panel reads from the ledger: orders, fills, outcomes, PnL, continuity, latency. Reads only, bounded, briefly.

The tables are the bot's (`ledger.schema`); money and shares are there in base units, here decimal pUSD and shares.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from pydantic import BaseModel

from bus import Bus, LedgerError
from ledger import Ledger, Row, Value
from ledger.results import DAY_MS
from ledger.schema import COUNTED
from panel.performance import (
    Calibration,
    Performance,
    Rows,
    Spread,
    answers,
    as_int,
    calibration,
    performance,
    spread,
    units,
)

CURVE_POINTS = 400
RECENT = 200
_STATE = "(SELECT o.state FROM orders o WHERE o.order_id = i.order_id ORDER BY o.id DESC LIMIT 1)"
_FILLED = f"(SELECT coalesce(sum(f.size), 0) FROM fills f WHERE f.order_id = i.order_id AND {COUNTED})"
_ENDED = "('abandoned', 'refused', 'done')"


class Order(BaseModel):
    """One intent and what came of it. state: intended until something is known. answer_ms: from its intent to its answer."""

    order_id: str
    epoch: int
    slot: str
    window: str
    outcome: str
    side: str
    price: Decimal
    size: Decimal
    filled: Decimal
    state: str
    text: str
    reason: str
    time_ms: int
    answer_ms: int | None


class Fill(BaseModel):
    """One trade of ours. counts: it did not fail on chain later."""

    trade_id: str
    order_id: str
    slot: str
    window: str
    outcome: str
    side: str
    price: Decimal
    size: Decimal
    fee: Decimal
    time_ms: int
    counts: bool


class OutcomeRow(BaseModel):
    """How a window resolved in which we traded."""

    window: str
    slot: str
    winner: str
    payout: Decimal
    pnl: Decimal
    fees: Decimal
    time_ms: int


class PnlRow(BaseModel):
    """PnL of one slot on one day (UTC). windows: resolved ones; wins, losses: those with a gain, or a loss."""

    day_ms: int
    slot: str
    pnl: Decimal
    fees: Decimal
    windows: int
    wins: int
    losses: int


class Point(BaseModel):
    """The PnL in all after a window resolved. won: it brought a gain."""

    time_ms: int
    total: Decimal
    won: bool


class Continuity(BaseModel):
    """How long nothing was missed. gap_*: the newest tick that no poll was completed at, and why. since_ms: from there, or
    from the first poll. restarts: takes since then after a holder that died without passing the lease on."""

    since_ms: int | None = None
    gap_ms: int | None = None
    gap_reason: str = ""
    restarts: int = 0
    handovers: int = 0


class Latency(BaseModel):
    """Poll lag (behind the tick), poll duration, order (from intent to answer), and the newest handovers' lease gaps."""

    lag: Spread = Spread()
    duration: Spread = Spread()
    order: Spread = Spread()
    handover: Spread = Spread()


class Summary(BaseModel):
    """What the page shows of the ledger."""

    curve: tuple[Point, ...] = ()
    doubt: tuple[Order, ...] = ()
    continuity: Continuity = Continuity()
    latency: Latency = Latency()
    problem: str | None = None


class Orders(Rows):
    """Orders, newest first."""

    orders: tuple[Order, ...] = ()


class Happened(BaseModel):
    """One thing that happened to an order. what: believed, intended, a state of the order, filled, a trade's status, resolved."""

    time_ms: int
    what: str
    text: str


class Life(Rows):
    """One order and all that happened to it, oldest first."""

    order: Order | None = None
    events: tuple[Happened, ...] = ()


class Fills(Rows):
    """Fills, newest first."""

    fills: tuple[Fill, ...] = ()


class Outcomes(Rows):
    """Outcomes, newest first."""

    outcomes: tuple[OutcomeRow, ...] = ()


class Pnl(Rows):
    """PnL by day and slot, newest day first."""

    rows: tuple[PnlRow, ...] = ()


T = TypeVar("T", bound=BaseModel)


class LedgerQueries:
    """Queries of the ledger; nothing raises: what is wrong is said in `problem`. Safe to use from several threads."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def orders(self, slot: str | None, most: int) -> Orders:
        """The newest orders, of one slot or all."""
        where, values = ("WHERE i.slot = ?", (slot,)) if slot else ("", ())
        return self._read(Orders, lambda ledger: Orders(orders=_orders(ledger, where, values, most)))

    def fills(self, slot: str | None, most: int) -> Fills:
        """The newest fills, of one slot or all."""

        def read(ledger: Ledger) -> Fills:
            rows = ledger.execute(
                "SELECT f.trade_id, f.order_id, i.slot, f.window, f.outcome, f.side, f.price, f.size, f.fee, f.at_ms, "
                f"({COUNTED}) FROM fills f JOIN intents i ON i.order_id = f.order_id "
                "WHERE f.status = 'MATCHED' AND (? IS NULL OR i.slot = ?) ORDER BY f.rowid DESC LIMIT ?",
                (slot, slot, most),
            )
            return Fills(fills=tuple(_fill(row) for row in rows))

        return self._read(Fills, read)

    def outcomes(self, slot: str | None, most: int) -> Outcomes:
        """The newest outcomes, of one slot or all."""

        def read(ledger: Ledger) -> Outcomes:
            rows = ledger.execute(
                "SELECT window, slot, winner, payout, pnl, fees, wall_ms FROM results "
                "WHERE ? IS NULL OR slot = ? ORDER BY id DESC LIMIT ?",
                (slot, slot, most),
            )
            return Outcomes(outcomes=tuple(_outcome(row) for row in rows))

        return self._read(Outcomes, read)

    def pnl(self, days: int, now_ms: int) -> Pnl:
        """PnL by day and slot of the last `days` days, today included."""

        def read(ledger: Ledger) -> Pnl:
            rows = ledger.execute(
                f"SELECT wall_ms / {DAY_MS} * {DAY_MS} AS day, slot, sum(pnl), sum(fees), count(*), sum(pnl > 0), "
                "sum(pnl < 0) FROM results WHERE wall_ms >= ? GROUP BY day, slot ORDER BY day DESC, slot",
                ((now_ms // DAY_MS - days + 1) * DAY_MS,),
            )
            return Pnl(rows=tuple(_pnl(row) for row in rows))

        return self._read(Pnl, read)

    def calibration(self, slot: str | None) -> Calibration:
        """What was predicted of the newest windows, of one slot or all, against what happened. Takes up to seconds."""
        return self._read(Calibration, lambda ledger: calibration(ledger, slot))

    def performance(self, days: int | None, now_ms: int) -> Performance:
        """How well it traded in the last `days` times 24 hours, or ever."""
        since = None if days is None else now_ms - days * DAY_MS
        return self._read(Performance, lambda ledger: performance(ledger, since))

    def life(self, order_id: str) -> Life:
        """All that the ledger has of one order; nothing where it has no such order."""
        return self._read(Life, lambda ledger: _life(ledger, order_id))

    def summary(self) -> Summary:
        """What the page shows of the ledger."""
        return self._read(Summary, _summary)

    def _read(self, kind: type[T], read: Callable[[Ledger], T]) -> T:
        try:
            ledger = Ledger.reader(self._bus.ledger)
            if ledger is None:
                return kind()
            with ledger:
                # A ledger that no bot of this release took yet has none of its tables.
                if not ledger.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'results'"):
                    return kind()
                return read(ledger)
        except LedgerError as error:
            return kind.model_validate({"problem": f"the ledger cannot be read ({str(error).splitlines()[0]})"})


def _summary(ledger: Ledger) -> Summary:
    doubt = f"WHERE i.window_end_ms > ? AND coalesce({_STATE}, 'in_doubt') = 'in_doubt'"
    newest = ledger.integer("SELECT coalesce(max(window_end_ms), 0) FROM intents")
    return Summary(
        curve=_curve(ledger),
        doubt=_orders(ledger, doubt, (newest - DAY_MS,), 20),
        continuity=_continuity(ledger),
        latency=_latency(ledger),
    )


def _orders(ledger: Ledger, where: str, values: tuple[Value, ...], most: int) -> tuple[Order, ...]:
    rows = ledger.execute(
        "SELECT i.order_id, i.epoch, i.slot, i.window, i.outcome, i.side, i.price, i.size, "
        f"{_FILLED}, {_STATE}, (SELECT o.text FROM orders o WHERE o.order_id = i.order_id ORDER BY o.id DESC LIMIT 1), "
        "i.reason, i.wall_ms, "
        "(SELECT min(o.boot_ms) FROM orders o WHERE o.order_id = i.order_id AND o.state <> 'abandoned') - i.boot_ms "
        f"FROM intents i {where} ORDER BY i.rowid DESC LIMIT ?",
        (*values, most),
    )
    return tuple(
        Order(
            order_id=str(row[0]),
            epoch=as_int(row[1]),
            slot=str(row[2]),
            window=str(row[3]),
            outcome=str(row[4]),
            side=str(row[5]),
            price=Decimal(str(row[6])),
            size=units(row[7]),
            filled=units(row[8]),
            state=str(row[9] or "intended"),
            text=str(row[10] or ""),
            reason=str(row[11]),
            time_ms=as_int(row[12]),
            answer_ms=None if row[13] is None else max(0, as_int(row[13])),
        )
        for row in rows
    )


def _life(ledger: Ledger, order_id: str) -> Life:
    orders = _orders(ledger, "WHERE i.order_id = ?", (order_id,), 1)
    if not orders:
        return Life()
    (order,) = orders
    rows = ledger.execute(
        "SELECT wall_ms, 'intended', 'generation ' || generation || ', epoch ' || epoch || ', ' || order_type FROM intents "
        "WHERE order_id = ?1 UNION ALL "
        "SELECT b.at_ms, 'believed', printf('model %.3f, market %.3f, belief %.3f, price %.3f', b.model, b.market, b.belief, "
        "b.price) FROM intents i JOIN beliefs b ON b.window = i.window AND b.side = i.side AND b.tick = i.tick "
        "WHERE i.order_id = ?1 UNION ALL "
        "SELECT wall_ms, state, text FROM orders WHERE order_id = ?1 UNION ALL "
        "SELECT at_ms, CASE status WHEN 'MATCHED' THEN 'filled' ELSE lower(status) END, "
        "printf('%.2f at %s, fee %.4f, trade %s', size / 1e6, price, fee / 1e6, trade_id) FROM fills WHERE order_id = ?1 "
        "UNION ALL SELECT r.wall_ms, 'resolved', r.winner || ' won' FROM results r JOIN intents i ON i.window = r.window "
        "WHERE i.order_id = ?1 ORDER BY 1 LIMIT 200",
        (order_id,),
    )
    return Life(
        order=order,
        events=tuple(Happened(time_ms=as_int(at), what=str(what), text=str(said)) for at, what, said in rows),
    )


def _curve(ledger: Ledger) -> tuple[Point, ...]:
    """The PnL in all after each of the newest outcomes, oldest first."""
    rows = ledger.execute("SELECT wall_ms, pnl FROM results ORDER BY id DESC LIMIT ?", (CURVE_POINTS,))
    total = sum(ledger.integer(f"SELECT coalesce(sum(pnl), 0) FROM {table}") for table in ("outcomes", "corrections"))
    points = []
    for at, pnl in rows:
        points.append(Point(time_ms=as_int(at), total=units(total), won=as_int(pnl) > 0))
        total -= as_int(pnl)
    return tuple(reversed(points))


def _continuity(ledger: Ledger) -> Continuity:
    gap = ledger.execute("SELECT last_tick, reason FROM polls_missed ORDER BY first_tick DESC LIMIT 1")
    first = ledger.scalar("SELECT min(tick) FROM polls_completed")
    since = as_int(gap[0][0]) if gap else as_int(first) if first is not None else None
    passed = "(SELECT 1 FROM releases r WHERE r.epoch = e.epoch - 1)"
    takes = "SELECT count(*) FROM epochs e WHERE e.epoch > 1 AND e.wall_ms > ? AND"
    return Continuity(
        since_ms=since,
        gap_ms=as_int(gap[0][0]) if gap else None,
        gap_reason=str(gap[0][1]) if gap else "",
        restarts=ledger.integer(f"{takes} NOT EXISTS {passed}", (since or 0,)),
        handovers=ledger.integer(f"{takes} EXISTS {passed}", (since or 0,)),
    )


def _latency(ledger: Ledger) -> Latency:
    polls = ledger.execute("SELECT lag_ms, duration_ms FROM polls_completed ORDER BY tick DESC LIMIT ?", (RECENT,))
    takes = ledger.execute(
        "SELECT e.boot_ms - r.boot_ms FROM epochs e JOIN releases r ON r.epoch = e.epoch - 1 JOIN epochs b ON b.epoch = r.epoch "
        "WHERE b.boot_id = e.boot_id ORDER BY e.epoch DESC LIMIT 20"
    )
    return Latency(
        lag=spread([as_int(lag) for lag, _ in polls]),
        duration=spread([as_int(duration) for _, duration in polls]),
        order=answers(ledger, 0, RECENT),
        handover=spread([as_int(ms) for (ms,) in takes]),
    )


def _fill(row: Row) -> Fill:
    return Fill(
        trade_id=str(row[0]),
        order_id=str(row[1]),
        slot=str(row[2]),
        window=str(row[3]),
        outcome=str(row[4]),
        side=str(row[5]),
        price=Decimal(str(row[6])),
        size=units(row[7]),
        fee=units(row[8]),
        time_ms=as_int(row[9]),
        counts=bool(row[10]),
    )


def _outcome(row: Row) -> OutcomeRow:
    return OutcomeRow(
        window=str(row[0]),
        slot=str(row[1]),
        winner=str(row[2]),
        payout=units(row[3]),
        pnl=units(row[4]),
        fees=units(row[5]),
        time_ms=as_int(row[6]),
    )


def _pnl(row: Row) -> PnlRow:
    return PnlRow(
        day_ms=as_int(row[0]),
        slot=str(row[1]),
        pnl=units(row[2]),
        fees=units(row[3]),
        windows=as_int(row[4]),
        wins=as_int(row[5]),
        losses=as_int(row[6]),
    )
