"""The markets of the windows that matter: resolved ahead, kept current beside the polls, never waited for by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from bot.slots import Slot, Window
from bot.venue.decoding import OddError
from bot.venue.types import Market, MarketProblem, ProblemCode, Venue, VenueError
from bus import Log

LOOK_EVERY_S = 0.25
RETRY_MS = 2_000  # a late window, or a venue that did not answer
STRIKE_RETRY_MS = 500  # the strike shows some time after the start (venue.md 2.1)
REFRESH_MS = 60_000  # tick size, accepting orders
RESOLUTION_RETRY_MS = 1_500
PROBLEM_RETRY_MS = 10_000  # what cannot be traded seldom becomes another thing
AHEAD_MS = 30_000
KEEP_AFTER_END_MS = 3_600_000
AT_ONCE = 8


@dataclass(slots=True)
class _Entry:
    market: Market | None
    asked_ms: int
    answered: bool
    problem: MarketProblem | None = None


def retry_after_ms(window: Window, market: Market | None, now_ms: int) -> int:
    """How old an answer may get before the market is asked for again. Pure."""
    if market is None:
        return RETRY_MS
    if now_ms >= window.end_ms and market.winner is None:
        return RESOLUTION_RETRY_MS
    if market.problem is not None:
        return RETRY_MS if market.problem.code is ProblemCode.SHAPE else PROBLEM_RETRY_MS
    if now_ms >= window.start_ms and market.strike is None:
        return STRIKE_RETRY_MS
    return REFRESH_MS


def wanted_windows(slots: Iterable[Slot], held: Iterable[Window], now_ms: int) -> set[Window]:
    """The windows of all slots now and soon, and those that we hold something of."""
    windows = set(held)
    for slot in slots:
        window = slot.window(now_ms)
        # Every one on the way, too: a bot that only just started finds none of them known when it begins.
        ahead = range(now_ms, now_ms + AHEAD_MS, window.end_ms - window.start_ms)
        windows |= {slot.window(moment) for moment in (*ahead, now_ms + AHEAD_MS)}
    return windows


class Markets:
    """What the venue says of each window. `get` never waits."""

    def __init__(self, venue: Venue, slots: tuple[Slot, ...], now_ms: Callable[[], int | None], log: Log) -> None:
        self._venue, self._slots, self._now_ms, self._log = venue, slots, now_ms, log
        self._known: dict[Window, _Entry] = {}
        self._held: frozenset[Window] = frozenset()
        self._assets: dict[str, str] = {}
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

    def problem(self, window: Window) -> MarketProblem | None:
        """Why nothing of this window is bought, whatever else the venue says of it; None where nothing is known against it."""
        entry = self._known.get(window)
        return entry.problem if entry else None

    def asset_of(self, token_id: str) -> str | None:
        """The asset of a token's window, of those that are known."""
        return self._assets.get(token_id)

    def set_tick(self, token_id: str, tick: Decimal) -> None:
        """The venue said that a token's tick is another one from now on."""
        for entry in self._known.values():
            market = entry.market
            if market is not None and token_id in (market.up_token, market.down_token):
                entry.market = replace(market, tick=tick)

    def look_soon(self, condition_id: str) -> None:
        """The venue said that a market changed: ask about it at the next look."""
        for entry in self._known.values():
            if entry.market is not None and entry.market.condition_id == condition_id:
                entry.asked_ms = 0

    async def run(self) -> None:
        """Keep what is wanted current, until cancelled. One answer that is long in coming keeps no other window waiting."""
        gate = asyncio.Semaphore(AT_ONCE)
        asking: set[Window] = set()

        async def ask(window: Window) -> None:
            try:
                await self._ask(window, gate)
            finally:
                asking.discard(window)

        async with asyncio.TaskGroup() as group:
            while True:
                now = self._now_ms()
                if now is not None:
                    wanted = wanted_windows(self._slots, self._held, now) - asking
                    due = [window for window in wanted if self._is_due(window, now)]
                    for window in sorted(due, key=lambda window: window.end_ms):
                        asking.add(window)
                        group.create_task(ask(window))
                    self._forget(now)
                await asyncio.sleep(LOOK_EVERY_S)

    def _is_due(self, window: Window, now: int) -> bool:
        entry = self._known.get(window)
        if entry is None:
            return True
        if entry.market is not None and entry.market.winner is not None:
            return False
        return now - entry.asked_ms >= retry_after_ms(window, entry.market, now)

    async def _ask(self, window: Window, gate: asyncio.Semaphore) -> None:
        async with gate:
            now = self._now_ms() or 0
            before = self._known.get(window)
            try:
                market = await self._venue.market(window.slug)
            except OddError as error:
                self._take(window, before.market if before else None, now, self._odd(window, error))
                return
            except VenueError as error:
                if not self._failing:
                    self._log.warning("market_lookup_failed", window=window.slug, reason=str(error))
                self._failing = True
                self._known[window] = _Entry(
                    before.market if before else None,
                    now,
                    before.answered if before else False,
                    before.problem if before else None,
                )
                return
        self._failing = False
        self._take(window, market, now, None if market is None else market.problem)
        if market is not None:
            self._assets[market.up_token] = self._assets[market.down_token] = window.asset

    def _odd(self, window: Window, error: OddError) -> MarketProblem:
        return MarketProblem(ProblemCode.SHAPE, f"the market {window.slug} cannot be read: {error}")

    def _take(self, window: Window, market: Market | None, now: int, problem: MarketProblem | None) -> None:
        """Keep what was answered. A market that is held goes on being known when an answer about it cannot be read."""
        before = self.problem(window)
        if problem is not None and (before is None or before.code is not problem.code):
            self._log.error(
                "market_not_traded",
                window=window.slug,
                code=problem.code,
                reason=problem.text,
                action="nothing of it is bought; what is held of it may be sold; see whether a newer release knows it",
            )
        if market is not None:
            market = replace(market, problem=problem)
        self._known[window] = _Entry(market, now, answered=market is not None or problem is None, problem=problem)

    def _forget(self, now: int) -> None:
        for window in [w for w in self._known if w.end_ms < now - KEEP_AFTER_END_MS and w not in self._held]:
            market = self._known.pop(window).market
            if market is not None:
                self._assets.pop(market.up_token, None)
                self._assets.pop(market.down_token, None)
