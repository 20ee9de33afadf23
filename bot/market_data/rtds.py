"""The venue's price stream, for the prices that windows settle by.

The stream is known to stall while its connection stands (venue.md 3), so it is judged by the age of its prices and never by
PONG. It repeats nothing: what was missed stays missed, and the averages that need it are made of the lead's prices instead
(`bot.market_data.prices`). No credentials, and nothing waits for it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from bot.venue.decoding import (
    HIGH_PRICE,
    LAST_MS,
    LOW_PRICE,
    Code,
    OddError,
    Origin,
    Skips,
    as_float,
    as_name,
    as_object,
    as_whole,
    decode,
)
from bot.venue.stream import Reader, Send, Stream, Timing

# The venue's price stream RTDS: messages to prices of the settlement source (Chainlink). Pure. Forms: docs/reference/venue.md 3.
#
# The spot topic alone is read: the stream's 60 s averages say what the last minute was, not what the part of it was that counts
# for a window, and spot prices say both, for every length.


MESSAGE_BYTES = 65_536

TOPIC = "crypto_prices_chainlink"
SUBSCRIBE = json.dumps({"action": "subscribe", "subscriptions": [{"topic": TOPIC, "type": "update"}]})


@dataclass(frozen=True, slots=True)
class SettlementPrice:
    """price: USD. time_ms: when it was so, UTC ms by the venue.

    boot_ms, own_boot_ms: its arrival and time_ms on CLOCK_BOOTTIME, where they are known.
    """

    asset: str
    price: float
    time_ms: int
    boot_ms: int | None = None
    own_boot_ms: int | None = None


def parse_settlement(message: str | bytes) -> SettlementPrice | None:
    """The price that a message brings; None where it is of no interest (PONG, empty, other topics).

    Raises OddError: it is not JSON, or has another form.
    """
    if message in ("PONG", b"PONG", "", b""):
        return None
    event = as_object(decode(message, MESSAGE_BYTES), "message")
    if event.get("topic") != TOPIC or event.get("type") != "update":
        return None
    payload = as_object(event.get("payload"), "payload")
    symbol = as_name(payload.get("symbol"), "symbol")
    asset, _, currency = symbol.upper().partition("/")
    if currency != "USD":
        raise OddError(Code.TEXT, "symbol", "a symbol such as btc/usd", symbol)
    time_ms = payload.get("timestamp")
    if isinstance(time_ms, str):
        raise OddError(Code.SHAPE, "timestamp", "a whole number", time_ms)
    return SettlementPrice(
        asset,
        as_float(payload.get("value"), "value", LOW_PRICE, HIGH_PRICE),
        as_whole(time_ms, "timestamp", 1, LAST_MS),
    )


_MOST_OFF_MS = 60_000  # a price from further away than this is no price of now
SETTLEMENT_TIMING = Timing(stale_after_s=10.0, ping_s=5.0)


class SettlementFeed(Reader):
    """Follows the settlement prices of some assets.

    Args:
        on_price: called in the loop for each price of these assets; must not block.
        now_ms: the venue's time in UTC ms.
        boot_ms: CLOCK_BOOTTIME in ms.
        skips: counts the messages that could not be read.
    """

    def __init__(
        self,
        stream: Stream,
        assets: tuple[str, ...],
        *,
        on_price: Callable[[SettlementPrice], None],
        now_ms: Callable[[], int],
        boot_ms: Callable[[], int],
        skips: Skips | None = None,
    ) -> None:
        self.stream, self._skips = stream, skips or Skips()
        self._on_price, self._now_ms, self._boot_ms = on_price, now_ms, boot_ms
        self._heard: dict[str, int | None] = dict.fromkeys(assets)

    def age_ms(self, asset: str) -> int | None:
        """Since the last price of an asset came; None before the first."""
        heard = self._heard[asset]
        return None if heard is None else self._boot_ms() - heard

    async def run(self) -> None:
        """Follow until cancelled."""
        await self.stream.run(self)

    async def talk(self, send: Send, first: bool) -> None:
        """See `Reader`."""
        if first:
            await send(SUBSCRIBE)

    def take(self, message: str | bytes) -> bool:
        """See `Reader`. Data is a price of an asset that is followed."""
        try:
            price = parse_settlement(message)
            if price is None or price.asset not in self._heard:
                return False
            if abs(price.time_ms - self._now_ms()) > _MOST_OFF_MS:
                raise OddError(Code.RANGE, "timestamp", "a price of now in UTC ms", price.time_ms)
        except OddError as error:
            self._skips.count(Origin.RTDS, error.code)
            self.stream.note_odd(error)
            return False
        self._heard[price.asset] = now = self._boot_ms()
        self._on_price(replace(price, boot_ms=now, own_boot_ms=now - (self._now_ms() - price.time_ms)))
        return True


# The last two minutes of one asset's settlement prices, and the known part of a settlement average out of them. Pure.


MOST_SILENT_MS = 3_000
"""The stream brings a price a second; where longer none is known, the average of the others is not relied upon."""


class SettlementAverage:
    """Filled by `add`, which is told one price a second; asked at every price of the lead."""

    def __init__(self, capacity: int = 120) -> None:
        self._prices: deque[tuple[int, float]] = deque(maxlen=capacity)
        self._parts: dict[int, tuple[int, float] | None] = {}  # until the next price: one for each average that runs

    def add(self, price: SettlementPrice) -> None:
        """Take a price. One that is not later than the last is left out."""
        if not self._prices or price.time_ms > self._prices[-1][0]:
            self._prices.append((price.time_ms, price.price))
            self._parts.clear()

    def known(self, from_ms: int, to_ms: int) -> tuple[float, float] | None:
        """(seconds, mean price) of the part of (from, to] that is known, which ends with the newest price.

        None unless prices cover it: none is missing for more than MOST_SILENT_MS, be it at the begin, between, or at the end.
        Times: UTC ms; to_ms is now.
        """
        if from_ms not in self._parts:
            self._parts[from_ms] = self._part(from_ms)
        part = self._parts[from_ms]
        if part is None or not -MOST_SILENT_MS <= to_ms - part[0] <= MOST_SILENT_MS:
            return None
        return (part[0] - from_ms) / 1000, part[1]

    def whole(self, from_ms: int, to_ms: int) -> float | None:
        """The mean price of (from, to], or the price at `to` where both are one; None unless prices cover it to its end."""
        prices = [(time_ms, price) for time_ms, price in self._prices if time_ms <= to_ms]
        if not self._prices or self._prices[-1][0] < to_ms or not prices or to_ms - prices[-1][0] > MOST_SILENT_MS:
            return None
        within = [(time_ms, price) for time_ms, price in prices if time_ms > from_ms] or prices[-1:]
        times = [from_ms, *(time_ms for time_ms, _ in within)] if from_ms < to_ms else []
        if any(later - earlier > MOST_SILENT_MS for earlier, later in pairwise(times)):
            return None
        return sum(price for _, price in within) / len(within)

    def _part(self, from_ms: int) -> tuple[int, float] | None:
        """(time of the newest price, mean) of the prices after `from_ms`."""
        prices = []
        for time_ms, price in reversed(self._prices):
            if time_ms <= from_ms:
                break
            prices.append((time_ms, price))
        times = [*(time_ms for time_ms, _ in prices), from_ms]
        if not prices or any(later - earlier > MOST_SILENT_MS for later, earlier in pairwise(times)):
            return None
        return times[0], sum(price for _, price in prices) / len(prices)
