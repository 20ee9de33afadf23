"""What trading brought, and when: a sale brings its result at once, a resolution what is left of it. Reads only.

The PnL of a window is known when the venue resolves it, half an hour late on some days. What an exit lost is known when it is
filled. So a window's result comes in parts: one a sale (its proceeds, less its share of what the shares cost), and the rest
with the outcome. The parts add up to the outcome's PnL, to the base unit.

A sale is dated by its decision, which is our own clock: what a venue says of a trade's time moves no limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from ledger.base import Ledger
from ledger.connection import Value
from ledger.schema import BY_HAND, COUNTED
from ledger.totals import pnl_since
from ledger.values import FAILED, Side

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST_FAILURES = 10_000
"""Newest trades that failed whose times are kept."""
MOST_RESULTS = 100
"""Newest outcomes of which the losses in a row are counted; more are not told apart."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade that counts. size, value, fee: base units. decided_ms: UTC ms of its order's intent."""

    window: str
    outcome: str
    side: str
    size: int
    value: int
    fee: int
    decided_ms: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a window's result. at_ms: UTC ms. pnl: base units of pUSD, fees taken off."""

    window: str
    at_ms: int
    pnl: int


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of one outcome of a window. shares, cost: base units; cost is what these shares cost with their fees."""

    shares: int
    cost: int


@dataclass(frozen=True, slots=True)
class Sales:
    """What the sales of some windows brought, and what is left. lots: by (window, outcome), those with no shares left, too."""

    parts: tuple[Part, ...]
    lots: Mapping[tuple[str, str], Lot]

    def since(self, at_ms: int) -> int:
        """What was brought since then, in base units."""
        return sum(part.pnl for part in self.parts if part.at_ms >= at_ms)


@dataclass(frozen=True, slots=True)
class Closed:
    """A window in which nothing is held any more, or that is resolved: when its result was final, and its PnL in base units."""

    window: str
    at_ms: int
    pnl: int


def sales_of(fills: Iterable[Fill]) -> Sales:
    """What the sales among these fills brought, at the average cost of their window's shares. Pure.

    The cost of what was sold is rounded up, so that a loss is never too small; the last share sold takes what is left.
    """
    bought: dict[tuple[str, str], tuple[int, int]] = {}
    sales: dict[tuple[str, str], list[Fill]] = {}
    for fill in fills:
        key = (fill.window, fill.outcome)
        shares, cost = bought.setdefault(key, (0, 0))
        if fill.side == Side.BUY:
            bought[key] = (shares + fill.size, cost + fill.value + fill.fee)
        else:
            sales.setdefault(key, []).append(fill)
    parts: list[Part] = []
    lots: dict[tuple[str, str], Lot] = {}
    for key, (shares, cost) in bought.items():
        sold = taken = 0
        for sale in sorted(sales.get(key, ()), key=lambda sale: sale.decided_ms):
            sold += sale.size
            so_far = -(-cost * min(sold, shares) // shares) if shares else cost
            parts.append(Part(sale.window, sale.decided_ms, sale.value - sale.fee - (so_far - taken)))
            taken = so_far
        lots[key] = Lot(shares - sold, cost - taken)
    return Sales(tuple(parts), lots)


def losses_in_a_row(closed: Iterable[Closed]) -> tuple[int, int | None]:
    """How many windows in a row ended with a loss, up to the newest, and when that one ended (UTC ms); pure."""
    newest = sorted(closed, key=lambda window: (window.at_ms, window.window), reverse=True)
    losses = list(takewhile(lambda window: window.pnl < 0, newest))
    return len(losses), losses[0].at_ms if losses else None


class Results:
    """The results of one ledger that limits look at: read anew by `resolved` and `changed`, asked for without any I/O.

    Its methods raise LedgerError.

    Attributes:
        losses_in_a_row: windows that ended with a loss, one after the other up to the newest.
        last_loss_ms: when the newest of them ended, in UTC ms.
        failed: trades that failed on the chain, of all time.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open = Sales((), {})
        self._recent: tuple[Part, ...] = ()
        self._closed: tuple[Closed, ...] = ()
        self._today: tuple[int, int] | None = None
        self._failed: deque[int] = deque(maxlen=MOST_FAILURES)
        self._seen = (0, 0)
        self.failed = 0
        self.losses_in_a_row, self.last_loss_ms = losses_in_a_row(())

    @property
    def lots(self) -> Mapping[tuple[str, str], Lot]:
        """What is left in windows that are not resolved, by (window, outcome)."""
        return self._open.lots

    def changed(self) -> None:
        """After fills or outcomes may have changed."""
        newest, outcomes = (
            self._ledger.integer(f"SELECT coalesce(max(rowid), 0) FROM {table}") for table in ("fills", "outcomes")
        )
        if (newest, outcomes) == self._seen:
            return
        self._open = sales_of(_fills(self._ledger, "SELECT window FROM unresolved", ()))
        failures = self._ledger.execute(
            f"SELECT i.wall_ms FROM fills f CROSS JOIN intents i ON i.order_id = f.order_id WHERE f.status = '{FAILED}' "
            f"AND f.trade_id NOT LIKE '{BY_HAND}%' AND f.rowid > ? ORDER BY f.rowid",
            (self._seen[0],),
        )
        self.failed += len(failures)
        self._failed.extend(_int(at) for (at,) in failures)
        self._seen = (newest, outcomes)
        self._count()

    def resolved(self, now_ms: int) -> None:
        """After an outcome or a correction was recorded."""
        newest = (
            f"SELECT window FROM (SELECT window FROM outcomes ORDER BY rowid DESC LIMIT {MOST_RESULTS}) "
            "UNION SELECT window FROM outcomes WHERE wall_ms >= ?"
        )
        since = (now_ms - HOUR_MS,)
        sales = sales_of(_fills(self._ledger, newest, since))
        before: dict[str, int] = {}
        last: dict[str, int] = {}
        for part in sales.parts:
            before[part.window] = before.get(part.window, 0) + part.pnl
            last[part.window] = max(last.get(part.window, 0), part.at_ms)
        held = {window for (window, _), lot in sales.lots.items() if lot.shares > 0}
        rows = [
            (str(window), _int(pnl), _int(at))
            for window, pnl, at in self._ledger.execute(
                f"SELECT window, pnl, wall_ms FROM results WHERE window IN ({newest})", since
            )
        ]
        corrections = self._ledger.execute(
            "SELECT c.window, c.wall_ms, c.pnl FROM corrections c WHERE c.wall_ms >= ? "
            "AND c.window NOT IN (SELECT window FROM outcomes WHERE wall_ms >= ?)",
            (now_ms - HOUR_MS, now_ms - HOUR_MS),
        )
        self._recent = (
            *sales.parts,
            *(Part(window, at, pnl - before.get(window, 0)) for window, pnl, at in rows),
            *(Part(str(window), _int(at), _int(pnl)) for window, at, pnl in corrections),
        )
        self._closed = tuple(
            Closed(window, at if window in held else last.get(window, at), pnl) for window, pnl, at in rows
        )
        self._today = None
        self.changed()
        self._count()

    def since_midnight(self, now_ms: int) -> int:
        """What was brought since midnight UTC, in base units."""
        day_ms = now_ms // DAY_MS * DAY_MS
        if self._today is None or self._today[0] != day_ms:
            self._today = (day_ms, pnl_since(self._ledger, day_ms) - self._sold_before(day_ms))
        return self._today[1] + self._open.since(day_ms)

    def last_hour(self, now_ms: int) -> int:
        """What was brought in the last hour, in base units."""
        since_ms = now_ms - HOUR_MS
        return sum(part.pnl for part in self._recent if part.at_ms >= since_ms) + self._open.since(since_ms)

    def failed_since(self, at_ms: int) -> int:
        """How many trades of orders decided since then failed on the chain."""
        return sum(at >= at_ms for at in self._failed)

    def _sold_before(self, at_ms: int) -> int:
        """What sales before then brought in windows that were resolved since: it is in their PnL, and of the day before.

        Of windows that ended in the day before, or later.
        """
        windows = (
            "SELECT DISTINCT i.window FROM intents i JOIN outcomes o ON o.window = i.window WHERE i.window_end_ms > ? "
            "AND i.side = 'SELL' AND i.wall_ms < ? AND o.wall_ms >= ?"
        )
        sales = sales_of(_fills(self._ledger, windows, (at_ms - DAY_MS, at_ms, at_ms)))
        return sum(part.pnl for part in sales.parts if part.at_ms < at_ms)

    def _count(self) -> None:
        by_window: dict[str, list[Part]] = {}
        for part in self._open.parts:
            by_window.setdefault(part.window, []).append(part)
        held = {window for (window, _), lot in self._open.lots.items() if lot.shares > 0}
        sold_out = [
            Closed(window, max(part.at_ms for part in parts), sum(part.pnl for part in parts))
            for window, parts in by_window.items()
            if window not in held
        ]
        self.losses_in_a_row, self.last_loss_ms = losses_in_a_row((*self._closed, *sold_out))


def _fills(ledger: Ledger, windows: str, values: tuple[int, ...]) -> list[Fill]:
    """The fills that count of the windows that a query names."""
    rows = ledger.execute(
        "SELECT f.window, f.outcome, f.side, f.size, f.value, f.fee, i.wall_ms "
        f"FROM ({windows}) u CROSS JOIN fills f ON f.window = u.window JOIN intents i ON i.order_id = f.order_id "
        f"WHERE {COUNTED}",
        values,
    )
    return [
        Fill(str(window), str(outcome), str(side), _int(size), _int(value), _int(fee), _int(at))
        for window, outcome, side, size, value, fee, at in rows
    ]


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected a number in the ledger, found {value!r}"
    return value
