"""archive.pmxt.dev: an hour of all markets' market channel in one Parquet file.

Columns: timestamp_received, timestamp, market (condition id, binary), event_type (price_change, book, last_trade_price,
tick_size_change), asset_id, bids and asks (JSON text, of books), price, size, side, best_bid, best_ask, transaction_hash,
new_tick_size. Sorted by market, so that a filter by condition id reads little; Gamma says which condition is which window.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from recording.errors import RecordingError
from recording.format import Contents, Frame, Lack, Origin
from recording.importers.common import SETTLES_LATER_MS, Wanted, files, in_order, parquet

CONTENTS = Contents(depth=None, lacks=(Lack.LEAD, Lack.SETTLEMENT))

_COLUMNS = (
    *("timestamp_received", "timestamp", "market", "event_type", "asset_id", "bids", "asks", "price", "size", "side"),
    *("best_bid", "best_ask", "transaction_hash", "new_tick_size"),
)
_FIRST, _THEN, _LAST = 0, 1, 2


def read(source: Path, wanted: Wanted) -> Iterator[Frame]:
    """Frames of the wanted markets, hour by hour."""
    if not wanted.markets:
        raise RecordingError(
            "pmxt says no market's window: give --markets, a file of Gamma's events (/events/slug/SLUG), one a line"
        )
    conditions = [bytes.fromhex(name.removeprefix("0x")) for name in wanted.markets]
    told: set[str] = set()
    for path in files(source, "*.parquet"):
        frames: list[tuple[int, int, str, str]] = []
        for row in parquet(path, _COLUMNS, filters=[("market", "in", conditions)]):
            condition = "0x" + (
                row["market"].hex() if isinstance(row["market"], bytes) else row["market"].removeprefix("0x")
            )
            recv_ms = _ms(row["timestamp_received"])
            if condition not in told:
                told.add(condition)
                frames.append((recv_ms, _FIRST, Origin.GAMMA, _open(wanted.events[condition])))
            text = _frame(row, condition)
            if text:
                frames.append((recv_ms, _THEN, Origin.CLOB, text))
        yield from in_order(frames)
    ends = [
        (wanted.markets[one].end_ms + SETTLES_LATER_MS, _LAST, str(Origin.GAMMA), wanted.events[one]) for one in told
    ]
    yield from in_order(ends)


def _open(event: str) -> str:
    """A market's event as it was while the window was open: without its outcome and final price."""
    body = json.loads(event)
    for market in body["markets"]:
        market |= {"closed": False, "outcomePrices": '["0.5", "0.5"]'}
    if isinstance(body.get("eventMetadata"), dict):
        body["eventMetadata"].pop("finalPrice", None)
    return json.dumps(body, separators=(",", ":"))


def _frame(row: dict[str, Any], condition: str) -> str:
    """The event as the market channel sent it; "" for kinds that say nothing here."""
    head = {"event_type": row["event_type"], "market": condition, "timestamp": str(_ms(row["timestamp"]))}
    token = row["asset_id"] if isinstance(row["asset_id"], str) else str(int(row["asset_id"]))
    match row["event_type"]:
        case "book":
            levels = {name: [_level(level) for level in json.loads(row[name] or "[]")] for name in ("bids", "asks")}
            event = head | {"asset_id": token} | levels
        case "price_change":
            change = {
                "asset_id": token,
                "price": _text(row["price"]),
                "size": _text(row["size"]),
                "side": _side(row["side"]),
            }
            best = {name: _text(row[name]) for name in ("best_bid", "best_ask") if row[name] is not None}
            event = head | {"price_changes": [change | best]}
        case "last_trade_price":
            event = head | {
                "asset_id": token,
                "price": _text(row["price"]),
                "size": _text(row["size"]),
                "side": _side(row["side"]),
                "transaction_hash": row["transaction_hash"] or "",
            }
        case "tick_size_change":
            event = head | {"asset_id": token, "new_tick_size": _text(row["new_tick_size"])}
        case _:
            return ""
    return json.dumps(event, separators=(",", ":"))


def _level(level: Any) -> dict[str, str]:
    """A level, which others saw as an object and as a pair."""
    price, size = (level["price"], level["size"]) if isinstance(level, dict) else (level[0], level[1])
    return {"price": str(price), "size": str(size)}


def _side(value: Any) -> str:
    return str(value or "").upper()


def _text(value: Any) -> str:
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)


def _ms(value: datetime | int) -> int:
    return value if isinstance(value, int) else round(value.timestamp() * 1000)
