"""The venue's JSON forms of orders, trades and books, as they are written. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from paper.book import Book
from paper.engine import MIN_SIZE, Placement
from paper.evm import keccak
from paper.fates import trade_status
from paper.money import ONE, format_units
from paper.record import Value
from paper.windows import OUTCOMES

__all__ = [
    "book_json",
    "open_order_json",
    "order_answer",
    "status_of",
    "trade_json",
]


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


def trade_json(trade: dict[str, Value], viewer: str, now_ms: int) -> dict[str, object]:
    """Return a trade of the record as ``/data/trades`` shows it to ``viewer``, an address."""
    is_taker = trade["taker_owner"] == viewer
    time_s = _int(trade["time_ms"]) // 1000
    status = status_of(trade, now_ms)
    maker = {
        "order_id": trade["maker_order_id"],
        "owner": trade["maker_key"],
        "maker_address": trade["maker_wallet"],
        "matched_amount": format_units(_int(trade["size"])),
        "price": format_units(_int(trade["maker_price"])),
        "fee_rate_bps": "0",
        "asset_id": trade["maker_token"],
        "outcome": OUTCOMES[_int(trade["maker_outcome"])],
        "outcome_index": trade["maker_outcome"],
        "side": trade["maker_side"],
    }
    return {
        "id": trade["trade_id"],
        "taker_order_id": trade["taker_order_id"],
        "market": trade["condition_id"],
        "asset_id": trade["taker_token"],
        "side": trade["taker_side"],
        "size": format_units(_int(trade["size"])),
        "price": format_units(_int(trade["taker_price"])),
        "fee_rate_bps": "0",
        "status": status,
        "match_time": str(time_s),
        "last_update": str(min(now_ms, _int(trade["time_ms"]) + 60_000) // 1000),
        "outcome": OUTCOMES[_int(trade["taker_outcome"])],
        "bucket_index": 0,
        "owner": trade["taker_key"],
        "maker_address": trade["taker_wallet"],
        "transaction_hash": ""
        if status in ("MATCHED", "RETRYING", "FAILED")
        else transaction_hash(str(trade["trade_id"])),
        "trader_side": "TAKER" if is_taker else "MAKER",
        "maker_orders": [maker],
    }


def status_of(trade: dict[str, Value], now_ms: int) -> str:
    """Return the status that a trade of the record has at a time."""
    return trade_status(str(trade["fate"]), now_ms - _int(trade["time_ms"]), _int(trade["settle_ms"]))


def transaction_hash(trade_id: str) -> str:
    """Return the made-up hash of the transaction that settles a trade."""
    return "0x" + keccak(b"transaction:" + trade_id.encode()).hex()


def book_json(book: Book, outcome: int, now_ms: int) -> dict[str, object]:
    """Return a token's book as ``/book`` shows it: bids rising, asks falling, so that the best are last."""
    bids, asks = book.levels(outcome)
    last = "" if book.last_price is None else format_units(book.last_price if outcome == 0 else ONE - book.last_price)
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
        "last_trade_price": last,
    }
    # The venue's hash: SHA-1 over this very JSON with an empty hash.
    body["hash"] = hashlib.sha1(json.dumps(body, separators=(",", ":")).encode(), usedforsecurity=False).hexdigest()
    return body


def level_json(price: int, size: int) -> dict[str, str]:
    """Return one price level."""
    return {"price": format_units(price), "size": format_units(size)}


def _int(value: Value) -> int:
    assert isinstance(value, int), f"expected an integer column, found {value!r}"
    return value
