"""The way to the exchange: answers that come late, get lost, or never; requests that outlive their process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, TypeVar

from bench.inside import InsideVenue, Paper, text_of
from bot.venue.polymarket.streams import user_events
from bot.venue.types import Account, Answer, Book, InDoubt, Market, Refused, UserEvent, VenueError, VenueOrder
from bus import Log
from ledger.values import VenueTrade
from paper.streams.sockets import Listener
from proof.simulation.loop import KERNEL, Process

T = TypeVar("T")

LIMIT_S = 1.0
LATEST_S = 8.0
Fate = Literal["arrives", "lost", "reply lost", "late"]


class Network:
    """How bad it is. faulty: the share of requests that meet a fault."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self.faulty = 0.0
        self.met: dict[str, int] = {}

    def fate(self) -> Fate:
        """What becomes of an order's request."""
        fate: Fate = "arrives"
        if self._random.random() < self.faulty:
            fate = self._random.choice(("lost", "reply lost", "late"))
        self.met[fate] = self.met.get(fate, 0) + 1
        return fate

    def fails(self) -> bool:
        """Whether a reading request does."""
        return self._random.random() < self.faulty / 2

    def delay_s(self) -> float:
        """How long a request is stuck that arrives after its sender gave it up."""
        return self._random.uniform(LIMIT_S, LATEST_S)

    def patience_s(self) -> float:
        """How soon its sender learns of it: a reset at once, or the time limit."""
        return LIMIT_S if self._random.random() < 0.7 else self._random.uniform(0.01, 0.2)


class _Ears(Listener):
    """Listeners are kept in a set: numbered, so that it is walked in the same order in every run."""

    count = 0

    def __init__(self, write: Callable[[list[bytes]], None]) -> None:
        super().__init__(write)
        _Ears.count += 1
        self._number = _Ears.count

    def __hash__(self) -> int:
        return self._number


class SimulatedVenue(InsideVenue):
    """One process's way to the exchange. What is under way goes on without it.

    Args:
        seed: of how long requests take.
        leaves: called right before the bytes of an order leave.
    """

    def __init__(
        self, paper: Paper, log: Log, seed: int, process: Process, network: Network, leaves: Callable[[str], None]
    ) -> None:
        super().__init__(paper, log, seed)
        self._process, self._network, self._leaves = process, network, leaves

    async def send(self, body: str) -> Answer:
        if not self._is_open:
            return Refused("the orders channel is closed, nothing was sent", "not_sent")
        self._process.effect("an order leaves", 0.0)
        self._leaves(body)
        fate = self._network.fate()
        if fate == "arrives":
            return await self._under_way(self._travel(body))
        if fate != "lost":
            self._detach(self._stuck(body, self._network.delay_s() if fate == "late" else 0.0))
        await asyncio.sleep(self._network.patience_s())
        return InDoubt("no answer")

    async def server_time_ms(self) -> int:
        return await self._read(super().server_time_ms())

    async def account(self) -> Account:
        return await self._read(super().account())

    async def shares(self, token_id: str) -> int:
        return await self._read(super().shares(token_id))

    async def market(self, slug: str) -> Market | None:
        return await self._read(super().market(slug))

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        return await self._read(super().books(token_ids))

    async def order(self, order_id: str) -> VenueOrder | None:
        return await self._read(super().order(order_id))

    async def open_orders(self) -> list[VenueOrder]:
        return await self._read(super().open_orders())

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:
        return await self._read(super().trades(condition_id, after_ms))

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        self._process.effect("a heartbeat leaves", 0.0)
        return await self._read(super().heartbeat(previous_id, recover=recover))

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        def take(frames: list[bytes]) -> None:
            for frame in frames:
                for event in user_events(text_of(frame)):
                    on_event(event)

        ears = _Ears(lambda frames: self._process.call(take, frames))
        topic = f"user:{self.wallet}"
        self._exchange.hub.subscribe(ears, topic)
        self._process.at_death(lambda: self._exchange.hub.leave(ears))
        try:
            on_open()
            await asyncio.Event().wait()
        finally:
            self._exchange.hub.leave(ears)

    async def _read(self, request: Coroutine[Any, Any, T]) -> T:
        if self._network.fails():
            request.close()
            await asyncio.sleep(self._network.patience_s())
            raise VenueError("no answer")
        return await self._under_way(request)

    def _under_way(self, request: Coroutine[Any, Any, T]) -> Awaitable[T]:
        return asyncio.shield(self._detach(request))

    def _detach(self, request: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """It belongs to no process from here on."""
        return asyncio.get_running_loop().create_task(request, name="under-way", context=KERNEL.copy())

    async def _stuck(self, body: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._travel(body)
