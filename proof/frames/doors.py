"""Where each kind of frame comes in, and what the bot does with what came of it: keeps it, decides upon it, writes it down."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum

from bot.lifecycle.status_builder import pusd
from bot.market_data.binance_messages import Numbered, parse
from bot.market_data.books import Books
from bot.market_data.debounce import Dispatch, PriceTrigger
from bot.market_data.history import parse_klines
from bot.market_data.market_channel import parse_books
from bot.market_data.markets import Markets
from bot.market_data.prices import Prices
from bot.market_data.rtds import parse_settlement
from bot.orders.order_plan import worst_cost
from bot.slots import Slot
from bot.strategy.evaluation import Evaluation, State, View, evaluate, next_state
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.venue.account_watch import account_problem
from bot.venue.decoding import OddError, Origin, Skips, decode, each
from bot.venue.polymarket import account_reading, reading
from bot.venue.polymarket.answers import classify
from bot.venue.polymarket.http1 import AnswerReader
from bot.venue.polymarket.streams import user_events
from bot.venue.types import Book, Market, VenueError
from ledger.values import Side
from proof.frames.corpus import DOWN, KEY, SLUG, START_S, UP

FEES = reading.FeeSchedule(r=Decimal("0.07"), e=1)
NOW_MS = START_S * 1000 + 250_000
LONGEST_REASON = 1_000


class Doors:
    """The parts of a bot that a frame meets. Calling it takes one frame; what it raises is an escape."""

    def __init__(self) -> None:
        self.skips = Skips()
        self.odd = 0
        self._now_ms = NOW_MS
        self._prices = Prices(("BTC",))
        self._listed = Listed()
        self._state: State = {}
        self._books = Books(lambda: self._now_ms, skips=self.skips)
        markets = Markets(None, (), lambda: self._now_ms, None)  # type: ignore[arg-type]  # never asked: nothing runs
        self._routes = Dispatch(self._prices, markets, self._books, PriceTrigger())
        self._strategy = load_strategy(DEFAULT_STRATEGY)
        self._paper = sqlite3.connect(":memory:")
        self._paper.execute("CREATE TABLE kept (number INTEGER, text TEXT) STRICT")
        self._doors: dict[str, Callable[[bytes], object]] = {
            "market": self._market,
            "user": lambda frame: user_events(frame, self.skips),
            "rtds": self._rtds,
            "binance": self._binance,
            "klines": self._klines,
            "gamma": self._gamma,
            "clob": self._clob,
            "books": lambda frame: self._answered(reading.books(self._decoded(frame), self._note)),
            "order": lambda frame: account_reading.order(self._decoded(frame)),
            "trades": self._trades,
            "balance": self._balance,
            "positions": lambda frame: account_reading.holdings(self._decoded(frame), self._note),
            "time": lambda frame: reading.time_ms(self._decoded(frame)),
            "answer": lambda frame: [
                classify(status, frame.decode("utf-8", "replace"), Side.BUY) for status in (200, 400, 503)
            ],
            "http": self._http,
        }

    def __call__(self, door: str, frame: bytes) -> None:
        """Take one frame as the bot would."""
        self._now_ms += 1
        try:
            self._write_down(self._doors[door](frame))
        except VenueError as error:
            self.odd += 1
            self._check_reason(error)
        if self._now_ms % 64 == 0:
            self._books.keep((UP, DOWN, *list(self._books)[-20:]))  # as World.tokens_soon, four times a second
            self._routes.news.flush()
        self._decide()

    # --- what comes of a frame

    def _market(self, frame: bytes) -> object:
        events = parse_books(frame, self.skips)
        for event in events:
            self._routes.event(event)
        return events

    def _rtds(self, frame: bytes) -> object:
        price = parse_settlement(frame)
        if price is not None and price.asset in self._prices:
            self._prices.settle(dataclasses.replace(price, time_ms=self._now_ms))
        return price

    def _binance(self, frame: bytes) -> object:
        update = parse(frame, {"BTCUSDT": "BTC"}, self._now_ms)
        if isinstance(update, Numbered):
            self._routes.price(update.update)
            return update
        return None

    def _klines(self, frame: bytes) -> object:
        klines = parse_klines(decode(frame, 1 << 20), self.skips)
        self._prices.seed({"BTC": klines}, 0)
        return klines

    def _gamma(self, frame: bytes) -> object:
        payload = self._decoded(frame)
        asked = payload.get("slug") if isinstance(payload, dict) else None  # a bot asks for slugs that it made itself
        slug = asked if isinstance(asked, str) and re.fullmatch(r"[a-z0-9-]{1,60}", asked) else SLUG
        market = reading.gamma_window(slug, payload, self._note)
        if market is not None:
            self._listed.window = market
        return market

    def _clob(self, frame: bytes) -> object:
        self._listed.clob = reading.clob_market("0x", self._decoded(frame))
        return self._listed.clob

    def _trades(self, frame: bytes) -> object:
        rows, _ = reading.page(self._decoded(frame), "trades")
        return list(
            each(rows, "trades", lambda row, where: account_reading.trades(row, "0x", KEY, FEES, where), self._note)
        )

    def _balance(self, frame: bytes) -> object:
        account = account_reading.account(self._decoded(frame), "0x", "0x" + "44" * 20)
        return account, pusd(account.balance), account_problem(account)

    def _answered(self, books: dict[str, Book]) -> object:
        self._books.answer(books)
        return list(books.values())

    def _http(self, frame: bytes) -> object:
        """As it comes from a socket, in pieces; what is no answer is a ValueError, which ends the connection."""
        reader, found = AnswerReader(), None
        size = 1 + len(frame) % 97 if len(frame) < 5_000 else 4_096
        try:
            for at in range(0, len(frame), size):
                found = reader.feed(frame[at : at + size])
                if found is not None:
                    break
            found = found or reader.end()
        except ValueError:
            return None
        return None if found is None else classify(found[0].status, found[0].body.decode("latin-1"), Side.SELL)

    # --- what the bot does with it

    def _decide(self) -> None:
        """Evaluate the slot with all that is known now, as a poll does, and cost what would be bought."""
        market = self._listed.market()
        if market is None:
            return
        view = View(
            now_ms=NOW_MS,
            to_boot_ms=0,
            books=self._books,
            positions=(),
            state=self._state,
            strategy=self._strategy,
            parameters=self._strategy.parameters(confirmations=1),
            enabled=lambda _: True,
            blocked=lambda *_: "",
        )
        evaluations = evaluate((Slot("BTC", "5m"),), self._listed, self._prices, view)
        self._state = next_state(evaluations)
        for e in evaluations:
            self._check(e, market)

    def _check(self, e: Evaluation, market: Market) -> None:
        if e.error is not None:
            raise e.error
        if e.decision.action == "enter" and e.decision.price is not None:
            self._write_down(worst_cost(e.decision.price, e.decision.size, market))
        e.decision.reason.encode()

    def _write_down(self, value: object) -> None:
        """Whatever came through must fit the ledger, a log and a metric."""
        for part in _parts(value):
            if isinstance(part, str):
                self._paper.execute("INSERT INTO kept(text) VALUES (?)", (part,))
            elif isinstance(part, int):
                self._paper.execute("INSERT INTO kept(number) VALUES (?)", (part,))
            elif isinstance(part, float):
                assert math.isfinite(part), part
            else:
                assert part.is_finite(), part
                assert abs(part.adjusted()) < 60, part
        self._paper.execute("DELETE FROM kept")

    def _decoded(self, frame: bytes) -> object:
        return decode(frame, reading.MOST_BYTES)

    def _note(self, error: OddError) -> None:
        self.skips.note(Origin.CLOB, error)
        self._check_reason(error)

    def _check_reason(self, error: VenueError) -> None:
        reason = str(error)
        assert len(json.dumps({"reason": reason})) < LONGEST_REASON * 6, "a reason is short"
        assert len(reason) < LONGEST_REASON, "a reason is short"
        reason.encode()


class Listed:
    """The newest market that could be read, as `Markets` would list it."""

    def __init__(self) -> None:
        self.window: reading.GammaWindow | None = None
        self.clob: reading.ClobMarket | None = None

    def market(self) -> Market | None:
        """Both views together."""
        if self.window is None or self.clob is None:
            return None
        return dataclasses.replace(reading.market(self.window, self.clob), up_token=UP, down_token=DOWN)

    def get(self, _window: object) -> Market | None:
        """Every window is the one that is known."""
        return self.market()

    def asked(self, _window: object) -> bool:
        """It was."""
        return True

    def problem(self, _window: object) -> None:
        """The market's own is enough."""


def _parts(value: object) -> Iterable[str | int | float | Decimal]:
    """The plain values that something is made of."""
    if value is None or isinstance(value, bool | bytes | Enum):
        return
    if isinstance(value, str | int | float | Decimal):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)
    else:
        raise TypeError(f"no value of a known type: {type(value).__name__}")
