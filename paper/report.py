"""The record as others read it: over HTTP (``/paper/record``) and as JSON lines (``python -m paper record``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from paper.engine.market_maker import HOUSE
from paper.engine.matching import CASH
from paper.engine.record import Record, Value
from paper.windows import OUTCOMES
from paper.wire.forms import by_match, mean_price, status_of

__all__ = ["Page", "read_record"]

_Rows = list[dict[str, Value]]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the record; docs/paper.md describes the fields. Money and shares are base units.

    Attributes:
        resolutions: of the markets of these trades, as far as they are resolved.
        next: the ``after`` of the page that follows, or None if this is the last.
        positions, balance: of all wallets, as they are now.
    """

    orders: _Rows
    trades: _Rows
    requests: _Rows
    resolutions: _Rows
    positions: _Rows
    balance: dict[str, Value]
    next: int | None

    @property
    def body(self) -> dict[str, object]:
        """As JSON shows it."""
        return asdict(self)


def read_record(record: Record, after: int, limit: int, now_ms: int) -> Page:
    """Return the rows of each kind whose number is in (after, after + limit]; trades with their status at ``now_ms``."""
    until = after + limit
    tables = {
        table: record.query_dicts(f"SELECT * FROM {table} WHERE seq > ? AND seq <= ? ORDER BY seq", [after, until])
        for table in ("orders", "requests")
    }
    trades = record.query_dicts(
        "SELECT * FROM trades WHERE match_id IN (SELECT match_id FROM trades WHERE seq > ? AND seq <= ?) ORDER BY seq",
        [after, until],
    )
    more = any(record.query(f"SELECT 1 FROM {table} WHERE seq > ? LIMIT 1", [until]) for table in (*tables, "trades"))
    resolutions = record.query_dicts(
        "SELECT condition_id, slug, reference, final, winner, resolved_ms FROM markets WHERE winner IS NOT NULL "
        "AND condition_id IN (SELECT condition_id FROM trades WHERE seq > ? AND seq <= ?) ORDER BY end_ms, slug",
        [after, until],
    )
    sums = record.query("SELECT wallet, asset, SUM(amount) FROM ledger GROUP BY wallet, asset HAVING SUM(amount) != 0")
    return Page(
        orders=[_order(row) for row in tables["orders"]],
        # A trade of several makers is on the page of its first row.
        trades=[part for rows in by_match(trades) if _int(rows[0]["seq"]) > after for part in _parts(rows, now_ms)],
        requests=[_request(row) for row in tables["requests"]],
        resolutions=[row | {"winner": OUTCOMES[int(row["winner"] == 1)]} for row in resolutions],
        positions=[{"wallet": who, "token_id": asset, "size": size} for who, asset, size in sums if asset != CASH],
        balance={str(wallet): amount for wallet, asset, amount in sums if asset == CASH},
        next=until if more else None,
    )


def _order(row: dict[str, Value]) -> dict[str, Value]:
    outcome, post_only = row.pop("outcome"), row.pop("post_only")
    row.pop("api_key")
    return row | {"outcome": OUTCOMES[int(outcome == 1)], "post_only": bool(post_only)}


def _parts(rows: _Rows, now_ms: int) -> _Rows:
    """One row for the taker of a trade and one for each maker, as far as they are users."""
    taker = _part("taker", rows[0], now_ms)
    taker |= {
        "size": sum(_int(row["size"]) for row in rows),
        "fee": sum(_int(row["fee"]) for row in rows),
        "price": mean_price(rows),
    }
    parts = [taker, *(_part("maker", row, now_ms) | {"fee": 0} for row in rows)]
    return [part for part in parts if part["wallet"] not in HOUSE]


def _part(role: str, row: dict[str, Value], now_ms: int) -> dict[str, Value]:
    shared = {name: row[name] for name in ("seq", "condition_id", "slug", "time_ms", "size")}
    return shared | {
        "trade_id": row["match_id"],
        "role": role,
        "order_id": row[f"{role}_order_id"],
        "wallet": row[f"{role}_wallet"],
        "token_id": row[f"{role}_token"],
        "outcome": OUTCOMES[int(row[f"{role}_outcome"] == 1)],
        "side": row[f"{role}_side"],
        "price": row[f"{role}_price"],
        "status": status_of(row, now_ms),
    }


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value


def _request(row: dict[str, Value]) -> dict[str, Value]:
    body = row["body"]
    return row | {"body": body.decode("utf-8", "replace") if isinstance(body, bytes) else body}
