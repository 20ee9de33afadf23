"""No single message of any feed causes an order, whatever it says; what two witnesses say does, and soon.

The messages are the venue's own JSON, read by the feeds' own readers. Whoever reads by REST is told the truth: what the stream
told once is odd, what is at the venue is not.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.market_data.basis import BasisState
from bot.market_data.binance_messages import Numbered, parse
from bot.market_data.books import Books
from bot.market_data.debounce import Dispatch, PriceTrigger
from bot.market_data.history import Kline
from bot.market_data.market_channel import parse_books
from bot.market_data.prices import Prices
from bot.market_data.rtds import TOPIC, parse_settlement
from bot.slots import Slot
from bot.strategy.evaluation import Evaluation, Streak, View, evaluate, next_state
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.strategy.model import probability_up
from bot.strategy.snipe import Parameters
from bot.venue.decoding import OddError
from bot.venue.types import Book, Level
from ledger.rows import Position
from ledger.values import Outcome
from tests.unit.bot.making import END_MS, MARKET, SHARE, WINDOW

Feed = Literal["lead", "settlement", "book", "price_change"]

SIGMA = 6e-5
PRICE = 60_000.0
BEGIN_MS = END_MS - 80_000  # inside the snipe window
STEP_MS = 100
STEPS = 60
ANSWERS_MS = (60, 400, END_MS)  # from a question of REST to its answer; the last never comes
SIZE = 500
STRATEGY = load_strategy(DEFAULT_STRATEGY).untimed()
POSITION = Position("BTC-5m", WINDOW, END_MS, "0xcondition", "1", Outcome.UP, 10 * SHARE, 5 * SHARE, 0)


@dataclass(frozen=True, slots=True)
class Odd:
    """One message. step: before which it comes. price: of a lead or settlement price, as a factor; of a book, pUSD.

    token: whose book. is_bid: which side of it. size: shares, 0 takes the level away. is_named: whether the frame names best
    prices, and then those that it makes.
    """

    feed: Feed
    step: int
    price: float
    token: str = "1"
    is_bid: bool = False
    size: int = SIZE
    is_named: bool = True


@dataclass(slots=True)
class Market:
    """What is at the venue: one level a side of each token, around the fair price."""

    up: float = 0.5

    def top(self, token: str) -> tuple[str, str]:
        """Best bid and ask."""
        worth = self.up if token == "1" else 1 - self.up
        middle = min(max(round(worth, 2), 0.03), 0.97)
        return f"{middle - 0.02:.2f}", f"{middle + 0.02:.2f}"

    def frame(self, token: str, at_ms: int) -> dict[str, object]:
        """A whole book, as the channel sends it."""
        bid, ask = self.top(token)
        return {
            "event_type": "book", "asset_id": token, "timestamp": str(at_ms),
            "bids": [{"price": bid, "size": str(SIZE)}], "asks": [{"price": ask, "size": str(SIZE)}],
        }  # fmt: skip

    def book(self, token: str, at_ms: int) -> Book:
        """The same as an answer of REST."""
        bid, ask = self.top(token)
        return Book(token, (Level(Decimal(bid), SIZE * SHARE),), (Level(Decimal(ask), SIZE * SHARE),), at_ms)


@dataclass
class Bot:
    """The feeds' readers, the evaluation and REST, on a clock of its own.

    Attributes:
        done: the actions so far, with their times (UTC ms).
    """

    held: bool
    parameters: Parameters
    rest_ms: int = ANSWERS_MS[0]
    market: Market = field(default_factory=Market)
    now: int = BEGIN_MS
    done: list[tuple[str, int]] = field(default_factory=list)
    _state: dict[str, Streak] = field(default_factory=dict)
    _asked_ms: int | None = None

    def __post_init__(self) -> None:
        self.prices = Prices(("BTC",))
        source, past, price = random.Random(3), list[float](), PRICE
        for _ in range(300):
            price *= math.exp(source.gauss(0, SIGMA))
            past.append(price)
        klines = [Kline(BEGIN_MS - (300 - n) * 1_000, p * PRICE / past[-1]) for n, p in enumerate(past)]
        self.prices.seed({"BTC": klines}, 0)
        self.prices.inherit_basis({"BTC": BasisState(0.0, 600.0, BEGIN_MS - 2_000)}, BEGIN_MS)
        self.books = Books(lambda: self.now)
        nobody: Any = SimpleNamespace(asset_of=lambda _: None)
        self._routes = Dispatch(self.prices, nobody, self.books, PriceTrigger())

    def lead(self, price: float, number: int) -> None:
        """A message of Binance's stream."""
        text = f"{price:.8f}"
        with contextlib.suppress(OddError):  # beyond what any price can be: the feed counts it
            found = parse(json.dumps({"u": number, "s": "BTCUSDT", "b": text, "a": text}), {"BTCUSDT": "BTC"}, self.now)
            assert isinstance(found, Numbered)
            self._routes.price(found.update)
        self.look()

    def settle(self, price: float) -> None:
        """A message of the venue's price stream."""
        payload = {"symbol": "btc/usd", "timestamp": self.now, "value": price}
        with contextlib.suppress(OddError):  # as above
            found = parse_settlement(json.dumps({"topic": TOPIC, "type": "update", "payload": payload}))
            assert found is not None
            self.prices.settle(replace(found, boot_ms=self.now, own_boot_ms=self.now))
        self.look()

    def channel(self, frame: dict[str, object]) -> None:
        """A message of the market channel."""
        for event in parse_books(json.dumps(frame)):
            self._routes.event(event)
        self.look()

    def look(self) -> Evaluation:
        """Evaluate, as after every message; ask REST where the evaluation waits for it."""
        listing: Any = SimpleNamespace(get=lambda _: MARKET, asked=lambda _: True, problem=lambda _: None)
        view = View(
            now_ms=self.now, to_boot_ms=0, books=self.books, positions=(POSITION,) if self.held else (), state=self._state,
            strategy=STRATEGY, parameters=self.parameters, enabled=lambda _: True, blocked=lambda *_: "",
        )  # fmt: skip
        (found,) = evaluate((Slot("BTC", "5m"),), listing, self.prices, view)
        self._state = next_state([found])
        if found.awaits_books:
            self.books.confirm(("1", "2"))
        if self._asked_ms is None and self.books.to_reread():
            self._asked_ms = self.now
        if found.decision.action != "none":
            self.done.append((found.decision.action, self.now))
        return found

    def pass_to(self, at_ms: int) -> None:
        """Let time pass; REST's answer comes when it is due."""
        if self._asked_ms is not None and self._asked_ms + self.rest_ms <= at_ms:
            self.now, self._asked_ms = max(self.now, self._asked_ms + self.rest_ms), None
            self.books.answer({token: self.market.book(token, self.now) for token in self.books.to_reread()})
            self.look()
        self.now = at_ms


def odd_frame(odd: Odd, market: Market, at_ms: int) -> dict[str, object]:
    """An odd message of the market channel, consistent in itself."""
    price = f"{min(max(odd.price, 0.01), 0.99):.2f}"
    bid, ask = market.top(odd.token)
    bid, ask = (price, ask) if odd.is_bid else (bid, price)
    level, bids, asks = ({"price": p, "size": str(odd.size or 1)} for p in (price, bid, ask))
    if odd.feed == "book":
        return {
            "event_type": "book", "asset_id": odd.token, "timestamp": str(at_ms), "bids": [bids], "asks": [asks],
        }  # fmt: skip
    change: dict[str, object] = {
        **level,
        "size": str(odd.size),
        "asset_id": odd.token,
        "side": "BUY" if odd.is_bid else "SELL",
    }
    if odd.is_named:
        best = market.top(odd.token)
        is_better = float(price) > float(best[0]) if odd.is_bid else float(price) < float(best[1])
        change |= dict(zip(("best_bid", "best_ask"), (bid, ask) if odd.size and is_better else best, strict=True))
    return {"event_type": "price_change", "timestamp": str(at_ms), "price_changes": [change]}


def walk(seed: int) -> Iterator[float]:
    """A lead price every STEP_MS."""
    source, price = random.Random(seed), PRICE
    for _ in range(STEPS):
        price *= math.exp(source.gauss(0, SIGMA * math.sqrt(STEP_MS / 1_000)))
        yield price


def play(bot: Bot, seed: int, odd: Odd, *, quiet: bool) -> None:
    """A walk whose books follow the fair price, until it gives a reason to act to whoever does not get the odd message.

    quiet: the channel says nothing of books that did not change.
    """
    calm = Bot(bot.held, bot.parameters, bot.rest_ms, bot.market)
    both, waiting = (bot, calm), odd.step
    for step, price in enumerate([PRICE, *walk(seed)]):
        at = BEGIN_MS + step * STEP_MS
        before = bot.market.top("1")
        for one in both:
            one.pass_to(at)
            one.lead(price * odd.price if one is bot and step == waiting and odd.feed == "lead" else price, step + 1)
        inputs = calm.look().inputs
        assert inputs is not None
        bot.market.up = probability_up(replace(inputs, lead_price=price), bot.parameters.min_volatility) or 0.01
        if step == 0 or not quiet or bot.market.top("1") != before:
            for one in both:
                for token in TOKENS:
                    one.channel(bot.market.frame(token, at))
        if step == waiting and odd.feed in ("book", "price_change"):
            bot.pass_to(at + 10)
            bot.channel(odd_frame(odd, bot.market, at + 10))
        if at % 1_000 == 0:
            calm.settle(price)
            bot.settle(price * odd.price if step == waiting and odd.feed == "settlement" else price)
        elif step == waiting and odd.feed == "settlement":
            waiting += 1  # its stream's next message
        if calm.done:
            return
        assert bot.done == []


TOKENS = ("1", "2")
FACTORS = st.floats(0.995, 1.005) | st.floats(0.9, 1.1) | st.floats(math.log(1e-9), math.log(1e9)).map(math.exp)
PRICES = st.integers(1, 99).map(lambda cents: cents / 100)
SIZES = st.sampled_from([0, 1, 500, 10**6, 10**9])


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("feed", ["lead", "settlement", "book", "price_change"])
@settings(deadline=None, max_examples=40)
@given(data=st.data(), step=st.integers(0, STEPS - 15), seed=st.integers(0, 2**32), quiet=st.booleans())
def test_no_single_message_of_any_feed_causes_an_order(
    feed: Feed, held: bool, data: st.DataObject, step: int, seed: int, quiet: bool
) -> None:
    """From a tick to a thousand million times off, whenever it comes, whatever is held: neither an entry nor an exit."""
    if feed in ("lead", "settlement"):
        factor = data.draw(FACTORS)
        odd = Odd(
            feed, step, factor if abs(math.log(factor)) > 1e-3 else 1.001
        )  # below that it is a price as any other
    else:
        odd = Odd(
            feed, step, data.draw(PRICES), data.draw(st.sampled_from(TOKENS)), data.draw(st.booleans()),
            data.draw(SIZES), data.draw(st.booleans()),
        )  # fmt: skip
    bot = Bot(held, Parameters(take_profit=0.9, stop_price=0.1), data.draw(st.sampled_from(ANSWERS_MS)))
    play(bot, seed, odd, quiet=quiet)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(("held", "up", "action"), [(False, 0.2, "enter"), (False, 0.8, "enter"), (True, 0.8, "exit")])
def test_what_the_venue_says_twice_causes_an_order_within_two_seconds(
    held: bool, up: float, action: str, quiet: bool
) -> None:
    """The books move and stay there: the stream says so, and says so again, or REST does where the stream is quiet."""
    bot = Bot(held, Parameters(market_weight=0, noise=0))  # the lead stands at the strike, and the books alone move
    for token in TOKENS:
        bot.channel(bot.market.frame(token, bot.now))
    for step in range(STEPS):
        at = BEGIN_MS + 1_000 + step * STEP_MS
        bot.pass_to(at)
        if step >= 20:
            bot.market.up = up
        if step == 20 or not quiet:
            for token in TOKENS:
                bot.channel(bot.market.frame(token, at))
        bot.lead(PRICE, step + 1)
        if at % 1_000 == 0:
            bot.settle(PRICE)
    began = BEGIN_MS + 1_000 + 20 * STEP_MS
    assert bot.done, "an order"
    assert bot.done[0][0] == action
    assert began < bot.done[0][1] <= began + 2_000
