"""A venue in memory that loses, delays and repeats, before or after a request took effect."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Literal

from bot.venue.types import (
    Accepted,
    Account,
    Answer,
    Book,
    Holding,
    InDoubt,
    Level,
    Market,
    OrderRequest,
    Refused,
    SignedOrder,
    UserEvent,
    VenueError,
    VenueMode,
    VenueOrder,
)
from ledger.values import Side, VenueTrade
from tests.unit.bot.making import MARKET, SHARE

Fault = Literal["", "lost_before", "lost_after", "late", "refused", "error"]
LIMIT_S = 5.0
LATE_S = 13.0
"""Bytes were seen to arrive so long after their connection was closed (design section 6)."""


@dataclass
class Placed:
    """An order that took effect: how often its bytes arrived and what was matched of it."""

    request: OrderRequest
    arrivals: int = 1
    matched: int = 0
    at_ms: int = 1


class FakeVenue:
    """Fulfils the protocol. Every order is matched whole at once, at its limit price, for a fee of 0.01 pUSD.

    faults: what goes wrong at the n-th request of `send`, `order` and `trades` together, from 0.
    before_send: called with the body when a request leaves.
    """

    wallet = "0xWallet"

    def __init__(
        self, faults: dict[int, Fault] | None = None, before_send: Callable[[str], None] | None = None
    ) -> None:
        self._faults = faults or {}
        self._before_send = before_send
        self._requests = 0
        self._signed: dict[str, tuple[str, OrderRequest]] = {}
        self._network: set[asyncio.Task[None]] = set()
        self.placed: dict[str, Placed] = {}
        self.sent: list[str] = []
        self.shows_trades = True
        self.silent_about = ""
        self.balance = 1000 * SHARE
        self.warm = True
        self.refuse_with: Refused | None = None
        self.tell: Callable[[UserEvent], None] = lambda event: None
        self.held: list[Holding] = []
        self.unpaid: dict[str, int] = {}
        self.redeemed: list[str] = []
        self.refreshed: list[str] = []
        self.describe: Callable[[str], Market] = lambda slug: replace(MARKET, slug=slug)
        self.now_ms: Callable[[], int] = lambda: 0
        self.asks: tuple[Level, ...] = (Level(Decimal("0.60"), 400 * SHARE),)
        self.bids: tuple[Level, ...] = (Level(Decimal("0.58"), 400 * SHARE),)

    def _next(self) -> Fault:
        fault = self._faults.get(self._requests, "")
        self._requests += 1
        return fault

    def sign(self, request: OrderRequest, market: Market, salt: int, timestamp_ms: int) -> SignedOrder:
        body = f"{request} {salt} {timestamp_ms}"
        order_id = "0x" + hashlib.sha256(body.encode()).hexdigest()
        self._signed[body] = (order_id, request)
        return SignedOrder(order_id, body, 0, 0)

    def adopt(self, body: str, order_id: str, request: OrderRequest) -> None:
        """Know an order that another process signed."""
        self._signed[body] = (order_id, request)

    def begin(self, body: str) -> Callable[[], Awaitable[Answer]] | None:
        return partial(self._answer, body, self._leave(body)) if self.warm else None

    async def send(self, body: str) -> Answer:
        return await self._answer(body, self._leave(body))

    def _leave(self, body: str) -> Fault:
        """The bytes leave."""
        if self._before_send is not None:
            self._before_send(body)
        self.sent.append(body)
        return self._next()

    async def _answer(self, body: str, fault: Fault) -> Answer:
        match fault:
            case "lost_before" | "error":
                await asyncio.sleep(LIMIT_S)
                return InDoubt("no answer", VenueMode.UNREACHABLE)
            case "lost_after":
                self._arrive(body)
                await asyncio.sleep(LIMIT_S)
                return InDoubt("no answer", VenueMode.UNREACHABLE)
            case "late":
                task = asyncio.create_task(self._arrive_late(body))
                self._network.add(task)
                await asyncio.sleep(LIMIT_S)
                return InDoubt("no answer")
            case "refused":
                await asyncio.sleep(0.01)
                return Refused("trading is currently disabled", "disabled", VenueMode.DISABLED)
        await asyncio.sleep(0.01)
        return self.refuse_with or self._arrive(body)

    async def settled(self) -> None:
        """Wait until nothing is in the network any more."""
        await asyncio.gather(*self._network)

    def _arrive(self, body: str) -> Answer:
        order_id, request = self._signed[body]
        if order_id in self.placed:
            self.placed[order_id].arrivals += 1
            return Accepted("", "duplicate")
        self.placed[order_id] = Placed(request, matched=request.size, at_ms=max(1, self.now_ms()))
        self.tell(UserEvent((order_id,), MARKET.condition_id, f"t-{order_id[:8]}", "MATCHED"))
        return Accepted(order_id, "matched", request.size)

    async def _arrive_late(self, body: str) -> None:
        await asyncio.sleep(LATE_S)
        self._arrive(body)

    async def _read(self) -> None:
        await asyncio.sleep(0.01)
        if self._next():
            raise VenueError("no answer")

    async def order(self, order_id: str) -> VenueOrder | None:
        await self._read()
        if order_id == self.silent_about:
            raise VenueError("no answer about this one")
        return None  # a finished order is not shown (venue.md 1.6)

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:
        await self._read()
        return [self.trade(order_id) for order_id in self.placed] if self.shows_trades else []

    def trade(self, order_id: str, status: str = "CONFIRMED") -> VenueTrade:
        """The trade that matched an order."""
        placed = self.placed[order_id]
        return VenueTrade(
            trade_id=f"t-{order_id[:8]}",
            order_id=order_id,
            token_id=placed.request.token_id,
            condition_id=MARKET.condition_id,
            side=placed.request.side,
            price=placed.request.price,
            size=placed.matched,
            fee=SHARE // 100,
            status=status,
            at_ms=placed.at_ms,
        )

    # --- what the desk does not use

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def open_orders_channel(self) -> None: ...

    async def close_orders_channel(self) -> None: ...

    async def server_time_ms(self) -> int:
        return self.now_ms() // 1000 * 1000 + 500

    async def account(self) -> Account:
        return Account(self.wallet, self.balance, self.balance)

    async def market(self, slug: str) -> Market | None:
        return self.describe(slug)

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        down = MARKET.down_token
        return {
            key: Book(key, () if key == down else self.bids, () if key == down else self.asks, 0) for key in token_ids
        }

    async def open_orders(self) -> list[VenueOrder]:
        return []

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        return ""

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        on_open()
        self.tell = on_event
        await asyncio.Event().wait()

    async def holdings(self) -> list[Holding]:
        return self.held

    async def shares(self, token_id: str) -> int:
        return self.unpaid.get(token_id, 0)

    async def refresh_balance(self, token_id: str) -> None:
        self.refreshed.append(token_id)

    @property
    def cannot_redeem(self) -> str | None:
        return None

    async def redeem(self, condition_id: str) -> str:
        self.redeemed.append(condition_id)
        return "transaction"


def request(side: Side) -> OrderRequest:
    """A request for ten shares of Up."""
    return OrderRequest(MARKET.up_token, side, Decimal("0.50"), 10 * SHARE)
