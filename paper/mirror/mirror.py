"""Frames of a real exchange into the one of play money, and on to whoever listens there."""

from __future__ import annotations

import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from paper.engine.book import ONE, Book, format_units
from paper.engine.markets import OUTCOMES, Market
from paper.engine.matching import Placement
from paper.engine.prices import ASSETS
from paper.errors import UsageError
from paper.mirror.clock import TimeMap
from paper.mirror.exchange import MirrorExchange
from paper.streams.prices import Second, rtds_symbol
from recording import (
    BookEvent,
    BookState,
    CandlesEvent,
    ChangeEvent,
    Event,
    Feed,
    Frame,
    MarketEvent,
    OddFrame,
    Origin,
    PriceEvent,
    ResolvedEvent,
    RulesEvent,
    TickEvent,
    TradeEvent,
    decode,
)

_LOG = logging.getLogger("paper")

GRACE_MS = 1_000
"""A book that cannot be believed, or is not connected, for longer offers nothing: what is not known cannot be traded."""

_TRADES = 1_000  # whose repetition is noticed
_TOPICS = {
    Feed.RTDS_BINANCE: "crypto_prices",
    Feed.CHAINLINK: "crypto_prices_chainlink",
    Feed.TWAP_30: "crypto_prices_twap_thirty",
    Feed.TWAP_60: "crypto_prices_twap_sixty",
}


@dataclass(slots=True)
class _Followed:
    """One market: its book in terms of Up as the real exchange has it, and since when it is in doubt (UTC ms; None: not)."""

    market: Market
    real_tokens: tuple[str, str]
    state: BookState
    doubt_ms: int | None = None
    touched: set[tuple[bool, int]] = field(default_factory=set)
    whole: bool = False  # a snapshot came in this frame


class Mirror:
    """Takes frames as `recording.streams.Sink` does.

    Args:
        exchange: what is served.
        times: from the times of the frames to those of now.
        clock: UTC ms by which frames are received.
        refresh: asks for the books of some tokens anew; settled: they can be believed again.
        look_soon: asks about a market soon.
    """

    def __init__(
        self,
        exchange: MirrorExchange,
        times: TimeMap,
        clock: Callable[[], int],
        *,
        refresh: Callable[[Iterable[str]], None] = lambda _tokens: None,
        settled: Callable[[Iterable[str]], None] = lambda _tokens: None,
        look_soon: Callable[[str], None] = lambda _condition: None,
    ) -> None:
        self._exchange, self.times, self._clock = exchange, times, clock
        self.refresh, self.settled, self.look_soon = refresh, settled, look_soon
        self._followed: dict[str, _Followed] = {}  # by condition
        self._by_token: dict[str, tuple[_Followed, int]] = {}
        self._trades: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._rules: OrderedDict[str, RulesEvent] = OrderedDict()
        self._means: dict[tuple[str, Feed], float] = {}
        self.counts: Counter[str] = Counter()
        """Frames by source, and what was odd, doubted, withdrawn."""

    # Frames, live or played.

    def frame(self, source: str, text: str) -> None:
        """Take a message that came now."""
        self.take(Frame(self._clock(), source, text))

    def opened(self, source: str) -> None:
        """A connection stands: snapshots come next."""
        if source == Origin.CLOB:
            for followed in self._followed.values():
                followed.state.venue_ms = 0  # changes mean nothing before the snapshot

    def lost(self, source: str, reason: str) -> None:
        """A connection is gone: what books are like now, nobody knows."""
        self.counts[f"lost {source}"] += 1
        _LOG.warning("upstream lost", extra={"facts": {"source": source, "reason": reason}})
        if source == Origin.CLOB:
            now = self._exchange.clock()
            for followed in self._followed.values():
                self._doubt(followed, "its connection is gone", now)

    def take(self, frame: Frame) -> None:
        """Take a frame."""
        self.counts[frame.source] += 1
        events = decode(frame)
        for event in events:
            self._take(event)
        self._settle_books()
        if frame.source in (Origin.RTDS, Origin.BINANCE) and any(isinstance(event, PriceEvent) for event in events):
            self._pass_on(frame, events)

    def look(self) -> None:
        """Withdraw what was in doubt for too long, and forget what is over; to be called a few times a second."""
        now = self._exchange.clock()
        for condition, followed in [*self._followed.items()]:
            if followed.market.winner is not None:
                del self._followed[condition]
                for token in followed.real_tokens:
                    self._by_token.pop(token, None)
            elif followed.doubt_ms is not None and now - followed.doubt_ms > GRACE_MS:
                mirrored = self._exchange.mirrored_book(followed.market)
                if mirrored.sizes and now < followed.market.window.end_ms:
                    self.counts["withdrawn"] += 1
                    mirrored.withdraw(now)
                    self._publish(followed.market)

    def _take(self, event: Event) -> None:
        match event:
            case BookEvent() | ChangeEvent():
                self._take_book(event)
            case TradeEvent():
                self._take_trade(event)
            case PriceEvent():
                self._take_price(event)
            case MarketEvent():
                self._take_market(event)
            case RulesEvent():
                self._take_rules(event)
            case TickEvent():
                known = self._by_token.get(event.token_id)
                if known is not None:
                    self._set_tick(known[0].market, event.tick)
            case CandlesEvent():
                shown = [self.times.shown(row[0]) for row in event.rows]
                self._exchange.feed.candles(event, shown)
            case ResolvedEvent():
                self.look_soon(event.condition_id)
            case OddFrame():
                self._take_odd(event)
            case _:
                pass  # best prices by themselves say nothing that the levels do not

    # Markets.

    def _take_market(self, event: MarketEvent) -> None:
        if event.asset not in ASSETS:
            return
        try:
            window = self.times.window(event.asset, event.timeframe, event.start_ms)
        except (UsageError, ValueError):
            self.counts["unknown timeframe"] += 1
            return
        rules = self._rules.get(event.condition_id)
        delay_ms = event.delay_ms if event.delay_ms is not None else rules.delay_ms if rules is not None else None
        average_ms = None if event.average_ms is None else self.times.length(event.average_ms)
        markets = self._exchange.markets
        shown_delay = None if delay_ms is None else self.times.length(delay_ms)
        market, is_new = markets.take(event, window, average_ms, shown_delay)
        if market.winner is not None:
            return
        if event.condition_id not in self._followed:
            followed = _Followed(market, event.token_ids, BookState(event.condition_id))
            self._followed[event.condition_id] = followed
            for outcome, token in enumerate(event.token_ids):
                self._by_token[token] = followed, outcome
        tick = event.tick if event.tick is not None else rules.tick if rules is not None else None
        if is_new and tick:
            self._set_tick(market, tick)
        if not market.announced:
            market.announced = True
            now = self._exchange.clock()
            self._exchange.market_streams.publish_new(market.window, self._exchange.book(market).tick, now)

    def _take_rules(self, event: RulesEvent) -> None:
        self._rules[event.condition_id] = event
        if len(self._rules) > _TRADES:
            self._rules.popitem(last=False)
        followed = self._followed.get(event.condition_id)
        if followed is None:
            return
        market = followed.market
        if market.delay_ms is None and (event.delay_ms is not None or not event.held):
            market.delay_ms = self.times.length(event.delay_ms or 0)

    def _set_tick(self, market: Market, tick: int) -> None:
        book = self._exchange.book(market)
        before = book.tick
        if tick != before and 0 < tick < ONE and ONE % tick == 0:
            self._exchange.markets.set_tick(market, tick)
            self._exchange.market_streams.publish_tick(book, before, self._exchange.clock())

    # Books and trades.

    def _take_book(self, event: BookEvent | ChangeEvent) -> None:
        known = self._by_token.get(event.token_id)
        if known is None:
            return
        followed, outcome = known
        event = to_up(event, outcome)
        state = followed.state
        if isinstance(event, ChangeEvent):
            if not state.venue_ms:
                return  # what else is in the book, nobody knows yet
            if state.take(event):
                followed.touched.add((event.is_bid, event.price))
                state.check(event)
            return
        if state.take(event):
            followed.whole = True
            if event.tick:
                self._set_tick(followed.market, event.tick)

    def _settle_books(self) -> None:
        """What the frame did, as a whole: between two changes of one frame a book may look crossed."""
        now = self._exchange.clock()
        for followed in [one for one in self._followed.values() if one.touched or one.whole]:
            touched, whole = followed.touched, followed.whole
            followed.touched, followed.whole = set(), False
            state = followed.state
            if state.doubt:
                self._doubt(followed, state.doubt, now)
                continue
            if whole:
                self.settled(followed.real_tokens)
            if followed.doubt_ms is not None:
                if not whole:
                    continue  # only a snapshot ends a doubt
                followed.doubt_ms = None
            if now >= followed.market.window.end_ms:
                continue
            mirrored = self._exchange.mirrored_book(followed.market)
            if whole:
                placements = mirrored.snapshot(state.bids.items(), state.asks.items(), now)
            else:
                sides = {True: state.bids, False: state.asks}
                placements = mirrored.apply([(level, sides[level[0]].get(level[1], 0)) for level in touched], now)
            self._placed(placements, followed.market)
            self._publish(followed.market)

    def _doubt(self, followed: _Followed, why: str, now: int) -> None:
        if followed.doubt_ms is None:
            followed.doubt_ms = now
            self.counts["doubted"] += 1
            _LOG.info("book in doubt", extra={"facts": {"slug": followed.market.window.slug, "reason": why}})
        self.refresh(followed.real_tokens)

    def _take_odd(self, event: OddFrame) -> None:
        self.counts["odd"] += 1
        known = self._by_token.get(event.token_id)
        if known is not None:
            known[0].state.doubt = event.reason
            known[0].touched.add((True, 0))

    def _take_trade(self, event: TradeEvent) -> None:
        known = self._by_token.get(event.token_id)
        # Both tokens, or a frame that came twice, may tell of one trade.
        name = (
            event.condition_id,
            event.transaction,
            event.token_id,
            event.venue_ms,
            event.price,
            event.size,
            event.is_buy,
        )
        if known is None or name in self._trades:
            return
        self._trades[name] = None
        if len(self._trades) > _TRADES:
            self._trades.popitem(last=False)
        followed, outcome = known
        market, now = followed.market, self._exchange.clock()
        if now >= market.window.end_ms or market.winner is not None:
            return
        book = self._exchange.book(market)
        lifts_asks = event.is_buy == (outcome == 0)
        up_price = event.price if outcome == 0 else ONE - event.price
        if followed.doubt_ms is None:
            mirrored = self._exchange.mirrored_book(market)
            self._placed(mirrored.trade(lifts_asks=lifts_asks, up_price=up_price, size=event.size, now_ms=now), market)
        self._print(market, book, outcome, event, now)
        self._publish(market)

    def _print(self, market: Market, book: Book, outcome: int, event: TradeEvent, now: int) -> None:
        """Show a trade of others."""
        side = "BUY" if event.is_buy else "SELL"
        book.last_price = event.price if outcome == 0 else ONE - event.price
        book.last_side = "BUY" if event.is_buy == (outcome == 0) else "SELL"
        book.volume += event.price * event.size // ONE
        streams = self._exchange.market_streams
        streams.publish_print(book, outcome, side, event.price, event.size, event.transaction, now)
        self._exchange.orders.flow.appendleft(
            {
                "time_ms": now,
                "slug": market.window.slug,
                "outcome": OUTCOMES[outcome],
                "side": side,
                "price": format_units(event.price),
                "size": format_units(event.size),
                "whose": "the real exchange",
            }
        )

    def _placed(self, placements: list[Placement], market: Market) -> None:
        for placement in placements:
            self._exchange.orders.placed(placement, market, "")

    def _publish(self, market: Market) -> None:
        book = self._exchange.engine.books.get(market.window.condition_id)
        if book is not None:
            self._exchange.market_streams.publish_changes(book, self._exchange.clock())

    # Prices.

    def _take_price(self, event: PriceEvent) -> None:
        if event.asset not in ASSETS:
            return
        feed, now = self._exchange.feed, self._exchange.clock()
        if event.feed is Feed.BINANCE:
            self._exchange.binance_streams.publish_closed([feed.take_lead(event.asset, event.price, now)])
        elif event.feed in (Feed.TWAP_30, Feed.TWAP_60):
            self._means[event.asset, event.feed] = event.price
        elif event.feed is Feed.CHAINLINK:
            feed.settlement[event.asset] = event.price
            means = [self._means.get((event.asset, mean), event.price) for mean in (Feed.TWAP_30, Feed.TWAP_60)]
            lead = feed.lead.get(event.asset, event.price)
            second = Second(self.times.shown(event.time_ms), event.asset, lead, event.price, means[0], means[1])
            self._exchange.price_streams.follow_second(second)

    def _pass_on(self, frame: Frame, events: list[Event]) -> None:
        """Send prices on to the letter, but for their times where these are shown at others."""
        payload = json.loads(frame.text)
        if isinstance(payload, list):  # of several, each by itself: which event is whose, the list does not say
            for item in payload:
                one = Frame(frame.recv_ms, frame.source, json.dumps(item))
                self._pass_on_one(one.recv_ms, item, decode(one))
        else:
            self._pass_on_one(frame.recv_ms, payload, events)

    def _pass_on_one(self, recv_ms: int, message: Any, events: list[Event]) -> None:
        event = events[0] if events else None
        if not isinstance(event, PriceEvent) or event.asset not in ASSETS:
            return
        if event.feed in _TOPICS:
            message["timestamp"] = self.times.shown(recv_ms)
            message["payload"]["timestamp"] = self.times.shown(event.time_ms)
            topic = _TOPICS[event.feed]
            streams = self._exchange.price_streams
            streams.publish_raw(topic, rtds_symbol(topic, event.asset), json.dumps(message))
            return
        data = message.get("data", message)
        for name in ("E", "T"):
            if isinstance(data.get(name), int):
                data[name] = self.times.shown(data[name])
        kind = "bookTicker" if event.feed is Feed.BINANCE else data["e"]
        self._exchange.binance_streams.publish_raw(f"{event.asset.lower()}usdt@{kind}", json.dumps(data))


def to_up(event: BookEvent | ChangeEvent, outcome: int) -> BookEvent | ChangeEvent:
    """An event of either token in terms of Up: an offer to buy Down at p is one to sell Up at 1 - p. Pure."""
    if outcome == 0:
        return event
    if isinstance(event, BookEvent):
        bids = tuple((ONE - price, size) for price, size in event.asks)
        asks = tuple((ONE - price, size) for price, size in event.bids)
        last = None if event.last_price is None else ONE - event.last_price
        names = event.recv_ms, event.venue_ms, event.condition_id, event.token_id
        return BookEvent(*names, bids, asks, event.tick, last)
    return ChangeEvent(
        event.recv_ms,
        event.venue_ms,
        event.condition_id,
        event.token_id,
        not event.is_bid,
        ONE - event.price,
        event.size,
        None if event.best_ask is None else ONE - event.best_ask,
        None if event.best_bid is None else ONE - event.best_bid,
    )
