"""Replay on a recording: real books, real prices, real outcomes; our own orders are the one thing that is made up.

An order meets the book as it was recorded after the market's own delay and a network's. What it took is not offered again until
that level changes. Nobody else reacts to it. Equal arguments give equal bytes.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

from bot.lifecycle.predictions import prediction
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.orders.order_plan import OrderPlan
from bot.reasons import Reason, ReasonCode
from bot.slots import DEFAULT_ASSETS, Slot, Window, parse_slug
from bot.strategy.guard import GuardedStrategy
from bot.tools.calibrate import as_json, as_text, calibrate
from bot.tools.replay.house import Filled
from bot.tools.replay.result import moment
from bot.tools.replay.trading import Trading
from bot.venue.types import BASE_UNITS, Book, Level, Market
from bus import RiskLimits, SettingsError
from ledger.calibration import bootstrap
from ledger.predictions import Prediction
from ledger.values import Outcome, Side
from recording import (
    BookEvent,
    BookState,
    BookStates,
    ChangeEvent,
    Contents,
    Event,
    Feed,
    Lack,
    MarketEvent,
    OddFrame,
    PriceEvent,
    TickEvent,
)

LEVELS = 10
FEE_RATE = 0.07  # where the recording does not say
MIN_SIZE = 5 * BASE_UNITS
LEAD_FRESH_MS = 5_000
BOOK_FRESH_MS = 15_000
"""A recording that is silent for so long has a gap: its books are not believed until they are told anew."""
ASSETS = (*DEFAULT_ASSETS, "HYPE", "ZEC")


class RecordedHouse:
    """The exchange as it was recorded. Times are UTC ms of the recorder.

    Args:
        delay_ms: of the network, beside what the market says of its own.
        deposit: base units of pUSD.
    """

    def __init__(self, *, delay_ms: int, deposit: int) -> None:
        self._delay_ms = delay_ms
        self.balance = deposit
        self.now_ms = 0
        self.markets: dict[str, Market] = {}
        self.winners: dict[str, Outcome] = {}
        self._events: dict[str, MarketEvent] = {}
        self._states = BookStates()
        self._taken: dict[tuple[str, bool, int], int] = {}
        self._waiting: list[tuple[int, int, OrderPlan]] = []
        self._resolved: list[tuple[Market, Outcome]] = []
        self._shares: dict[str, int] = {}
        self._number = 0

    # --- what the bot sees

    def get(self, window: Window) -> Market | None:
        """The market of a window, as the recording said last."""
        return self.markets.get(window.slug)

    def asked(self, _window: Window) -> bool:
        """What the recording does not have is not listed."""
        return True

    def problem(self, _window: Window) -> None:
        """Every window is traded."""

    def show(self, window: Window) -> Mapping[str, Book] | None:
        """Both books; one that is not believed shows no offers."""
        market = self.markets.get(window.slug)
        if market is None:
            return None
        return {token: self._book(token) for token in (market.up_token, market.down_token)}

    def _book(self, token: str) -> Book:
        state = self._believed(token)
        if state is None:
            return Book(token, (), (), self.now_ms)
        bids = heapq.nlargest(LEVELS, state.bids.items())
        asks = heapq.nsmallest(LEVELS, state.asks.items())
        return Book(token, self._levels(token, bids, True), self._levels(token, asks, False), state.recv_ms)

    def _believed(self, token: str) -> BookState | None:
        state = self._states.books.get(token)
        return None if state is None or state.doubt else state

    def _levels(self, token: str, levels: Iterable[tuple[int, int]], is_bid: bool) -> tuple[Level, ...]:
        left = ((price, size - self._taken.get((token, is_bid, price), 0)) for price, size in levels)
        return tuple(Level((Decimal(price) / BASE_UNITS).normalize(), size) for price, size in left if size > 0)

    # --- what was recorded

    def take(self, event: Event) -> None:
        """Take one event. Its time is now."""
        match event:
            case BookEvent() | ChangeEvent():
                self._take_book(event)
            case MarketEvent():
                self._take_market(event)
            case TickEvent(token_id=token, tick=tick):
                for slug, market in self.markets.items():
                    if token in (market.up_token, market.down_token):
                        self.markets[slug] = _with_tick(market, tick)
            case OddFrame(token_id=token, reason=reason):
                self._states.doubt(token, reason)
            case _:
                pass

    def doubt(self, why: str) -> None:
        """Something was lost: no book is believed until it is told anew."""
        self._states.doubt("", why)

    def _take_book(self, event: BookEvent | ChangeEvent) -> None:
        if isinstance(event, ChangeEvent):
            self._states.take(event)
            self._taken.pop((event.token_id, event.is_bid, event.price), None)
            return
        before = self._states.books.get(event.token_id)
        old = ({}, {}) if before is None else (dict(before.asks), dict(before.bids))
        self._states.take(event)
        for key in [key for key in self._taken if key[0] == event.token_id]:
            now = dict(event.bids if key[1] else event.asks)
            if now.get(key[2]) != old[key[1]].get(key[2]):
                del self._taken[key]  # the level moved: what stands there now is new

    def _take_market(self, event: MarketEvent) -> None:
        known = self.markets.get(event.slug)
        market = _market(event, known)
        self.markets[event.slug], self._events[event.slug] = market, event
        if event.winner in (0, 1) and event.slug not in self.winners:
            self.winners[event.slug] = Outcome.UP if event.winner == 0 else Outcome.DOWN
            self._resolved.append((market, self.winners[event.slug]))
            # What is still on the way to it comes too late, and says so before the window is paid.
            self._waiting = [(0 if o.window == event.slug else due, n, o) for due, n, o in self._waiting]
            heapq.heapify(self._waiting)
            self._states.forget((market.up_token, market.down_token))

    # --- orders

    @property
    def due_ms(self) -> int | None:
        """When the next order meets its book; None where none is on the way."""
        return self._waiting[0][0] if self._waiting else None

    def send(self, plan: OrderPlan) -> None:
        """An order is on its way."""
        event = self._events.get(plan.window)
        hold_ms = 0 if event is None or event.delay_ms is None else event.delay_ms
        self._number += 1
        heapq.heappush(self._waiting, (self.now_ms + hold_ms + self._delay_ms, self._number, plan))

    def fills(self) -> list[Filled]:
        """What became of the orders whose time has come."""
        done = []
        while self._waiting and self._waiting[0][0] <= self.now_ms:
            done.append(self._match(heapq.heappop(self._waiting)[2]))
        return done

    def resolutions(self) -> list[tuple[Market, Outcome]]:
        """The windows that resolved since the last call."""
        done, self._resolved = self._resolved, []
        for market, winner in done:
            self._pay(market, winner)
        return done

    def _pay(self, market: Market, winner: Outcome) -> None:
        token = market.up_token if winner is Outcome.UP else market.down_token
        self.balance += self._shares.pop(token, 0)

    def _match(self, plan: OrderPlan) -> Filled:
        """Fill or kill the rest: a buy spends its money, a sale sells its shares, up to the limit."""
        token, is_buy = plan.request.token_id, plan.side is Side.BUY
        state = self._believed(token)
        if state is None or self.now_ms >= plan.window_end_ms:
            return Filled(plan, self.now_ms, refused="the window has closed, or its book was not recorded")
        limit = int(plan.price * BASE_UNITS)
        money, left = limit * plan.size // BASE_UNITS, plan.size
        levels = sorted(state.asks.items()) if is_buy else sorted(state.bids.items(), reverse=True)
        shares = value = 0
        fee = Decimal(0)
        for price, size in levels:
            if (price > limit if is_buy else price < limit) or (money if is_buy else left) <= 0:
                break
            key = (token, not is_buy, price)
            offered = size - self._taken.get(key, 0)
            taken = min(offered, money * BASE_UNITS // price if is_buy else left)
            if taken <= 0:
                continue
            self._taken[key] = self._taken.get(key, 0) + taken
            worth = taken * price // BASE_UNITS
            shares, value, money, left = shares + taken, value + worth, money - worth, left - taken
            fee += _fee(plan.market, price, taken)
        if not shares:
            return Filled(plan, self.now_ms, refused="no orders found to match with FAK order")
        charged = int(fee // 10 * 10)  # five decimals of pUSD, cut (recorded)
        self.balance += -value - charged if is_buy else value - charged
        self._shares[token] = self._shares.get(token, 0) + (shares if is_buy else -shares)
        return Filled(plan, self.now_ms, shares=shares, value=value, fee=charged)


def _fee(market: Market, price: int, shares: int) -> Decimal:
    p = Decimal(price) / BASE_UNITS
    return Decimal(shares) * market.fee_rate * (p * (1 - p)) ** market.fee_exponent


def _with_tick(market: Market, tick: int) -> Market:
    return replace(market, tick=(Decimal(tick) / BASE_UNITS).normalize())


def _market(event: MarketEvent, known: Market | None) -> Market:
    strike = None if event.strike is None else Decimal(repr(event.strike))
    return Market(
        slug=event.slug,
        condition_id=event.condition_id,
        up_token=event.token_ids[0],
        down_token=event.token_ids[1],
        tick=Decimal("0.01") if event.tick is None else (Decimal(event.tick) / BASE_UNITS).normalize(),
        min_size=MIN_SIZE if event.min_size is None else event.min_size,
        fee_rate=Decimal(repr(FEE_RATE if event.fee_rate is None else event.fee_rate)),
        fee_exponent=1,
        neg_risk=False,
        accepting=event.accepting,
        closed=event.closed,
        strike=strike if strike is not None or known is None else known.strike,
        winner=None,
        average_ms=event.average_ms,
    )


@dataclass(slots=True)
class Replayed:
    """What came of it."""

    trading: Trading
    house: RecordedHouse
    windows: set[str] = field(default_factory=set)
    """Windows that were evaluated while they ran."""
    predictions: dict[tuple[str, int], Prediction] = field(default_factory=dict)
    from_ms: int = 0
    to_ms: int = 0

    def pnl_by_window(self) -> list[float]:
        """pUSD of each window whose outcome was recorded; 0 where nothing was bought."""
        traded = {trade.window: trade.pnl / BASE_UNITS for trade in self.trading.trades}
        return [traded.get(slug, 0.0) for slug in sorted(self.windows & set(self.house.winners))]


def why_not(contents: Contents, lead: str) -> str | None:
    """What a strategy on prices and books needs and the recording does not have, or None."""
    if Lack.BOOKS in contents.lacks or contents.depth == 0:
        return "the recording has no books: there is nothing that an order could meet"
    if Lack.LEAD in contents.lacks and lead == "binance":
        return (
            "the recording has no lead price; with --lead settlement the settlement price stands in, as late as it came"
        )
    if Lack.SETTLEMENT in contents.lacks:
        return "the recording has no settlement prices: the lead's basis cannot be known, so nothing would be entered"
    if Lack.OUTCOME in contents.lacks:
        return "the recording has no outcomes"
    return None


def replay_events(
    events: Iterable[Event],
    contents: Contents,
    *,
    strategy: GuardedStrategy,
    parameters: Any,
    delay_ms: int = 50,
    poll_ms: int = 5_000,
    deposit: int = 10_000 * BASE_UNITS,
    lead: str = "binance",
    doubted: Callable[[], bool] = lambda: False,
) -> Replayed:
    """Replay these events, which rise in time. doubted: whether something was lost since it was asked last.

    Raises SettingsError: the recording lacks what is needed.
    """
    if (lacking := why_not(contents, lead)) is not None:
        raise SettingsError(lacking)
    house, prices = RecordedHouse(delay_ms=delay_ms, deposit=deposit), Prices(ASSETS)
    trading = Trading(house, (), strategy.untimed(), parameters, RiskLimits(), prices)
    trading.stale = lambda asset: _stale(prices, asset, house.now_ms)
    done, slots, next_poll = Replayed(trading, house), dict[str, Slot](), 0
    for event in events:
        at = event.recv_ms
        if not house.now_ms:
            done.from_ms, next_poll = at, at - at % poll_ms + poll_ms
        if doubted() or (house.now_ms and at - house.now_ms > BOOK_FRESH_MS):
            house.doubt("something was lost")
        while (due := min((t for t in (house.due_ms, next_poll) if t is not None), default=at)) <= at:
            house.now_ms = max(house.now_ms, due)
            trading.settle()
            if due == next_poll:
                next_poll = (
                    max(next_poll + poll_ms, at - at % poll_ms) if at - due > BOOK_FRESH_MS else next_poll + poll_ms
                )
                _poll(trading, done)
        house.now_ms = max(house.now_ms, at)
        house.take(event)
        if isinstance(event, MarketEvent):
            window = parse_slug(event.slug)
            slot = Slot(window.asset, window.timeframe)
            if window.asset in prices and slot.id not in slots:
                slots[slot.id] = slot
                trading.slots = tuple(slots.values())
            trading.settle()
        elif isinstance(event, PriceEvent) and event.asset in prices and _take_price(prices, event, lead):
            trading.between()
    done.to_ms = house.now_ms
    return done


def _take_price(prices: Prices, event: PriceEvent, lead: str) -> bool:
    """Whether it moved the lead price."""
    if event.feed is Feed.CHAINLINK:
        own_ms = event.time_ms
        if lead == "settlement":  # known when it is received, and without any basis to itself
            own_ms = event.recv_ms
            prices.take(PriceUpdate(event.asset, event.price, Source.BOOK, None, event.recv_ms))
        prices.settle(SettlementPrice(event.asset, event.price, event.time_ms, event.recv_ms, own_ms))
        return lead == "settlement"
    if event.feed is Feed.BINANCE and lead == "binance":
        prices.take(PriceUpdate(event.asset, event.price, Source.BOOK, None, event.recv_ms))
        return True
    return False


def _stale(prices: Prices, asset: str, now_ms: int) -> Reason | None:
    newest = prices.newest_boot_ms(asset)
    if newest is None or now_ms - newest <= LEAD_FRESH_MS:
        return None
    return Reason(ReasonCode.STALE_DATA, f"the price of {asset} is {(now_ms - newest) / 1000:.1f} s old")


ENOUGH_WINDOWS = 200


def headline(replayed: Replayed) -> str:
    """How many windows that were, and, where they are enough, what they brought."""
    windows, trades = replayed.pnl_by_window(), len(replayed.trading.trades)
    n = len(windows)
    if n < ENOUGH_WINDOWS:
        return f"{n} windows, {trades} traded: too few to speak of profit ({ENOUGH_WINDOWS} are the least)"
    low, high = bootstrap(windows)
    verdict = "no profit is shown" if low <= 0 else "a profit is shown on these windows, which says little of others"
    total = sum(windows)
    return f"{n} windows, {trades} traded: {total:+.2f} pUSD [{low * n:+.2f}, {high * n:+.2f}]: {verdict}"


def recorded_text(replayed: Replayed, name: str, problems: Mapping[str, int]) -> str:
    """For people."""
    trading = replayed.trading
    found = calibrate(list(replayed.predictions.values()), _winners(replayed))
    lines = [
        headline(replayed),
        f"recorded books: replay of {name}, {moment(replayed.from_ms)} to {moment(replayed.to_ms)}",
        f"{trading.polls} polls, {trading.evaluations} evaluations, {trading.orders} orders",
    ]
    if problems:
        lines.append("the recording is not whole: " + ", ".join(f"{kind} {count}" for kind, count in problems.items()))
    if trading.refusals:
        lines.append("refused: " + ", ".join(f"{why} {count}" for why, count in sorted(trading.refusals.items())))
    return "\n".join(lines) + "\n\n" + as_text(found)


def recorded_json(replayed: Replayed, problems: Mapping[str, int]) -> str:
    """For a program. Money and shares in base units."""
    trading, windows = replayed.trading, replayed.pnl_by_window()
    low, high = bootstrap(windows)
    enough = len(windows) >= ENOUGH_WINDOWS
    body = {
        "headline": headline(replayed),
        "windows": len(windows),
        "pnl_pusd": sum(windows) if enough else None,
        "pnl_95_pusd": [low * len(windows), high * len(windows)] if enough else None,
        "polls": trading.polls,
        "orders": trading.orders,
        "refusals": trading.refusals,
        "problems": dict(problems),
        "trades": [asdict(trade) | {"pnl": trade.pnl} for trade in trading.trades],
        "calibration": json.loads(as_json(calibrate(list(replayed.predictions.values()), _winners(replayed)))),
    }
    return json.dumps(body, indent=1, sort_keys=True) + "\n"


def _winners(replayed: Replayed) -> dict[str, str]:
    return {slug: str(winner) for slug, winner in replayed.house.winners.items()}


def _poll(trading: Trading, done: Replayed) -> None:
    trading.poll()
    for e in trading.evaluations_now:
        if e.market is not None:
            done.windows.add(e.window.slug)
        found = prediction(e)
        if found is not None:
            done.predictions.setdefault((found.window, found.horizon_s), found)
