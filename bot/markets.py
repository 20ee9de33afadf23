"""The markets of the windows that matter: resolved ahead, kept current beside the polls, never waited for by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bot.slots import Slot, Window
from bot.venue.types import Market, Venue, VenueError
from bus import Log

LOOK_EVERY_S = 0.25
RETRY_MS = 2_000  # a late window, or a venue that did not answer
STRIKE_RETRY_MS = 500  # the strike shows some time after the start (venue.md 2.1)
REFRESH_MS = 60_000  # tick size, accepting orders
RESOLUTION_RETRY_MS = 1_500
AHEAD_MS = 30_000
KEEP_AFTER_END_MS = 3_600_000
AT_ONCE = 8


@dataclass(slots=True)
class _Entry:
    market: Market | None
    asked_ms: int
    answered: bool


def retry_after_ms(window: Window, market: Market | None, now_ms: int) -> int:
    """How old an answer may get before the market is asked for again. Pure."""
    if market is None:
        return RETRY_MS
    if now_ms >= window.end_ms and market.winner is None:
        return RESOLUTION_RETRY_MS
    if now_ms >= window.start_ms and market.strike is None:
        return STRIKE_RETRY_MS
    return REFRESH_MS


def wanted_windows(slots: Iterable[Slot], held: Iterable[Window], now_ms: int) -> set[Window]:
    """The windows of all slots now and soon, and those that we hold something of."""
    windows = {slot.window(now_ms) for slot in slots}
    windows |= {slot.window(now_ms + AHEAD_MS) for slot in slots}
    return windows | set(held)


class Markets:
    """What the venue says of each window. `get` never waits."""

    def __init__(self, venue: Venue, slots: tuple[Slot, ...], now_ms: Callable[[], int | None], log: Log) -> None:
        self._venue, self._slots, self._now_ms, self._log = venue, slots, now_ms, log
        self._known: dict[Window, _Entry] = {}
        self._held: frozenset[Window] = frozenset()
        self._failing = False

    def hold(self, windows: Iterable[Window]) -> None:
        """Keep asking for these until they are resolved, whatever the slots say."""
        self._held = frozenset(windows)

    def get(self, window: Window) -> Market | None:
        """The market as last seen; None when the venue does not list it or was not asked yet."""
        entry = self._known.get(window)
        return entry.market if entry else None

    def asked(self, window: Window) -> bool:
        """Whether the venue answered about this window at all."""
        entry = self._known.get(window)
        return entry is not None and entry.answered

    async def run(self) -> None:
        """Keep what is wanted current, until cancelled."""
        gate = asyncio.Semaphore(AT_ONCE)
        while True:
            now = self._now_ms()
            if now is not None:
                due = [window for window in wanted_windows(self._slots, self._held, now) if self._is_due(window, now)]
                async with asyncio.TaskGroup() as group:
                    for window in sorted(due, key=lambda window: window.end_ms):
                        group.create_task(self._ask(window, now, gate))
                self._forget(now)
            await asyncio.sleep(LOOK_EVERY_S)

    def _is_due(self, window: Window, now: int) -> bool:
        entry = self._known.get(window)
        if entry is None:
            return True
        if entry.market is not None and entry.market.winner is not None:
            return False
        return now - entry.asked_ms >= retry_after_ms(window, entry.market, now)

    async def _ask(self, window: Window, now: int, gate: asyncio.Semaphore) -> None:
        before = self._known.get(window)
        async with gate:
            try:
                market = await self._venue.market(window.slug)
            except VenueError as error:
                if not self._failing:
                    self._log.warning("market_lookup_failed", window=window.slug, reason=str(error))
                self._failing = True
                self._known[window] = _Entry(
                    before.market if before else None, now, before.answered if before else False
                )
                return
        self._failing = False
        self._known[window] = _Entry(market, now, answered=True)

    def _forget(self, now: int) -> None:
        for window in [w for w in self._known if w.end_ms < now - KEEP_AFTER_END_MS and w not in self._held]:
            del self._known[window]
