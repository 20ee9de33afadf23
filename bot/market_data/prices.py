"""The prices of all assets: the lead's newest price, one-second closes and volatility; the known part of settlement averages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bot.feeds import Candles, Kline, PriceUpdate, Source
from bot.feeds.settled import Settled
from bot.feeds.settlement_messages import SettlementPrice

MIN_RETURNS = 20  # fewer seconds than this say nothing of volatility


class Prices:
    """What the feeds brought. Filled by `take` and `settle`, read by the polls."""

    def __init__(self, assets: Iterable[str]) -> None:
        self._candles = {asset: Candles() for asset in assets}
        self._newest: dict[str, tuple[float, int]] = {}
        self._settled = {asset: Settled() for asset in self._candles}

    def __contains__(self, asset: str) -> bool:
        """Whether this asset is followed."""
        return asset in self._candles

    def take(self, update: PriceUpdate) -> None:
        """Take one update of the feed."""
        self._candles[update.asset].add(update)
        if update.source is Source.BOOK or update.asset not in self._newest:
            self._newest[update.asset] = (update.price, update.boot_ms)

    def settle(self, price: SettlementPrice) -> None:
        """Take one price of the settlement source."""
        self._settled[price.asset].add(price)

    def seed(self, history: Mapping[str, Iterable[Kline]], utc_to_boot_ms: int) -> None:
        """Put history before what came already."""
        for asset, klines in history.items():
            self._candles[asset].seed(klines, utc_to_boot_ms)

    def newest(self, asset: str) -> float | None:
        """The newest lead price."""
        found = self._newest.get(asset)
        return None if found is None else found[0]

    def newest_boot_ms(self, asset: str) -> int | None:
        """When the newest lead price arrived, in CLOCK_BOOTTIME ms."""
        found = self._newest.get(asset)
        return None if found is None else found[1]

    def volatility(self, asset: str) -> float | None:
        """Of the log price per sqrt(second); None while too little is known."""
        found = self._candles[asset].volatility()
        return found.per_sqrt_second if found.samples >= MIN_RETURNS else None

    def average(self, asset: str, from_ms: int, to_ms: int, to_boot_ms: int = 0) -> tuple[float, float | None]:
        """(seconds that are known, mean price) of the part of the settlement average that has passed; (0, None): nothing is.

        Out of the settlement source's own prices where they cover that part, else out of the lead's closes.
        Times: UTC ms; to_boot_ms makes CLOCK_BOOTTIME of them.
        """
        known = self._settled[asset].known(from_ms, to_ms)
        if known is not None:
            return known
        closes = self._candles[asset].between(from_ms + to_boot_ms, to_ms + to_boot_ms)
        return (max(0.0, (to_ms - from_ms) / 1000), sum(closes) / len(closes)) if closes else (0.0, None)
