"""The venue's crypto price streams, once a second for each asset: RTDS (older) and PolyBolt (venue.md 3).

Binance's price is the lead price. Chainlink's is the settlement price, and its time average over 60 s is what decides
windows. Pyth's, PolyBolt's default provider, is the lead price here.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from paper.candles import average
from paper.engine.feed import Feed, Tick
from paper.hub import Hub
from paper.windows import ASSETS

__all__ = ["RTDS_TOPICS", "PriceStreams", "Second", "price_payload", "price_snapshot"]

RTDS_TOPICS = ("crypto_prices", "crypto_prices_chainlink", "crypto_prices_twap_thirty", "crypto_prices_twap_sixty")
_KEPT = 120  # seconds in a snapshot
_E18 = 10**18


@dataclass(frozen=True, slots=True)
class Second:
    """One asset's prices at a whole second, in USD: lead, settlement, and the settlement price's mean of 30 s and 60 s."""

    time_ms: int
    asset: str
    lead: float
    settlement: float
    mean_30s: float
    mean_60s: float


class PriceStreams:
    """Sends RTDS messages to topic ``rtds:TOPIC``, and tells ``followers`` (PolyBolt's connections) of each second."""

    def __init__(self, hub: Hub, feed: Feed) -> None:
        self._hub = hub
        self._feed = feed
        self.followers: set[Callable[[Second], None]] = set()
        self.recent: dict[str, deque[Second]] = {asset: deque(maxlen=_KEPT) for asset in ASSETS}

    def publish(self, ticks: list[Tick]) -> None:
        """Send the ticks that begin a second."""
        for tick in ticks:
            if tick.closed is None:
                continue
            second = self._second(tick)
            self.recent[tick.asset].append(second)
            for topic in RTDS_TOPICS:
                if self._hub.wanted(f"rtds:{topic}"):
                    self._hub.publish(_rtds_event(topic, second), f"rtds:{topic}")
            for follower in tuple(self.followers):
                follower(second)

    def _second(self, tick: Tick) -> Second:
        history, now = self._feed.history[tick.asset], tick.time_ms
        # Rounded, as a mean of decimals has no end.
        means = [round(average(history.between(now - length, now)), 8) for length in (30_000, 60_000)]
        return Second(now, tick.asset, tick.price, tick.settlement, *means)


def _rtds_event(topic: str, second: Second) -> str:
    symbol, value = f"{second.asset.lower()}/usd", second.settlement
    extra: dict[str, object] = {}
    if topic == "crypto_prices":
        symbol, value = f"{second.asset.lower()}usdt", second.lead
    elif topic == "crypto_prices_twap_thirty":
        value, extra = second.mean_30s, {"window_s": 30}
    elif topic == "crypto_prices_twap_sixty":
        value, extra = second.mean_60s, {"window_s": 60}
    exact = str(int(Decimal(str(value)) * _E18))
    payload = {"symbol": symbol, "timestamp": second.time_ms, "value": value, "full_accuracy_value": exact, **extra}
    return json.dumps({"topic": topic, "type": "update", "timestamp": second.time_ms, "payload": payload})


def price_payload(channel: str, provider: str, second: Second) -> dict[str, object]:
    """Return the payload of a PolyBolt update.

    Args:
        channel: ``price.crypto`` or ``price.crypto.twap``.
        provider: ``pyth`` or ``chainlink``; the average is always Chainlink's.
    """
    return _head(channel, provider, second.asset) | _point(channel, provider, second)


def price_snapshot(channel: str, provider: str, asset: str, recent: deque[Second]) -> dict[str, object]:
    """Return the payload of a PolyBolt snapshot: the last two minutes, oldest first."""
    points = [_point(channel, provider, second) for second in recent]
    return _head(channel, provider, asset) | {"data": points}


def _head(channel: str, provider: str, asset: str) -> dict[str, object]:
    symbol = f"{asset.lower()}usd"
    if channel == "price.crypto.twap":
        return {"symbol": symbol, "source": "chainlink", "window_seconds": 60}
    return {"symbol": symbol, "source": provider}


def _point(channel: str, provider: str, second: Second) -> dict[str, object]:
    value = second.lead if provider == "pyth" else second.settlement
    if channel == "price.crypto.twap":
        value = second.mean_60s
    return {"timestamp": second.time_ms, "value": value, "full_accuracy_value": str(Decimal(str(value)))}
