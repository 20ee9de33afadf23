"""What every poll looks at, with or without the lease: the feeds, the markets, the account, the clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bot.account import AccountWatch
from bot.evaluation import Evaluation, View, evaluate, wanted_tokens
from bot.feeds import BinanceFeed
from bot.markets import Markets
from bot.prices import Prices
from bot.settings import BotSettings
from bot.slots import Slot
from bot.venue.types import Book, Venue, VenueError
from bus import Bus, Clock, FeedStatus, Identity, Log

FRESH_MS = 5_000
BOOKS_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class World:
    """The parts of one instance that outlive its roles."""

    settings: BotSettings
    identity: Identity
    bus: Bus
    clock: Clock
    log: Log
    slots: tuple[Slot, ...]
    venue: Venue
    feed: BinanceFeed
    prices: Prices
    markets: Markets
    account: AccountWatch

    def now_ms(self) -> int:
        """The venue's time in UTC ms; this machine's until the venue told it."""
        told = self.account.now_ms()
        return self.clock.wall_ms() if told is None else told

    def stale_feed(self, asset: str) -> str | None:
        """Why an asset's lead price cannot be relied upon, or None."""
        age = self.feed.state().age_ms.get(asset)
        if age is None:
            return f"no price of {asset} yet"
        return f"the price of {asset} is {age / 1000:.1f} s old" if age > FRESH_MS else None

    def feed_status(self) -> tuple[FeedStatus, ...]:
        """The feeds for status."""
        state = self.feed.state()
        return tuple(
            FeedStatus(
                name=f"binance {asset}",
                connected=state.connected,
                age_ms=age,
                fresh=age is not None and age <= FRESH_MS,
                reconnects=max(0, state.connects - 1),
                gaps=state.gaps,
            )
            for asset, age in state.age_ms.items()
        )

    async def books(self) -> tuple[dict[str, Book], str | None]:
        """The books that a poll needs, and why they could not be had. Ends within half an interval."""
        tokens = wanted_tokens(self.slots, self.markets, self.now_ms())
        if not tokens:
            return {}, None
        limit_s = min(BOOKS_LIMIT_S, self.settings.poll_interval / 2)
        try:
            async with asyncio.timeout(limit_s):
                return await self.venue.books(tokens), None
        except TimeoutError:
            return {}, f"the books did not come within {limit_s:g} s"
        except VenueError as error:
            return {}, f"the books could not be read: {error}"

    def evaluate(self, view: View) -> list[Evaluation]:
        """One evaluation of all slots."""
        evaluations = evaluate(self.slots, self.markets, self.prices, view)
        for e in evaluations:
            if e.error is not None:
                self.log.error("slot_failed", slot=e.slot.id, reason=e.decision.reason, exc_info=e.error)
        return evaluations

    def why_unhealthy(self, evaluations: list[Evaluation], books_problem: str | None) -> str | None:
        """Why a poll was not healthy (design section 5), or None."""
        for asset in {e.slot.asset: None for e in evaluations if e.decision.reason != "switched off"}:
            if (stale := self.stale_feed(asset)) is not None:
                return stale
        for e in evaluations:
            if not e.evaluated:
                return f"slot {e.slot.id}: {e.decision.reason}"
        if self.account.now_ms() is None:
            return "the venue's clock is not known yet"
        return books_problem or self.account.stale
