"""Prices as they come from elsewhere, in the place of paper's own walk."""

from __future__ import annotations

from collections.abc import Iterable

from paper.engine.feed import TICK_MS, Feed, Tick
from paper.engine.prices import ASSETS, DECIMALS, Candle, Candles
from recording import CandlesEvent

_STANDS_STILL_MS = 5_000  # a lead price that is older makes no candles: nobody knows that it stood still


class MirrorFeed(Feed):
    """The newest lead and settlement prices of each asset that has any, and the lead's candles.

    ``lead`` and ``settlement`` have no entry for an asset of which nothing came yet.
    """

    def __init__(self) -> None:
        super().__init__(0, {}, 0)
        self._lead: dict[str, float] = {}
        self._lead_ms: dict[str, int] = {}

    @property
    def lead(self) -> dict[str, float]:
        """The lead prices, rounded as on Binance."""
        return {asset: round(price, DECIMALS[asset] + 1) for asset, price in self._lead.items()}

    def begin(self, now_ms: int, past: list[Tick]) -> list[Tick]:
        """Take over the recorded past: its candles. What was between is not made up."""
        for tick in past:
            self.history[tick.asset].add(tick.time_ms, tick.price, tick.settlement)
        self.time_ms = now_ms - now_ms % TICK_MS
        return []

    def candles(self, event: CandlesEvent, shown_ms: Iterable[int]) -> None:
        """Take the lead's candles of the time before, with the times at which they are shown, in the place of what was known."""
        history = self.history.get(event.asset)
        if history is None:
            return
        made = Candles(event.interval_ms)
        settlement = self.settlement.get(event.asset, 0.0)
        for start_ms, (_, open_, high, low, close) in zip(shown_ms, event.rows, strict=True):
            made.items.append(Candle(start_ms, open_, high, low, close, settlement))
        if event.interval_ms == 1_000:
            history.seconds = made
        else:
            history.minutes = made

    def take_lead(self, asset: str, price: float, now_ms: int) -> Tick:
        """Take a lead price as it comes."""
        self._lead[asset], self._lead_ms[asset] = price, now_ms
        return self._tick(asset, now_ms)

    def advance(self, now_ms: int) -> list[Tick]:
        """Close candles on paper's grid of ticks; a price that came is moved by nothing but the next one."""
        now_ms -= now_ms % TICK_MS
        if now_ms <= self.time_ms:
            return []
        self.time_ms = now_ms
        fresh = [asset for asset, at in self._lead_ms.items() if now_ms - at < _STANDS_STILL_MS]
        return [self._tick(asset, now_ms) for asset in ASSETS if asset in fresh]

    def _tick(self, asset: str, now_ms: int) -> Tick:
        price = self._lead[asset]
        settlement = self.settlement.get(asset, price)
        closed = self.history[asset].add(now_ms, price, settlement)
        return Tick(now_ms, asset, price, settlement, closed)
