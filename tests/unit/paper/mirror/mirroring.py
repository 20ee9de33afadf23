"""A mirror without its wire, under a virtual clock, and frames as the real exchange sends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paper.engine.book import ONE
from paper.engine.markets import Market
from paper.engine.record import Record
from paper.mirror.clock import TimeMap
from paper.mirror.exchange import MirrorExchange
from paper.mirror.mirror import Mirror
from paper.settings import Settings
from paper.streams.sockets import Listener, frame_text

START = 1_790_877_600_000
SLUG = "btc-updown-5m-1790877600"
CONDITION = "0x6f"
UP, DOWN = "111", "222"


class World:
    """A mirror and the time that it believes in (UTC ms)."""

    def __init__(self, folder: Path, times: TimeMap | None = None) -> None:
        self.now = START + 1_000
        self.record = Record(folder)
        values: dict[str, Any] = {"data": folder}
        self.exchange = MirrorExchange(Settings(**values), self.record, lambda: self.now, "a test")
        self.exchange.start()
        self.asked: list[str] = []
        self.mirror = Mirror(self.exchange, times or TimeMap(), lambda: self.now, refresh=self.asked.extend)
        self.sent: list[dict[str, Any]] = []

    def follow(self, *topics: str) -> None:
        """Collect what listeners of some topics get."""
        listener = Listener(lambda frames: None)
        listener.put = lambda frame: self.sent.extend(_objects(frame))  # type: ignore[method-assign]
        for topic in topics:
            self.exchange.hub.subscribe(listener, topic)

    def send(self, source: str, payload: object) -> None:
        self.mirror.frame(source, json.dumps(payload))

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds * 10)):
            self.now += 100
            self.exchange.tick()
            self.mirror.look()

    @property
    def market(self) -> Market:
        market = self.exchange.market_by_slug(SLUG)
        assert market is not None
        return market

    def levels(self) -> list[dict[str, str]]:
        """Bids and asks of Up as decimal texts."""
        return [
            {f"{price / ONE:g}": f"{size / ONE:g}" for price, size in side}
            for side in self.exchange.book(self.market).levels(0)
        ]


def _objects(frame: bytes) -> list[dict[str, Any]]:
    loaded = json.loads(frame_text(frame))
    return loaded if isinstance(loaded, list) else [loaded]


def gamma(**other: Any) -> dict[str, Any]:
    """An event of Gamma's; ``strike``, ``winner`` and fields of its market."""
    strike, winner = other.pop("strike", None), other.pop("winner", None)
    prices = {None: ["0.5", "0.5"], 0: ["1", "0"], 1: ["0", "1"], 2: ["0.5", "0.5"]}[winner]
    market = {
        "slug": SLUG,
        "conditionId": CONDITION,
        "outcomes": '["Up", "Down"]',
        "clobTokenIds": json.dumps([UP, DOWN]),
        "outcomePrices": json.dumps(prices),
        "closed": winner is not None,
        "orderPriceMinTickSize": 0.01,
        "cryptoMarketConfig": {"twapEnabled": True, "twapLookbackSeconds": 60},
    }
    metadata = {} if strike is None else {"priceToBeat": strike}
    metadata |= {} if winner is None else {"finalPrice": 84001.5}
    return {"slug": SLUG, "markets": [market | other], "eventMetadata": metadata}


def book(bids: dict[str, str], asks: dict[str, str], at: int, token: str = UP) -> dict[str, Any]:
    levels = {
        "bids": [{"price": p, "size": s} for p, s in bids.items()],
        "asks": [{"price": p, "size": s} for p, s in asks.items()],
    }
    return {"event_type": "book", "market": CONDITION, "asset_id": token, "timestamp": str(at), **levels}


def change(price: str, size: str, side: str, at: int, best: tuple[str, str], token: str = UP) -> dict[str, Any]:
    row = {"asset_id": token, "price": price, "size": size, "side": side, "best_bid": best[0], "best_ask": best[1]}
    return {"event_type": "price_change", "market": CONDITION, "timestamp": str(at), "price_changes": [row]}


def trade(price: str, size: str, side: str, at: int, token: str = UP) -> dict[str, Any]:
    names = {"event_type": "last_trade_price", "market": CONDITION, "asset_id": token, "transaction_hash": f"0x{at}"}
    return names | {"price": price, "size": size, "side": side, "timestamp": str(at)}
