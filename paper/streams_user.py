"""The venue's user channel: own orders and trades. Topics: ``user:ADDRESS`` and ``user:ADDRESS:MARKET``."""

from __future__ import annotations

import json
from collections.abc import Callable

from paper.hub import Hub
from paper.record import Value
from paper.wire import open_order_json, trade_json

__all__ = ["UserStreams"]


class UserStreams:
    """Sends events to those whose orders they concern."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def listens(self, owner: str, condition_id: str) -> bool:
        """Whether this address hears of this market."""
        return self._hub.wanted(*_topics(owner, condition_id))

    def publish_order(self, row: dict[str, Value], event: str, now_ms: int) -> None:
        """Send a PLACEMENT, UPDATE or CANCELLATION to the order's owner."""
        message = open_order_json(row) | {"event_type": "order", "type": event, "timestamp": str(now_ms)}
        message |= {"order_owner": row["api_key"]}
        self._hub.publish(json.dumps(message), *_topics(str(row["owner"]), str(row["condition_id"])))

    def publish_trade(self, trade: dict[str, Value], clock: Callable[[], int]) -> None:
        """Send a trade with the status that it has now to both owners."""
        now = clock()
        for owner in {str(trade["taker_owner"]), str(trade["maker_owner"])}:
            if self.listens(owner, str(trade["condition_id"])):
                message = trade_json(trade, owner, now)
                extra = {"event_type": "trade", "type": "TRADE", "timestamp": str(now)}
                self._hub.publish(json.dumps(message | extra), *_topics(owner, str(trade["condition_id"])))


def _topics(owner: str, condition_id: str) -> tuple[str, str]:
    return f"user:{owner}", f"user:{owner}:{condition_id.lower()}"
