"""The paper side of a replay: prices off the tape, markets, books with the house's quotes, fills and resolutions. No clock."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from bot.orders.order_plan import OrderPlan
from bot.slots import Window
from bot.venue.types import BASE_UNITS, ORDER_TYPE, Book, Level, Market
from ledger.values import Outcome, Side
from paper.engine.book import FEE_EXPONENT, FEE_RATE, ONE, Order
from paper.engine.book import Book as EngineBook
from paper.engine.feed import TICK_MS, Feed, Tape
from paper.engine.market_maker import PURSES, MarketMaker
from paper.engine.markets import OUTCOMES
from paper.engine.markets import Market as PaperMarket
from paper.engine.markets import Window as PaperWindow
from paper.engine.matching import CASH, MIN_SIZE, Engine
from paper.engine.prices import average
from paper.errors import RefusedError

WALLET = "0x000000000000000000000000000000000000bBbB"
HOUSE_MONEY = 10**15
RESOLVE_AFTER_MS = 2_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of an order: shares, their value and the fee in base units. refused: the venue's words, "" where it filled."""

    plan: OrderPlan
    at_ms: int
    shares: int = 0
    value: int = 0
    fee: int = 0
    refused: str = ""


@dataclass(slots=True)
class _Listed:
    """One market on both sides."""

    paper: PaperMarket
    book: EngineBook
    market: Market
    reference: float | None = None


class CoarseFeed(Feed):
    """Paper's prices in steps of `step_ms`, a multiple of its tick; the made-up past before the start is as paper's."""

    def __init__(self, seed: int, tapes: dict[str, Tape], step_ms: int) -> None:
        assert step_ms % TICK_MS == 0, "steps are whole ticks"
        super().__init__(seed, tapes, 0)
        self._step_ms = step_ms

    def _grid(self, until_ms: int) -> list[int]:
        if until_ms - self.time_ms > 60_000:
            return super()._grid(until_ms)
        return list(range(self.time_ms + self._step_ms, until_ms + 1, self._step_ms))


class House:
    """The exchange.

    Args:
        step_ms: how far apart prices are, a multiple of 100.
        delay_ms: from a decision until the order meets the book: the venue's hold and the network.
        deposit: what the bot's wallet has, in base units of pUSD.
    """

    def __init__(
        self, *, seed: int, tapes: dict[str, Tape], start_ms: int, step_ms: int, delay_ms: int, deposit: int
    ) -> None:
        self.feed = CoarseFeed(seed, tapes, step_ms)
        self.feed.begin(start_ms, [])
        self.engine = Engine()
        for purse in PURSES:
            self.engine.deposit(purse, HOUSE_MONEY, "house")
        self.engine.deposit(WALLET, deposit, "deposit")
        self._traders = MarketMaker(random.Random(seed))
        self._delay_ms = delay_ms
        self._listed: dict[str, _Listed] = {}
        self._waiting: list[tuple[int, OrderPlan]] = []
        self._orders = 0
        self.now_ms = start_ms

    @property
    def balance(self) -> int:
        """The wallet's pUSD in base units."""
        return self.engine.balance(WALLET, CASH)

    # --- what the bot sees

    def get(self, window: Window) -> Market | None:
        """The market of a window, with its strike from the window's start on."""
        return self._list(window).market

    def asked(self, _window: Window) -> bool:
        """Every window is known."""
        return True

    def problem(self, _window: Window) -> None:
        """Every window is traded."""

    def show(self, window: Window) -> Mapping[str, Book] | None:
        """Both books of a market after the house requoted; None when its quotes still stand."""
        listed = self._list(window)
        if not self._quote(listed):
            return None
        return {
            token: _book(listed.book, token, outcome, self.now_ms)
            for outcome, token in enumerate(listed.book.token_ids)
        }

    # --- what happens

    def advance(self, now_ms: int) -> None:
        """Move prices."""
        self.feed.advance(now_ms)
        self.now_ms = now_ms

    def send(self, plan: OrderPlan) -> None:
        """An order is on its way."""
        self._waiting.append((self.now_ms + self._delay_ms, plan))

    def fills(self) -> list[Filled]:
        """What became of the orders whose time has come."""
        due = [plan for at_ms, plan in self._waiting if at_ms <= self.now_ms]
        self._waiting = [(at_ms, plan) for at_ms, plan in self._waiting if at_ms > self.now_ms]
        return [self._match(plan) for plan in due]

    def resolutions(self) -> list[tuple[Market, Outcome]]:
        """The windows that resolve now, with their winners; winning shares are paid and the market is forgotten."""
        done = []
        for slug, listed in list(self._listed.items()):
            window = listed.paper.window
            if self.now_ms < window.end_ms + RESOLVE_AFTER_MS:
                continue
            reference = self._reference(listed)
            assert reference is not None, "a window that ended has begun"
            history = self.feed.history[window.asset]
            final = average(history.between(window.end_ms - window.averaging_ms, window.end_ms))
            winner = int(final < reference)
            for order in listed.book.orders():
                self.engine.cancel(order.order_id)
            self.engine.settle(window.condition_id, (0, ONE) if winner else (ONE, 0))
            self._traders.forget(window.condition_id)
            del self._listed[slug]
            done.append((listed.market, Outcome(OUTCOMES[winner])))
        return done

    # --- inside

    def _list(self, window: Window) -> _Listed:
        listed = self._listed.get(window.slug)
        if listed is None:
            paper = PaperWindow(window.asset, window.timeframe, window.start_ms)
            book = EngineBook(paper.condition_id, paper.token_ids, paper.end_ms)
            self.engine.open(book)
            listed = self._listed[window.slug] = _Listed(PaperMarket(paper), book, _market(paper, book))
        if listed.reference is None:
            self._reference(listed)
        return listed

    def _reference(self, listed: _Listed) -> float | None:
        """The opening reference, from the window's start on."""
        if listed.reference is None and self.now_ms >= listed.paper.window.start_ms:
            window = listed.paper.window
            ticks = self.feed.history[window.asset].between(window.start_ms - window.averaging_ms, window.start_ms)
            strike = average(ticks) if ticks else None
            listed.reference = listed.paper.reference = strike
            listed.market = replace(listed.market, strike=None if strike is None else Decimal(repr(strike)))
        return listed.reference

    def _quote(self, listed: _Listed) -> bool:
        """Let the house requote if it is time; whether it did."""
        window = listed.paper.window
        if self.now_ms >= window.end_ms or not self._traders.is_due(listed.paper, self.now_ms):
            return False
        ticks = self.feed.history[window.asset].between(
            window.end_ms - window.averaging_ms, min(self.now_ms, window.end_ms)
        )
        averaged = average(ticks) if ticks and self.now_ms > window.end_ms - window.averaging_ms else None
        self._traders.trade(self.engine, listed.paper, self.feed, averaged, self.now_ms)
        if listed.book.change_tick():
            listed.market = replace(listed.market, tick=_price(listed.book.tick))
        listed.book.take_changes()
        return True

    def _match(self, plan: OrderPlan) -> Filled:
        listed = self._listed.get(plan.window)
        if listed is None or self.now_ms >= plan.window_end_ms:
            return Filled(plan, self.now_ms, refused="the window has closed")
        self._quote(listed)
        outcome = 0 if plan.outcome is Outcome.UP else 1
        self._orders += 1
        order = Order(
            order_id=f"bot-{self._orders}",
            condition_id=listed.book.condition_id,
            token_id=listed.book.token_ids[outcome],
            wallet=WALLET,
            owner=WALLET,
            outcome=outcome,
            side="BUY" if plan.side is Side.BUY else "SELL",
            order_type=ORDER_TYPE,
            price=int(plan.price * BASE_UNITS),
            size=plan.size,
            received_ms=self.now_ms,
        )
        try:
            fills = self.engine.place(order, self.now_ms).fills
        except RefusedError as error:
            return Filled(plan, self.now_ms, refused=str(error))
        return Filled(
            plan,
            self.now_ms,
            shares=sum(fill.size for fill in fills),
            value=sum(fill.taker_value for fill in fills),
            fee=sum(fill.fee for fill in fills),
        )


def _market(window: PaperWindow, book: EngineBook) -> Market:
    up, down = window.token_ids
    return Market(
        slug=window.slug,
        condition_id=window.condition_id,
        up_token=up,
        down_token=down,
        tick=_price(book.tick),
        min_size=MIN_SIZE,
        fee_rate=FEE_RATE,
        fee_exponent=FEE_EXPONENT,
        neg_risk=False,
        accepting=True,
        closed=False,
        strike=None,
        winner=None,
    )


def _book(book: EngineBook, token: str, outcome: int, now_ms: int) -> Book:
    bids, asks = book.levels(outcome)
    return Book(token, tuple(_level(*level) for level in bids), tuple(_level(*level) for level in asks), now_ms)


def _level(price: int, size: int) -> Level:
    return Level(_price(price), size)


@lru_cache(maxsize=1_100)
def _price(units: int) -> Decimal:
    """A price of base units as the venue's adapter gives it."""
    return (Decimal(units) / BASE_UNITS).normalize()
