"""The markets of the windows that matter: resolved ahead, kept current beside the polls, never waited for by one.

Every look is a request or two, so they are paced (`bot.venue.pace`): each window once a second at most, who waited longest
first, and a standby asks for what it needs alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from bot.slots import Slot, Window
from bot.venue.decoding import OddError
from bot.venue.pace import RequestPace
from bot.venue.types import Market, MarketProblem, ProblemCode, Venue, VenueError
from bus import Log

LOOK_EVERY_S = 0.25
RETRY_MS = 2_000  # a late window, or a venue that did not answer
STRIKE_RETRY_MS = 1_000  # the strike was recorded to show 20 to 90 s after the start
STANDBY_STRIKE_RETRY_MS = 10_000  # who does not trade needs it when it takes over
REFRESH_MS = 60_000  # tick size, accepting orders
RESOLUTION_RETRY_MS, LONGEST_RESOLUTION_RETRY_MS = 1_500, 30_000
"""How soon after its end a window is asked for again: a tenth of the time since then, within these."""
PROBLEM_RETRY_MS = 10_000  # what cannot be traded seldom becomes another thing
AHEAD_MS = 30_000
KEEP_AFTER_END_MS = 3_600_000
AT_ONCE = 8
TICK_MS = 60_000
"""How long a tick that the stream told is believed against what is read: the exchange's view may be read from a cache."""


@dataclass(slots=True)
class _Entry:
    market: Market | None
    asked_ms: int
    answered: bool
    problem: MarketProblem | None = None
    tick_told: tuple[Decimal, int] | None = None


def retry_after_ms(window: Window, market: Market | None, now_ms: int, *, is_trader: bool = True) -> int:
    """How old an answer may get before the market is asked for again. Pure."""
    if market is None:
        return RETRY_MS
    if now_ms >= window.end_ms and market.winner is None:
        return min(max(RESOLUTION_RETRY_MS, (now_ms - window.end_ms) // 10), LONGEST_RESOLUTION_RETRY_MS)
    if market.problem is not None:
        return RETRY_MS if market.problem.code is ProblemCode.SHAPE else PROBLEM_RETRY_MS
    if now_ms >= window.start_ms and market.strike is None:
        return STRIKE_RETRY_MS if is_trader else STANDBY_STRIKE_RETRY_MS
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
    """What the venue says of each window. `get` never waits.

    Attributes:
        is_trader: whether this instance holds the lease, and needs strikes as soon as they are there.
    """

    def __init__(
        self,
        venue: Venue,
        slots: tuple[Slot, ...],
        now_ms: Callable[[], int | None],
        log: Log,
        pace: RequestPace | None = None,
    ) -> None:
        self._venue, self._slots, self._now_ms, self._log = venue, slots, now_ms, log
        self._known: dict[Window, _Entry] = {}
        self._held: frozenset[Window] = frozenset()
        self._assets: dict[str, str] = {}
        self._failing = False
        self._pace = pace or RequestPace(lambda: now_ms() or 0)
        self.is_trader = False

    def hold(self, windows: Iterable[Window]) -> None:
        """Keep asking for these until they are resolved, whatever the slots say."""
        self._held = frozenset(windows)

    @property
    def held(self) -> frozenset[Window]:
        """The windows that we hold something of."""
        return self._held

    def stand_by(self) -> None:
        """The lease is passed on: whoever holds it asks for what is held."""
        self.is_trader, self._held = False, frozenset()

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
                entry.tick_told = (tick, self._now_ms() or 0)

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
                    self._pace.is_warming = any(slot.window(now) not in self._known for slot in self._slots)
                    for window in sorted(due, key=self._asked_ms):
                        if not self._pace.take(self._cost(window)):
                            break
                        asking.add(window)
                        group.create_task(ask(window))
                    self._forget(now)
                await asyncio.sleep(LOOK_EVERY_S)

    def _asked_ms(self, window: Window) -> tuple[int, int]:
        """For the order in which windows are asked for: who waited longest first."""
        entry = self._known.get(window)
        return (0 if entry is None else entry.asked_ms, window.end_ms)

    def _cost(self, window: Window) -> int:
        """Requests of one look: the exchange's view is asked for anew once a minute alone."""
        entry = self._known.get(window)
        if entry is None or entry.market is None:
            return 2
        return 1 if (self._now_ms() or 0) - entry.asked_ms < REFRESH_MS else 2

    def _is_due(self, window: Window, now: int) -> bool:
        entry = self._known.get(window)
        if entry is None:
            return True
        if entry.market is not None and entry.market.winner is not None:
            return False
        return now - entry.asked_ms >= retry_after_ms(window, entry.market, now, is_trader=self.is_trader)

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
                    before.tick_told if before else None,
                )
                return
        self._failing = False
        if market is None and before is not None:
            # One that was listed does not go: any error whose text has "not found" is answered with 404 (docs error codes).
            market = before.market
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
        entry = self._known.get(window)
        told = entry.tick_told if entry is not None and entry.tick_told and now - entry.tick_told[1] < TICK_MS else None
        if market is not None:
            market = replace(market, problem=problem, tick=market.tick if told is None else told[0])
        is_answered = market is not None or problem is None
        self._known[window] = _Entry(market, now, is_answered, problem, told)

    def _forget(self, now: int) -> None:
        for window in [w for w in self._known if w.end_ms < now - KEEP_AFTER_END_MS and w not in self._held]:
            market = self._known.pop(window).market
            if market is not None:
                self._assets.pop(market.up_token, None)
                self._assets.pop(market.down_token, None)
