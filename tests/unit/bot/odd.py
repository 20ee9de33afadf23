"""A venue whose answers prove less than they seem to, strategies of one line, and a bot that meets them in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from bot.strategy import Decision, Inputs
from bot.strategy.guard import GuardedStrategy
from bot.venue.polymarket.answers import classify
from bot.venue.types import Accepted, Answer, InDoubt, Refused, VenueMode, VenueOrder
from bus import Role
from ledger.base import Ledger
from ledger.connection import Value
from ledger.values import Outcome, Side, VenueTrade
from tests.unit.bot.fake_venue import FakeVenue, Fault, Placed
from tests.unit.bot.lifecycle.test_instance import assert_audit, until
from tests.unit.bot.making import END_MS, MARKET, SHARE, WINDOW, run
from tests.unit.bot.running import Running

ENTRY_PRICE = Decimal("0.60")


@dataclass(frozen=True)
class NoParameters:
    """None."""


class Deciding:
    """A strategy of one function."""

    parameters = NoParameters

    def __init__(self, decide: Callable[[Inputs], Decision]) -> None:
        self._decide = decide

    def decide(self, inputs: Inputs, parameters: object) -> Decision:
        return self._decide(inputs)


class OddVenue(FakeVenue):
    """Answers each first sending with a word and no amounts; what the order comes to shows later.

    Args:
        word: the answer's status; "lost" for no answer at all.
        after_s: when it is matched; None never.
        part: how much of it is.
        show: what a look-up shows until then and afterwards: the status, or None for nothing.
        sides: which orders are answered so; others are matched at once.
    """

    def __init__(
        self,
        word: str = "delayed",
        *,
        after_s: float | None = 0.25,
        part: Decimal = Decimal(1),
        show: Callable[[bool], str | None] = lambda _matched: None,
        sides: tuple[Side, ...] = (Side.BUY,),
        most: int = 1_000,
    ) -> None:
        super().__init__()
        self.word, self.after_s, self.part, self.show, self.sides, self.left = word, after_s, part, show, sides, most
        self.odd: dict[str, bool] = {}
        self.claims = 0  # matched, as a look-up says of what was not
        self.at: list[tuple[float, Side, Decimal]] = []

    async def _answer(self, body: str, fault: Fault) -> Answer:
        order_id, request = self._signed[body]
        if order_id not in self.odd and (request.side not in self.sides or self.left <= 0):
            return await super()._answer(body, fault)
        first = order_id not in self.odd
        self.odd.setdefault(order_id, False)
        if not first:
            await asyncio.sleep(0.01)
            return Accepted("", "duplicate")
        self.left -= 1
        if self.after_s is not None:
            task = asyncio.create_task(self._match(order_id, body, self.after_s))
            self._network.add(task)
        await asyncio.sleep(5 if self.word == "lost" else 0.05)
        if self.word == "lost":
            return InDoubt("no answer within 5 s", VenueMode.UNREACHABLE)
        said = {"success": True, "errorMsg": "", "orderID": order_id, "status": self.word}
        return classify(200, json.dumps(said | {"takingAmount": "0", "makingAmount": "0"}), request.side)

    async def _match(self, order_id: str, body: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        request = self._signed[body][1]
        matched = int(request.size * self.part)
        self.placed[order_id] = Placed(request, matched=matched, at_ms=max(1, self.now_ms()))
        self.odd[order_id] = True

    async def order(self, order_id: str) -> VenueOrder | None:
        await asyncio.sleep(0.01)
        if order_id not in self.odd:
            return None
        status = self.show(self.odd[order_id])
        if status is None:
            return None
        request = next(found for key, found in self._signed.values() if key == order_id)
        matched = self.placed[order_id].matched if order_id in self.placed else self.claims
        return VenueOrder(
            order_id, request.token_id, MARKET.condition_id, request.side, request.price, request.size, matched, status
        )


def enter(inputs: Inputs, shares: int = 10, price: Decimal = ENTRY_PRICE) -> Decision:
    """Ten shares of Up in the first window of BTC, at every poll that is not blocked."""
    if inputs.slot != "BTC-5m" or inputs.window != WINDOW or inputs.held or inputs.blocked or not inputs.asks_up:
        return Decision("none", inputs.blocked or "nothing")
    return Decision("enter", "buy", outcome=Outcome.UP, price=price, size=shares * SHARE)


def enter_and_leave(inputs: Inputs, at_ms: int = 0) -> Decision:
    """The same, and out at the best bid from then on."""
    if inputs.held is None or not inputs.held_shares:
        return enter(inputs)
    if inputs.now_ms < at_ms or inputs.blocked:
        return Decision("none", inputs.blocked or "wait")
    size = inputs.held_shares // 10_000 * 10_000
    return Decision("exit", "out", outcome=inputs.held, price=inputs.bids_up[0].price, size=size)


def trading(
    folder: Path,
    venue: FakeVenue,
    decide: Callable[[Inputs], Decision],
    work: Callable[[Running], Awaitable[None]],
    **control: Any,
) -> Running:
    """Run one instance with a strategy while `work` looks at it; the audit holds at the end."""
    running = Running(folder, **control)
    running.venue, venue.now_ms = venue, running.clock.wall_ms
    running.strategy = GuardedStrategy(Deciding(decide), "test")

    async def life() -> None:
        async with running.instance() as me:
            await until("the lease", lambda: running.document(me).role is Role.ACTIVE)
            await work(running)

    run(life())
    assert running.failures == []
    assert_audit(running)
    return running


def rows(running: Running, sql: str) -> list[tuple[Value, ...]]:
    """Rows out of the ledger."""
    ledger = Ledger.reader(running.bus.ledger)
    assert ledger is not None
    with ledger:
        return list(ledger.execute(sql))


def held(running: Running) -> int:
    """Shares that the ledger says are held."""
    return running.count("SELECT coalesce(sum(CASE side WHEN 'BUY' THEN size ELSE -size END), 0) FROM fills")


async def until_ms(running: Running, utc_ms: int) -> None:
    """Sleep until then."""
    await asyncio.sleep(max(0.0, (utc_ms - running.clock.wall_ms()) / 1000))


__all__ = [
    "END_MS",
    "ENTRY_PRICE",
    "OddVenue",
    "Refused",
    "VenueTrade",
    "enter",
    "enter_and_leave",
    "held",
    "replace",
    "rows",
    "trading",
    "until_ms",
]
