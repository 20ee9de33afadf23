"""The venue's user channel: own orders and trades. Topics: ``user:ADDRESS`` and ``user:ADDRESS:MARKET``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from paper.engine.record import Value
from paper.hub import Hub
from paper.money import format_units
from paper.wire.forms import TradeForm, open_order_json, trade_json

__all__ = ["UserStreams"]


class UserStreams:
    """Sends events to those whose orders they concern."""

    def __init__(self, hub: Hub, form: TradeForm) -> None:
        self._hub = hub
        self._form = form

    def listens(self, owner: str, condition_id: str) -> bool:
        """Whether this address hears of this market."""
        return self._hub.wanted(*_topics(owner, condition_id))

    def publish_order(self, row: dict[str, Value], event: str, now_ms: int) -> None:
        """Send a PLACEMENT, UPDATE or CANCELLATION to the order's owner."""
        self._send_order(row, event, now_ms)

    def publish_killed(self, row: dict[str, Value], budget: int | None, now_ms: int) -> None:
        """Send the CANCELLATION of a FAK or FOK that met nothing, as recorded: texts empty, the size of a BUY its money.

        (nautilus_trader issue 3987 and its fixture of a FOK whose original_size is pUSD.)
        """
        empty = {"size_matched": "", "outcome": "", "created_at": "", "associate_trades": []}
        money = {} if budget is None else {"original_size": format_units(budget)}
        self._send_order(row, "CANCELLATION", now_ms, **empty, **money)

    def _send_order(self, row: dict[str, Value], event: str, now_ms: int, **other: object) -> None:
        message = open_order_json(row) | {"event_type": "order", "type": event, "timestamp": str(now_ms)}
        message |= {"order_owner": row["api_key"], "created_at": str(message["created_at"]), "associate_trades": None}
        topics = _topics(str(row["owner"]), str(row["condition_id"]))
        self._hub.publish(json.dumps(message | other), *topics)

    def publish_trade(self, rows: Sequence[dict[str, Value]], clock: Callable[[], int]) -> None:
        """Send a trade with the status that it has now to all its owners.

        Args:
            rows: of one match, a row for each maker.
        """
        now, condition = clock(), str(rows[0]["condition_id"])
        for owner in {str(row[f"{role}_owner"]) for row in rows for role in ("taker", "maker")}:
            if self.listens(owner, condition):
                message = trade_json(rows, owner, now, self._form)
                mine = next((row for row in rows if row["maker_owner"] == owner), rows[0])
                extra = {
                    "event_type": "trade",
                    "type": "TRADE",
                    "trade_owner": mine["taker_key" if rows[0]["taker_owner"] == owner else "maker_key"],
                    "transaction_hash": message["transaction_hash"] or None,
                    "timestamp": str(now),
                }
                self._hub.publish(json.dumps(message | extra), *_topics(owner, condition))


def _topics(owner: str, condition_id: str) -> tuple[str, str]:
    return f"user:{owner}", f"user:{owner}:{condition_id.lower()}"
