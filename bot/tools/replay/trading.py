"""The bot's side of a replay: polls and prices between them, decisions, limits, positions. What decides is what trades."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bot.market_data.binance_messages import PriceUpdate, Source
from bot.market_data.books import Books
from bot.market_data.prices import Prices
from bot.market_data.rtds import SettlementPrice
from bot.orders.order_plan import OrderPlan, worst_cost
from bot.orders.risk import Usage, at_stake, refuse_entry, why_blocked
from bot.reasons import MaybeReason, Reason
from bot.slots import Slot, Window
from bot.strategy.evaluation import Evaluation, Listing, Streak, View, evaluate, next_state
from bot.strategy.guard import GuardedStrategy
from bot.tools.replay.house import Filled
from bot.tools.replay.result import Trade
from bot.venue.types import Book, Market
from bus import RiskLimits, SlotControl
from ledger.results import DAY_MS
from ledger.rows import Position
from ledger.values import Outcome, Side

MINUTE_MS = 60_000


@dataclass(slots=True)
class _Held:
    """One window that was traded. Shares and money in base units."""

    slot: Slot
    window: Window
    token_id: str
    condition_id: str
    outcome: Outcome
    opened_ms: int
    bought: int = 0
    sold: int = 0
    cost: int = 0
    proceeds: int = 0
    fees: int = 0
    sales: list[tuple[int, int]] = field(default_factory=list)


class ShownBooks(Books):
    """The books as the house shows them. None is ever stale: nothing is lost on the way, and each look is told anew.

    now_ms: the virtual time, UTC ms.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        super().__init__(now_ms)
        self._now_ms = now_ms
        self._shown: dict[str, Book] = {}

    def __getitem__(self, token_id: str) -> Book:
        return self._shown[token_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def __len__(self) -> int:
        return len(self._shown)

    def told_ms(self, token_id: str) -> int | None:
        return self._now_ms() if token_id in self._shown else None

    def show(self, books: Mapping[str, Book]) -> None:
        """Take these."""
        self._shown.update(books)

    def forget(self, token_ids: Iterable[str]) -> None:
        """Drop these."""
        for token_id in token_ids:
            self._shown.pop(token_id, None)


class Exchange(Listing, Protocol):
    """What a replay trades at."""

    now_ms: int

    @property
    def balance(self) -> int:
        """The wallet's pUSD in base units."""

    def show(self, window: Window) -> Mapping[str, Book] | None:
        """Both books of a market; None when they stand as they were shown last."""

    def send(self, plan: OrderPlan) -> None:
        """An order is on its way."""

    def fills(self) -> list[Filled]:
        """What became of the orders whose time has come."""

    def resolutions(self) -> list[tuple[Market, Outcome]]:
        """The windows that resolve now, with their winners."""


@dataclass(slots=True)
class Trading:
    """One bot. counts: how often each thing happened, for the report."""

    house: Exchange
    slots: tuple[Slot, ...]
    strategy: GuardedStrategy
    parameters: Any
    limits: RiskLimits
    prices: Prices
    books: ShownBooks = field(init=False)
    trades: list[Trade] = field(default_factory=list)
    polls: int = 0
    evaluations: int = 0
    orders: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    stale: Callable[[str], Reason | None] = lambda _asset: None
    _state: dict[str, Streak] = field(default_factory=dict)
    _last: dict[str, Evaluation] = field(default_factory=dict)
    _held: dict[str, _Held] = field(default_factory=dict)
    _open: dict[str, OrderPlan] = field(default_factory=dict)
    _placed: set[tuple[str, Side]] = field(default_factory=set)
    _recent: deque[int] = field(default_factory=deque)
    _day: int = 0
    _settled_s: int = 0
    _pnl_today: int = 0

    def __post_init__(self) -> None:
        self.books = ShownBooks(lambda: self.house.now_ms)

    @property
    def evaluations_now(self) -> list[Evaluation]:
        """The newest evaluation of each slot."""
        return list(self._last.values())

    @property
    def is_busy(self) -> bool:
        """Whether an order is under way or a traded window is not resolved."""
        return bool(self._open or self._held)

    def price(self, now_ms: int, lead: Mapping[str, float], settlement: Mapping[str, float]) -> None:
        """Take the prices of now: the lead's, and once a second the settlement prices."""
        for asset, price in lead.items():
            if asset in self.prices:
                self.prices.take(PriceUpdate(asset, price, Source.BOOK, None, now_ms))
        if now_ms // 1_000 == self._settled_s:
            return
        self._settled_s = now_ms // 1_000
        for asset, price in settlement.items():
            if asset in self.prices:
                self.prices.settle(SettlementPrice(asset, price, now_ms, now_ms, now_ms))

    def poll(self) -> None:
        """Evaluate every slot."""
        self._placed.clear()
        self._evaluate(self.slots)
        self.polls += 1

    def between(self) -> None:
        """Evaluate the slots that want to be looked at on every price."""
        now = self.house.now_ms
        wanted = [e.slot for e in self._last.values() if _is_open(e, now)]
        if wanted:
            self._evaluate(wanted)

    def settle(self) -> None:
        """Take what the venue did: fills, resolutions."""
        for filled in self.house.fills():
            self._take(filled)
        for market, winner in self.house.resolutions():
            self.books.forget((market.up_token, market.down_token))
            self._resolve(market.slug, winner)

    def _evaluate(self, slots: Iterable[Slot]) -> None:
        chosen = list(slots)
        now = self.house.now_ms
        for window in dict.fromkeys(slot.window(now) for slot in chosen):
            if (shown := self.house.show(window)) is not None:
                self.books.show(shown)
        evaluations = evaluate(chosen, self.house, self.prices, self._view(now))
        self.evaluations += len(evaluations)
        for e in evaluations:
            self._state.pop(e.slot.id, None)
            self._last[e.slot.id] = e
            if e.error is not None:
                self._refuse(e.decision.reason[:100])
            self._act(e)
        self._state.update(next_state(evaluations))

    def _view(self, now: int) -> View:
        busy = {plan.slot for plan in self._open.values()} | set(self._open)

        def blocked(slot: Slot, window: Window, held: bool) -> MaybeReason:
            return why_blocked(
                busy=slot.id in busy or window.slug in busy,
                placed=(slot.id, Side.SELL if held else Side.BUY) in self._placed,
                held=held,
                traded=window.slug in self._held,
                closed=None,
                stale=None if held else self.stale(slot.asset),
            )

        return View(
            now_ms=now,
            to_boot_ms=0,
            books=self.books,
            positions=tuple(_position(held) for held in self._held.values() if held.bought),
            state=self._state,
            strategy=self.strategy,
            parameters=self.parameters,
            enabled=lambda _slot: True,
            blocked=blocked,
        )

    def _act(self, e: Evaluation) -> None:
        decision, market = e.decision, e.market
        if decision.action == "none" or market is None or decision.outcome is None or decision.price is None:
            return
        side = Side.BUY if decision.action == "enter" else Side.SELL
        plan = OrderPlan(
            tick=self.house.now_ms,
            generation=0,
            slot=e.slot.id,
            window=e.window.slug,
            window_end_ms=e.window.end_ms,
            market=market,
            outcome=decision.outcome,
            side=side,
            price=decision.price,
            size=decision.size,
            reason=decision.reason,
        )
        if side is Side.BUY:
            cost = worst_cost(plan.price, plan.size, market)
            if (refusal := refuse_entry(cost, self._usage(e.slot), self.limits, SlotControl())) is not None:
                self._refuse(f"risk: {refusal.code}")
                return
            self._held[plan.window] = _Held(
                e.slot, e.window, plan.request.token_id, market.condition_id, plan.outcome, self.house.now_ms
            )
        self._open[plan.window] = plan
        self._placed.add((plan.slot, side))
        self._recent.append(self.house.now_ms)
        self.orders += 1
        self.house.send(plan)

    def _usage(self, slot: Slot) -> Usage:
        now = self.house.now_ms
        while self._recent and self._recent[0] < now - MINUTE_MS:
            self._recent.popleft()
        waiting = [
            (plan.slot, worst_cost(plan.price, plan.size, plan.market))
            for plan in self._open.values()
            if plan.side is Side.BUY
        ]
        held = [
            (
                position.slot.id,
                at_stake(
                    position.bought - position.sold,
                    position.cost - position.proceeds + position.fees,
                    position.sales,
                    now,
                ),
            )
            for position in self._held.values()
        ]
        stakes = held + waiting
        return Usage(
            slot=sum(stake for name, stake in stakes if name == slot.id),
            asset=sum(stake for name, stake in stakes if name.split("-")[0] == slot.asset),
            total=sum(stake for _, stake in stakes),
            loss_today=max(0, -self._pnl_today) if now // DAY_MS == self._day else 0,
            orders_last_minute=len(self._recent),
            balance=self.house.balance - sum(cost for _, cost in waiting),
        )

    def _take(self, filled: Filled) -> None:
        plan = filled.plan
        del self._open[plan.window]
        held = self._held[plan.window]
        if filled.refused:
            self._refuse(_short(filled.refused))
        elif plan.side is Side.BUY:
            held.bought, held.cost = held.bought + filled.shares, held.cost + filled.value
        else:
            held.sold, held.proceeds = held.sold + filled.shares, held.proceeds + filled.value
            held.sales.append((self.house.now_ms, filled.value))
        held.fees += filled.fee
        if not held.bought:
            del self._held[plan.window]  # nothing came of it: the window may be tried again

    def _resolve(self, slug: str, winner: Outcome) -> None:
        held = self._held.pop(slug, None)
        if held is None:
            return
        left = held.bought - held.sold
        payout = left if held.outcome is winner else 0
        now = self.house.now_ms
        trade = Trade(
            window=slug,
            slot=held.slot.id,
            outcome=held.outcome,
            winner=winner,
            opened_ms=held.opened_ms,
            resolved_ms=now,
            shares=held.bought,
            cost=held.cost,
            sold=held.sold,
            proceeds=held.proceeds,
            payout=payout,
            fees=held.fees,
        )
        if now // DAY_MS != self._day:
            self._day, self._pnl_today = now // DAY_MS, 0
        self._pnl_today += trade.pnl
        self.trades.append(trade)

    def _refuse(self, reason: str) -> None:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1


def _position(held: _Held) -> Position:
    return Position(
        held.slot.id,
        held.window.slug,
        held.window.end_ms,
        held.condition_id,
        held.token_id,
        held.outcome,
        held.bought - held.sold,
        held.cost - held.proceeds,
        held.fees,
    )


def _is_open(e: Evaluation, now_ms: int) -> bool:
    since = e.decision.every_price_from_ms
    return since is not None and since <= now_ms < e.window.end_ms


def _short(text: str) -> str:
    """The venue's words without ids and amounts."""
    return text.split("->")[0].split(". FAK")[0].strip()
