"""Binance's combined stream of lead prices.

Binance closes every connection after 24 h and announces a restart with `serverShutdown`; both are forestalled by a planned
replacement (see `bot.venue.stream`), and what two connections bring is delivered once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.market_data.binance_messages import PriceUpdate, Shutdown, Source, parse, symbol
from bot.venue.decoding import OddError, Origin, Skips
from bot.venue.stream import Reader, Stream, Timing
from bus import Log

LEAD_TIMING = Timing(lifetime_s=23 * 3600.0)
FORGET_MS = 5_000  # what two connections bring twice comes twice within moments


@dataclass(frozen=True, slots=True)
class FeedState:
    """What a person and the health check want to know.

    connected: data arrives now. connects: connections made. gaps: times that data was interrupted (a planned
    replacement is none). age_ms: since the last update of each asset; None where none came yet.
    """

    connected: bool
    connects: int
    gaps: int
    parse_errors: int
    last_error: str
    age_ms: Mapping[str, int | None]


class BinanceFeed(Reader):
    """The prices of some assets; `on_update` is called in the loop for each update, and must not block.

    Args:
        stream: at `stream_url` of these assets.
        assets: upper case, for example BTC; their pairs with USDT are read.
        after_updates: called in the same turn of the loop, once all that one read of the socket brought was delivered.
        boot_ms: CLOCK_BOOTTIME in ms.
        skips: counts the messages that could not be read.
    """

    def __init__(
        self,
        stream: Stream,
        assets: tuple[str, ...],
        *,
        on_update: Callable[[PriceUpdate], None],
        boot_ms: Callable[[], int],
        log: Log,
        after_updates: Callable[[], None] = lambda: None,
        skips: Skips | None = None,
    ) -> None:
        self._stream, self._log, self._skips = stream, log, skips or Skips()
        self._on_update, self._after_updates, self._boot_ms = on_update, after_updates, boot_ms
        self._assets = {symbol(asset): asset for asset in assets}
        self._last_number: dict[tuple[str, Source], tuple[int, int]] = {}  # and when it came
        self._last_boot_ms: dict[str, int] = {}

    def age_ms(self, asset: str) -> int | None:
        """How long ago an asset's last update came; None where none came yet."""
        at = self._last_boot_ms.get(asset)
        return None if at is None else max(0, self._boot_ms() - at)

    def state(self) -> FeedState:
        """The state now."""
        return FeedState(
            connected=self._stream.is_live,
            connects=self._stream.connects,
            gaps=self._stream.gaps,
            parse_errors=self._stream.parse_errors,
            last_error=self._stream.last_error,
            age_ms={asset: self.age_ms(asset) for asset in self._assets.values()},
        )

    async def run(self) -> None:
        """Read until cancelled. Ends by itself only with an exception of `on_update` or `after_updates`."""
        await self._stream.run(self)

    def after_read(self) -> None:
        """See `Reader`."""
        self._after_updates()

    def lost(self) -> None:
        """See `Reader`. Numbers may start anew after a gap; within an overlap they do not."""
        self._last_number.clear()

    def take(self, message: str | bytes) -> bool:
        """See `Reader`."""
        try:
            update = parse(message, self._assets, self._boot_ms())
        except OddError as error:
            self._skips.count(Origin.BINANCE_STREAM, error.code)
            self._stream.note_odd(error)
            return False
        if isinstance(update, Shutdown):
            self._log.info("feed_shutdown_announced")
            self._stream.replace()
            return False
        if update is None:
            return False
        key, now = (update.update.asset, update.update.source), update.update.boot_ms
        last, at = self._last_number.get(key, (-1, now))
        # Later than that the last number was an odd one: one far too high would otherwise hold back every price after it.
        if update.number > last or now - at > FORGET_MS:
            self._last_number[key] = (update.number, now)
            self._last_boot_ms[update.update.asset] = now
            self._on_update(update.update)
        return True
