"""What every poll looks at, with or without the lease: the feeds, the markets, the account, the clock."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bot.market_data.binance import BinanceFeed
from bot.market_data.books import Books
from bot.market_data.debounce import PriceTrigger
from bot.market_data.market_channel import MarketChannel
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementFeed
from bot.reasons import Reason, ReasonCode
from bot.settings import BotSettings
from bot.slots import Slot, slot_of
from bot.strategy.evaluation import Evaluation, Moment, View, evaluate, read_state_basis, wanted_tokens
from bot.strategy.guard import GuardedStrategy
from bot.venue.account_watch import AccountWatch
from bot.venue.decoding import Skips
from bot.venue.pace import RequestPace
from bot.venue.types import Venue, VenueError
from bus import Bus, Clock, FeedStatus, Log
from ledger import Identity, LastState

FRESH_MS = 5_000
BOOKS_LIMIT_S = 2.0
SUBSCRIBE_AHEAD_MS = 15_000
REREAD_AFTER_S = 0.005  # one request for all slots of an evaluation, and its answer is later than what they counted
REREAD_SPACING_S = 0.5  # between two requests for books in doubt: the venue's answers are counted (venue.md 4.1)


@dataclass(frozen=True, slots=True)
class Context:
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
    strategy: GuardedStrategy
    books: Books
    news: PriceTrigger
    settlement: SettlementFeed | None = None
    skips: Skips = field(default_factory=Skips)
    pace: RequestPace | None = None
    _channels: list[MarketChannel] = field(default_factory=list)
    _failed: dict[str, str] = field(default_factory=dict)

    def now_ms(self) -> int:
        """The venue's time in UTC ms; this machine's until the venue told it."""
        venue_ms = self.account.now_ms()
        return self.clock.wall_ms() if venue_ms is None else venue_ms

    def moment(self) -> Moment:
        """Now, as evaluation states are dated."""
        return Moment(self.clock.boot_ms(), self.clock.boot_id, self.settings.interval_ms)

    def go_on_from(self, last: LastState | None) -> LastState | None:
        """Take over what the trader before knew of the basis, which takes minutes to learn; what it left is returned."""
        if last is not None:
            self.prices.inherit_basis(read_state_basis(last.state), self.now_ms())
        return last

    def lead_problem(self, asset: str) -> Reason | None:
        """Why no entry may stand on an asset's lead price now, or None."""
        return self.stale_feed(asset) or self.prices.doubt(asset) or self.prices.basis(asset, self.now_ms()).problem

    def stale_feed(self, asset: str) -> Reason | None:
        """Why an asset's lead price cannot be relied upon, or None."""
        age = self.feed.age_ms(asset)  # asked for each slot: not the whole state
        if age is None:
            return _stale(f"no price of {asset} yet")
        return _stale(f"the price of {asset} is {age / 1000:.1f} s old") if age > FRESH_MS else None

    def feed_status(self) -> tuple[FeedStatus, ...]:
        """The feeds for status."""
        state = self.feed.state()
        lead = tuple(
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
        by_asset: dict[str, list[Slot]] = defaultdict(list)
        for slot in self.slots:
            by_asset[slot.asset].append(slot)
        books = tuple(self._book_status(asset, by_asset[asset]) for asset in state.age_ms)
        return lead + books + (() if self.settlement is None else _settlement_status(self.settlement, state.age_ms))

    def tokens(self) -> list[str]:
        """The tokens whose books matter now."""
        now = self.now_ms()
        return wanted_tokens((*self.slots, *self.held_slots(now)), self.markets, now)

    def held_slots(self, now_ms: int) -> tuple[Slot, ...]:
        """Slots for what is held in windows that no slot of ours covers now, so that it is looked at and can be sold."""
        covered = {slot.window(now_ms) for slot in self.slots}
        return tuple(
            slot_of(window, now_ms) for window in sorted(self.markets.held - covered) if now_ms < window.end_ms
        )

    def tokens_soon(self) -> list[str]:
        """The same with the windows that begin soon, whose books are to be there when they do; others are forgotten."""
        now = self.now_ms()
        soon = wanted_tokens(self.slots, self.markets, now + SUBSCRIBE_AHEAD_MS)
        tokens = list(dict.fromkeys([*self.tokens(), *soon]))
        self.books.keep(tokens)
        return tokens

    def use_channel(self, channel: MarketChannel) -> None:
        """The stream that brings the books."""
        self._channels.append(channel)
        self.books.renew = channel.renew

    async def read_books(self) -> Reason | None:
        """Read by REST what the stream did not bring; why that could not be had, or None. Ends within half an interval."""
        return await self._ask_books(self.books.missing(self.tokens()))

    async def reread_forever(self) -> None:
        """Ask at once for books in doubt or awaited by a decision, and again until they came. What they say then is news."""
        failed = 0
        while True:
            await self.books.reread.wait()
            await asyncio.sleep(REREAD_AFTER_S)
            self.books.reread.clear()
            asked = self.books.to_reread()
            problem = await self._ask_books(asked)
            failed = 0 if problem is None else failed + 1
            if failed and failed & (failed - 1) == 0:  # the 1st, 2nd, 4th ... in a row: a venue may be away for long
                self.log.warning("books_still_in_doubt", reason=problem, books=len(asked), tries=failed)
            for token_id in asked:
                asset = self.markets.asset_of(token_id)
                if token_id in self.books and asset is not None:
                    self.news.note(asset)
            await asyncio.sleep(REREAD_SPACING_S)
            if self.books.to_reread():
                self.books.reread.set()

    async def _ask_books(self, missing: list[str]) -> Reason | None:
        if not missing:
            return None
        limit_s = min(BOOKS_LIMIT_S, self.settings.poll_interval / 2)
        try:
            async with asyncio.timeout(limit_s):
                self.books.answer(await self.venue.books(missing))
        except TimeoutError:
            return _stale(f"the books did not come within {limit_s:g} s")
        except VenueError as error:
            return _stale(f"the books could not be read: {error}")
        return None

    def evaluate(self, view: View, slots: Iterable[Slot] | None = None) -> list[Evaluation]:
        """One evaluation of all slots, or of these."""
        if slots is None:
            beside = self.held_slots(view.now_ms)
            self.prices.follow(slot.asset for slot in beside)
            slots = (*self.slots, *beside)
        evaluations = evaluate(slots, self.markets, self.prices, view)
        for e in evaluations:
            if e.awaits_books and e.market is not None:
                self.books.confirm((e.market.up_token, e.market.down_token))
            if e.error is None:
                self._failed.pop(e.slot.id, None)
            elif self._failed.get(e.slot.id) != e.decision.reason:  # said once and not at every price
                self._failed[e.slot.id] = e.decision.reason
                self.log.error("slot_failed", slot=e.slot.id, reason=e.decision.reason, exc_info=e.error)
        return evaluations

    def why_unhealthy(self, evaluations: list[Evaluation]) -> Reason | None:
        """Why a poll was not healthy (design section 5), but for what the venue did not answer; or None."""
        evaluations = self._of_ours(evaluations)
        for asset in {e.slot.asset: None for e in evaluations if e.decision.code is not ReasonCode.OFF}:
            if (stale := self.stale_feed(asset)) is not None:
                return stale
        return next((_of_slot(e) for e in evaluations if e.error is not None), None)

    def venue_is_silent(self, evaluations: list[Evaluation], books_problem: Reason | None) -> Reason | None:
        """What the venue did not answer without which no poll is healthy, or None."""
        for e in self._of_ours(evaluations):
            if not e.evaluated and e.error is None and self.markets.problem(e.window) is None:
                return _of_slot(e)
        if self.account.now_ms() is None:
            return Reason(ReasonCode.CLOCK, "the venue's clock is not known yet")
        return books_problem or self.account.stale

    def not_traded(self, evaluations: list[Evaluation]) -> Reason | None:
        """Which slot's market is none that this release can trade, or None.

        It makes an active poll unhealthy, and keeps nobody from the lease:
        the other slots are traded, and another release finds the same market."""
        for e in evaluations:
            problem = self.markets.problem(e.window)
            if problem is not None and e.decision.code is not ReasonCode.OFF:
                return problem.reason.within(f"slot {e.slot.id}: ")
        return None

    def _of_ours(self, evaluations: list[Evaluation]) -> list[Evaluation]:
        """Those of configured slots: what is held beside them makes no poll unhealthy."""
        ours = set(self.slots)
        return [e for e in evaluations if e.slot in ours]

    def _book_status(self, asset: str, slots: list[Slot]) -> FeedStatus:
        """The books of an asset: as old as the oldest of those that its slots look at."""
        now = self.now_ms()
        markets = [self.markets.get(slot.window(now)) for slot in slots]
        tokens = [token for market in markets if market for token in (market.up_token, market.down_token)]
        ages = [self.books.age_ms(token) for token in tokens]
        known_ages = [age for age in ages if age is not None]
        return FeedStatus(
            name=f"books {asset}",
            connected=any(channel.stream.is_open for channel in self._channels),
            age_ms=max(known_ages) if known_ages and len(known_ages) == len(ages) else None,
            fresh=bool(tokens) and all(token in self.books for token in tokens),
            reconnects=sum(max(0, channel.stream.connects - 1) for channel in self._channels),
            gaps=self.books.gaps,
        )


def _stale(text: str) -> Reason:
    return Reason(ReasonCode.STALE_DATA, text)


def _of_slot(e: Evaluation) -> Reason:
    return Reason(e.decision.code, f"slot {e.slot.id}: {e.decision.reason}")


def _settlement_status(feed: SettlementFeed, assets: Iterable[str]) -> tuple[FeedStatus, ...]:
    """The settlement prices. No poll is unhealthy without them: the lead's prices take their place."""
    ages = [(asset, feed.age_ms(asset)) for asset in assets]
    return tuple(
        FeedStatus(
            name=f"settlement {asset}",
            connected=feed.stream.is_live,
            age_ms=age,
            fresh=age is not None and age <= FRESH_MS,
            reconnects=max(0, feed.stream.connects - 1),
            gaps=feed.stream.gaps,
        )
        for asset, age in ages
    )
