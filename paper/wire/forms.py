"""The venue's JSON forms of orders, trades and books, as they are written. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from paper.engine.book import ONE, Book, format_units
from paper.engine.faults import draw
from paper.engine.markets import OUTCOMES
from paper.engine.matching import MIN_SIZE, Placement, trade_status
from paper.engine.record import Value

__all__ = [
    "TradeForm",
    "book_event",
    "book_json",
    "by_match",
    "delayed_answer",
    "mean_price",
    "open_order_json",
    "order_answer",
    "status_of",
    "trade_json",
    "transaction_hash",
]

HOUSE_KEY = "00000000-0000-4000-8000-00000000c0de"  # of the market maker and the crowd, as others see it


def order_answer(placement: Placement, trade_ids: list[str]) -> dict[str, object]:
    """Return the answer to ``POST /order``; the amounts are what this side gave and got, before the fee."""
    order = placement.order
    shares = sum(fill.size for fill in placement.fills)
    value = sum(fill.taker_value for fill in placement.fills)
    making, taking = (value, shares) if order.side == "BUY" else (shares, value)
    return {
        "errorMsg": "",
        "orderID": order.order_id,
        "takingAmount": format_units(taking) if shares else "",
        "makingAmount": format_units(making) if shares else "",
        "status": "matched" if shares else "live",
        "transactionsHashes": [],
        "tradeIDs": trade_ids,
        "success": True,
    }


def delayed_answer(order_id: str, status: str, amount: str) -> dict[str, object]:
    """Return the answer to an order that is held and not matched yet (py-sdk pull request 228, valory trader 942).

    Args:
        status: ``delayed`` or ``live``.
        amount: how no amount is written: ``0`` or nothing.
    """
    return {
        "errorMsg": "",
        "orderID": order_id,
        "takingAmount": amount,
        "makingAmount": amount,
        "status": status,
        "transactionsHashes": [],
        "tradeIDs": [],
        "success": True,
    }


def open_order_json(row: dict[str, Value], trades: Sequence[str] = ()) -> dict[str, object]:
    """Return an order of the record, and the ids of its trades, as ``/data/order`` and ``/data/orders`` show it."""
    expires = row["expires_ms"]
    return {
        "id": row["order_id"],
        "status": row["status"],
        "owner": row["api_key"],
        "maker_address": row["wallet"],
        "market": row["condition_id"],
        "asset_id": row["token_id"],
        "side": row["side"],
        "original_size": format_units(_int(row["size"])),
        "size_matched": format_units(_int(row["size_matched"])),
        "price": format_units(_int(row["price"])),
        "outcome": OUTCOMES[_int(row["outcome"])],
        "order_type": row["order_type"],
        "expiration": str(_int(expires) // 1000 + 60) if expires is not None else "0",
        "created_at": _int(row["received_ms"]) // 1000,
        "associate_trades": [*trades],
    }


@dataclass(frozen=True, slots=True)
class TradeForm:
    """How trades are shown, where the venue was seen to do it in several ways.

    Attributes:
        limit_price: ``price`` of a trade of several makers is the taker's limit (recorded: 0.401 with makers at 0.363),
            else what was paid for a share.
        prefixed: share of trades whose status carries the prefix TRADE_STATUS_.
        seed: of which ones.
    """

    limit_price: bool = False
    prefixed: float = 0.0
    seed: int = 0


def by_match(rows: Iterable[dict[str, Value]]) -> list[list[dict[str, Value]]]:
    """Return rows of the record's trades as trades: those of one match together, in the order of their first rows."""
    groups: dict[Value, list[dict[str, Value]]] = {}
    for row in rows:
        groups.setdefault(row["match_id"], []).append(row)
    return [*groups.values()]


def trade_json(
    rows: Sequence[dict[str, Value]], viewer: str, now_ms: int, form: TradeForm | None = None
) -> dict[str, object]:
    """Return a trade as ``/data/trades`` shows it to ``viewer``, an address.

    Args:
        rows: of one match, a row for each maker.
    """
    trade, form = rows[0], form or TradeForm()
    time_s = _int(trade["time_ms"]) // 1000
    status = status_of(trade, now_ms)
    name = str(trade["match_id"])
    ref = f"{trade['taker_order_id']!s}:{trade['maker_order_id']!s}"
    prefix = "TRADE_STATUS_" if draw(form.seed, "prefix", ref) < form.prefixed else ""
    price = _int(trade["taker_price"])
    if len({row["taker_price"] for row in rows}) > 1:
        price = _int(trade["limit_price"]) if form.limit_price else mean_price(rows)
    mined = status not in ("MATCHED", "RETRYING", "FAILED")
    return {
        "id": name,
        "taker_order_id": trade["taker_order_id"],
        "market": trade["condition_id"],
        "asset_id": trade["taker_token"],
        "side": trade["taker_side"],
        "size": format_units(sum(_int(row["size"]) for row in rows)),
        "fee_rate_bps": "0",
        "price": format_units(price),
        "status": prefix + status,
        "match_time": str(time_s),
        "last_update": str(min(now_ms, _int(trade["time_ms"]) + 60_000) // 1000),
        "outcome": OUTCOMES[_int(trade["taker_outcome"])],
        "bucket_index": 0,
        "owner": trade["taker_key"] or HOUSE_KEY,
        "maker_address": trade["taker_wallet"],
        "transaction_hash": transaction_hash(name) if mined else "",
        "trader_side": "TAKER" if trade["taker_owner"] == viewer else "MAKER",
        "maker_orders": [_maker_order(row) for row in rows],
    }


def _maker_order(row: dict[str, Value]) -> dict[str, object]:
    return {
        "order_id": row["maker_order_id"],
        "owner": row["maker_key"] or HOUSE_KEY,
        "maker_address": row["maker_wallet"],
        "matched_amount": format_units(_int(row["size"])),
        "price": format_units(_int(row["maker_price"])),
        "fee_rate_bps": "0",
        "asset_id": row["maker_token"],
        "outcome": OUTCOMES[_int(row["maker_outcome"])],
        "outcome_index": row["maker_outcome"],
        "side": row["maker_side"],
    }


def mean_price(rows: Sequence[dict[str, Value]]) -> int:
    """Return what a share cost the taker on average, to the base unit."""
    size = sum(_int(row["size"]) for row in rows)
    return (2 * sum(_int(row["size"]) * _int(row["taker_price"]) for row in rows) + size) // (2 * size)


def status_of(trade: dict[str, Value], now_ms: int) -> str:
    """Return the status that a trade of the record has at a time."""
    return trade_status(str(trade["fate"]), now_ms - _int(trade["time_ms"]), _int(trade["settle_ms"]))


def transaction_hash(trade_id: str) -> str:
    """Return the made-up hash of the transaction that settles a trade."""
    return "0x" + keccak(b"transaction:" + trade_id.encode()).hex()


_Levels = tuple[list[tuple[int, int]], list[tuple[int, int]]]


def book_json(book: Book, outcome: int, now_ms: int, levels: _Levels | None = None) -> dict[str, object]:
    """Return a token's book as ``/book`` shows it: bids rising, asks falling, so that the best are last.

    Args:
        levels: bids and asks, best first, where they are not the book's of now.
    """
    bids, asks = levels or book.levels(outcome)
    body: dict[str, object] = {
        "market": book.condition_id,
        "asset_id": book.token_ids[outcome],
        "timestamp": str(now_ms),
        "hash": "",
        "bids": [level_json(price, size) for price, size in reversed(bids)],
        "asks": [level_json(price, size) for price, size in reversed(asks)],
        "min_order_size": format_units(MIN_SIZE),
        "tick_size": format_units(book.tick),
        "neg_risk": False,
        "last_trade_price": _last_price(book, outcome),
    }
    # The venue's hash, as py-clob-client-v2 computes it: SHA-1 over this very JSON with an empty hash.
    body["hash"] = hashlib.sha1(json.dumps(body, separators=(",", ":")).encode(), usedforsecurity=False).hexdigest()
    return body


def book_event(book: Book, outcome: int, now_ms: int, *, with_tick: bool) -> dict[str, object]:
    """Return a token's book as the market channel shows it: with its tick to a new subscriber, without it after a trade."""
    body = book_json(book, outcome, now_ms)
    del body["min_order_size"], body["neg_risk"]
    last, tick = body.pop("last_trade_price"), body.pop("tick_size")
    return body | ({"tick_size": tick} if with_tick else {}) | {"event_type": "book", "last_trade_price": last}


def _last_price(book: Book, outcome: int) -> str:
    """The last trade's price with three decimals, as recorded: 0.490; empty where there was none."""
    if book.last_price is None:
        return ""
    price = book.last_price if outcome == 0 else ONE - book.last_price
    return f"{price / ONE:.3f}"


def level_json(price: int, size: int) -> dict[str, str]:
    """Return one price level."""
    return {"price": format_units(price), "size": format_units(size)}


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value
