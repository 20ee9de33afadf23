"""What happened to users' orders and money: rows of the record, and events of the user channel once these are durable."""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from paper.engine.book import Order
from paper.engine.market_maker import HOUSE
from paper.engine.matching import Entry, Fate, Fill, stages
from paper.engine.record import Record, Value
from paper.streams.venue import UserStreams

# What becomes of a trade after its match. Pure.
#
# At the venue a match is settled on chain: MATCHED, then MINED, then CONFIRMED; or the transaction fails and is RETRYING,
# and in the end it is CONFIRMED after all, or FAILED, and then it never moved anything (venue.md 1.6).


# What happened to users' orders and money: rows of the record, and events of the user channel once these are durable.


_RECENT = 20_000  # ids in memory; rows not yet durable are always among them


class Journal:
    """Writes the order record. Orders of the house are left out, and so is its money.

    Args:
        record: where rows go.
        streams: where events go.
        clock: UTC ms.
        settle_ms: time from a trade to its confirmation.
    """

    def __init__(self, record: Record, streams: UserStreams, clock: Callable[[], int], settle_ms: int) -> None:
        self.record = record
        self._streams = streams
        self.clock = clock
        self._settle_ms = settle_ms
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._keys: dict[str, str] = {}  # API key of each resting order

    def knows(self, order_id: str) -> bool:
        """Whether this order was ever accepted."""
        sql = "SELECT 1 FROM orders WHERE order_id = ?"
        return order_id in self._recent or bool(self.record.query(sql, [order_id]))

    def key_of(self, order_id: str) -> str:
        """Return the API key that a resting order came with; empty for the house's."""
        return self._keys.get(order_id, "")

    def live_orders(self) -> list[Order]:
        """Return the orders that rested when the record ended, oldest first."""
        rows = self.record.query_dicts("SELECT * FROM orders WHERE status = 'LIVE' ORDER BY seq")
        self._keys = {str(row["order_id"]): str(row["api_key"]) for row in rows}
        return [_order(row) for row in rows]

    def order_accepted(self, order: Order, slug: str, api_key: str, *, resting: bool) -> None:
        """Record an order as it was placed, after its first fills."""
        self._recent[order.order_id] = None
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        if resting:
            self._keys[order.order_id] = api_key
        row = order_row(order, api_key, "LIVE" if resting else "MATCHED")
        row["slug"], row["post_only"] = slug, int(order.post_only)
        self.record.insert("orders", row)
        self._publish(order, row, "PLACEMENT")

    def order_ended(self, order: Order, slug: str, api_key: str, status: str) -> None:
        """Record an order that was taken and came to nothing: it never rested."""
        self._recent[order.order_id] = None
        row = order_row(order, api_key, status)
        row["slug"], row["post_only"] = slug, int(order.post_only)
        self.record.insert("orders", row)
        self._publish(order, row, "CANCELLATION")

    def forget(self, order: Order) -> None:
        """Leave no trace of an order but that its bytes cannot be sent again."""
        self._recent[order.order_id] = None

    def order_killed(self, order: Order, api_key: str, text: str) -> None:
        """Tell the owner of a FAK or FOK that was refused for want of a match: it is no order of the record."""
        if self._streams.listens(order.owner, order.condition_id):
            row, now = order_row(order, api_key, f"CANCELED_{text}"), self.clock()
            self.record.after(lambda: self._streams.publish_killed(row, order.budget, now))

    def order_changed(self, order: Order, status: str, event: str) -> None:
        """Record a fill (``UPDATE``) or the end (``CANCELLATION``) of a resting order."""
        self.record.add(
            "UPDATE orders SET size_matched = ?, status = ? WHERE order_id = ?", (order.filled, status, order.order_id)
        )
        self._publish(order, order_row(order, self.key_of(order.order_id), status), event)
        if status != "LIVE":
            self._keys.pop(order.order_id, None)

    def trade(self, match_id: str, fills: Sequence[Fill], slug: str, taker_key: str, fate: Fate, now_ms: int) -> None:
        """Record a trade, a row for each of its makers, and tell its owners at each of its stages.

        The makers' orders are as they were before it ended any of them.
        """
        rows = [self._trade_row(match_id, fill, slug, taker_key, fate, now_ms) for fill in fills]
        for row in rows:
            self.record.insert("trades", row)
        self.record.after(lambda: self._follow(rows, fate))

    def _trade_row(
        self, match_id: str, fill: Fill, slug: str, taker_key: str, fate: Fate, now_ms: int
    ) -> dict[str, Value]:
        taker, maker = fill.taker, fill.maker
        return {
            "trade_id": str(uuid.uuid4()),
            "match_id": match_id,
            "limit_price": taker.price,
            "condition_id": taker.condition_id,
            "slug": slug,
            "time_ms": now_ms,
            "size": fill.size,
            "fee": fill.fee,
            "fate": fate,
            "settle_ms": self._settle_ms,
            **_party("taker", taker, taker_key, fill.taker_price),
            **_party("maker", maker, self.key_of(maker.order_id), maker.price),
        }

    def failing(self) -> list[tuple[str, int, list[Entry]]]:
        """Return the trades that are to fail and have not yet: id, when (UTC ms), and what they moved."""
        rows = self.record.query_dicts("SELECT * FROM trades WHERE fate = 'failed' AND reversed_ms IS NULL")
        trades: dict[str, tuple[str, int, list[Entry]]] = {}
        for row in rows:
            ref = f"{row['taker_order_id']!s}:{row['maker_order_id']!s}"
            moved = self.record.query("SELECT wallet, asset, amount, reason, ref FROM ledger WHERE ref = ?", [ref])
            name, due_ms = str(row["match_id"]), _int(row["time_ms"]) + _int(row["settle_ms"])
            _, _, entries = trades.setdefault(name, (name, due_ms, []))
            entries.extend(Entry(*entry) for entry in moved)  # type: ignore[arg-type]  # columns are typed by the schema
        return [*trades.values()]

    def trade_failed(self, match_id: str, entries: Iterable[Entry], now_ms: int) -> None:
        """Record that a trade failed, and the movements that undid it."""
        self.entries(entries, now_ms)
        self.record.add("UPDATE trades SET reversed_ms = ? WHERE match_id = ?", (now_ms, match_id))

    def _follow(self, rows: list[dict[str, Value]], fate: Fate) -> None:
        loop = asyncio.get_running_loop()
        for age_ms, _ in stages(fate, self._settle_ms):
            loop.call_later(age_ms / 1000, self._streams.publish_trade, rows, self.clock)

    def entries(self, entries: Iterable[Entry], now_ms: int) -> None:
        """Record movements of users' money and shares."""
        for entry in entries:
            if entry.wallet not in HOUSE:
                self.record.add(
                    "INSERT INTO ledger (time_ms, wallet, asset, amount, reason, ref) VALUES (?, ?, ?, ?, ?, ?)",
                    (now_ms, entry.wallet, entry.asset, entry.amount, entry.reason, entry.ref),
                )

    def _publish(self, order: Order, row: dict[str, Value], event: str) -> None:
        if self._streams.listens(order.owner, order.condition_id):
            now = self.clock()
            self.record.after(lambda: self._streams.publish_order(row, event, now))


def order_row(order: Order, api_key: str, status: str) -> dict[str, Value]:
    """Return an order as the record's columns have it."""
    return {
        "order_id": order.order_id,
        "condition_id": order.condition_id,
        "token_id": order.token_id,
        "wallet": order.wallet,
        "owner": order.owner,
        "api_key": api_key,
        "outcome": order.outcome,
        "side": order.side,
        "order_type": order.order_type,
        "price": order.price,
        "size": order.size,
        "received_ms": order.received_ms,
        "expires_ms": order.expires_ms,
        "size_matched": order.filled,
        "status": status,
    }


def _order(row: dict[str, Value]) -> Order:
    return Order(
        order_id=str(row["order_id"]),
        condition_id=str(row["condition_id"]),
        token_id=str(row["token_id"]),
        wallet=str(row["wallet"]),
        owner=str(row["owner"]),
        outcome=_int(row["outcome"]),
        side="BUY" if row["side"] == "BUY" else "SELL",
        order_type="GTD" if row["order_type"] == "GTD" else "GTC",
        price=_int(row["price"]),
        size=_int(row["size"]),
        received_ms=_int(row["received_ms"]),
        expires_ms=None if row["expires_ms"] is None else _int(row["expires_ms"]),
        post_only=bool(row["post_only"]),
        filled=_int(row["size_matched"]),
    )


def _party(role: str, order: Order, api_key: str, price: int) -> dict[str, Value]:
    fields: dict[str, Value] = {
        "order_id": order.order_id,
        "wallet": order.wallet,
        "owner": order.owner,
        "key": api_key,
        "token": order.token_id,
        "outcome": order.outcome,
        "side": order.side,
        "price": price,
    }
    return {f"{role}_{name}": value for name, value in fields.items()}


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value
