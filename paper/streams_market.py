"""The venue's market channel (venue.md 3): books, price changes, trades, ticks, new and resolved markets.

Topics: ``token:ID`` for what every subscriber of a token gets, ``custom:ID`` for what must be asked for, and ``markets``
for news of markets nobody can have subscribed to yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from paper.engine.book import Book
from paper.engine.markets import Market
from paper.engine.matching import Fill
from paper.hub import Hub
from paper.money import ONE, format_units
from paper.windows import OUTCOMES, Window
from paper.wire.forms import book_json

__all__ = ["NEW_MARKETS", "MarketStreams"]

NEW_MARKETS = "markets"

_Levels = dict[tuple[bool, int], int]


class MarketStreams:
    """Sends how books changed since they were last shown. A market has one book, so a change shows in both tokens."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._shown: dict[str, _Levels] = {}  # of books that somebody follows
        self._best: dict[str, tuple[int, int]] = {}

    def snapshot(self, book: Book, outcome: int, now_ms: int) -> str:
        """Return the book event for a new subscriber; from now on changes count from here."""
        self.publish_changes(book, now_ms)
        book.take_changes()
        bids, asks = book.levels(0)
        self._shown[book.condition_id] = {(True, p): s for p, s in bids} | {(False, p): s for p, s in asks}
        self._best[book.condition_id] = book.best(0)
        return json.dumps({"event_type": "book", **book_json(book, outcome, now_ms)})

    def follows(self, book: Book) -> bool:
        """Whether changes of this book are sent to anybody."""
        return book.condition_id in self._shown

    def publish_changes(self, book: Book, now_ms: int) -> None:
        """Send the levels of both tokens that are not as they were shown."""
        shown = self._shown.get(book.condition_id)
        if shown is None:
            return
        topics = _topics("token", book)
        if not self._hub.wanted(*topics):
            self.forget(book)
            return
        changed: _Levels = {
            (is_bid, price): size
            for is_bid, price, size in book.take_changes()
            if shown.get((is_bid, price), 0) != size
        }
        if not changed:
            return
        for level, size in changed.items():
            if size:
                shown[level] = size
            else:
                del shown[level]
        changes = [change for outcome in (0, 1) for change in _changes(book, outcome, changed)]
        event = {"event_type": "price_change", "market": book.condition_id, "price_changes": changes}
        self._hub.publish(json.dumps(event | {"timestamp": str(now_ms)}), *topics)
        self._publish_best(book, now_ms)

    def publish_trade(self, book: Book, fill: Fill, now_ms: int) -> None:
        """Send the price of a trade."""
        token = fill.taker.token_id
        if self._hub.wanted(f"token:{token}"):
            event = {
                "event_type": "last_trade_price",
                "market": book.condition_id,
                "asset_id": token,
                "price": format_units(fill.taker_price),
                "size": format_units(fill.size),
                "side": fill.taker.side,
                "fee_rate_bps": "0",
                "timestamp": str(now_ms),
            }
            self._hub.publish(json.dumps(event), f"token:{token}")

    def publish_tick(self, book: Book, old_tick: int, now_ms: int) -> None:
        """Send that a market's tick changed."""
        for token in book.token_ids:
            event = {
                "event_type": "tick_size_change",
                "market": book.condition_id,
                "asset_id": token,
                "old_tick_size": format_units(old_tick),
                "new_tick_size": format_units(book.tick),
                "timestamp": str(now_ms),
            }
            self._hub.publish(json.dumps(event), f"token:{token}")

    def publish_new(self, window: Window, tick: int, now_ms: int) -> None:
        """Send that a market came to be, to everybody who asked for custom features."""
        if self._hub.wanted(NEW_MARKETS):
            event = {
                "event_type": "new_market",
                "id": str(window.number),
                "market": window.condition_id,
                "condition_id": window.condition_id,
                "question": window.title,
                "slug": window.slug,
                "assets_ids": list(window.token_ids),
                "clob_token_ids": list(window.token_ids),
                "outcomes": list(OUTCOMES),
                "active": True,
                "order_price_min_tick_size": format_units(tick),
                "fees_enabled": True,
                "timestamp": str(now_ms),
            }
            self._hub.publish(json.dumps(event), NEW_MARKETS)

    def publish_resolved(self, market: Market, book: Book, now_ms: int) -> None:
        """Send the outcome, to whoever asked for custom features."""
        self.forget(book)
        winner = market.winner or 0
        event = {
            "event_type": "market_resolved",
            "id": str(market.window.number),
            "market": book.condition_id,
            "assets_ids": list(book.token_ids),
            "winning_asset_id": book.token_ids[winner],
            "winning_outcome": OUTCOMES[winner],
            "timestamp": str(now_ms),
        }
        self._hub.publish(json.dumps(event), *_topics("custom", book))

    def forget(self, book: Book) -> None:
        """Drop what was shown of a book."""
        self._shown.pop(book.condition_id, None)
        self._best.pop(book.condition_id, None)

    def _publish_best(self, book: Book, now_ms: int) -> None:
        if self._best.get(book.condition_id) == book.best(0):
            return
        self._best[book.condition_id] = book.best(0)
        for outcome, token in enumerate(book.token_ids):
            if self._hub.wanted(f"custom:{token}"):
                best_bid, best_ask = book.best(outcome)
                event = {
                    "event_type": "best_bid_ask",
                    "market": book.condition_id,
                    "asset_id": token,
                    "best_bid": format_units(best_bid),
                    "best_ask": format_units(best_ask),
                    "spread": format_units(best_ask - best_bid),
                    "timestamp": str(now_ms),
                }
                self._hub.publish(json.dumps(event), f"custom:{token}")


def _topics(kind: str, book: Book) -> list[str]:
    return [f"{kind}:{token}" for token in book.token_ids]


def _changes(book: Book, outcome: int, changed: _Levels) -> Iterable[dict[str, str]]:
    """The changed levels as one token shows them: an offer to sell Up at p is a bid for Down at 1 - p."""
    best_bid, best_ask = (format_units(price) for price in book.best(outcome))
    for (is_bid, up_price), size in changed.items():
        yield {
            "asset_id": book.token_ids[outcome],
            "price": format_units(up_price if outcome == 0 else ONE - up_price),
            "size": format_units(size),
            "side": "BUY" if is_bid == (outcome == 0) else "SELL",
            "hash": "",
            "best_bid": best_bid,
            "best_ask": best_ask,
        }
