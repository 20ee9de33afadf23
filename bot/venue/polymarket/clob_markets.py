"""The exchange's view of markets (GET /clob-markets/C), asked for as seldom as may be: tick, minimum, fees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from bot.venue.decoding import OddError
from bot.venue.polymarket import reading

VIEW_LIFE_S = 50.0
"""How long a view is good for. Ticks change meanwhile: the market channel tells of that at once."""
_MOST = 1_000
_AT_ONCE = 8


class ClobMarkets:
    """Keeps the newest answers.

    Args:
        ask: asks the exchange for one market: its answer as it was decoded, None where the exchange does not know it.
        now_s: a monotonic clock.
    """

    def __init__(self, ask: Callable[[str], Awaitable[object | None]], now_s: Callable[[], float]) -> None:
        self._ask, self._now_s = ask, now_s
        self._views: dict[str, tuple[float, reading.ClobMarket]] = {}
        self._fees: dict[str, reading.FeeSchedule] = {}

    async def view(self, condition_id: str) -> reading.ClobMarket | None:
        """One market as the exchange showed it in the last VIEW_LIFE_S; None where it does not know it. Raises OddError."""
        asked_s, view = self._views.get(condition_id, (0.0, None))
        if view is not None and self._now_s() - asked_s < VIEW_LIFE_S:
            return view
        payload = await self._ask(condition_id)
        if payload is None:
            return None
        view = reading.clob_market(condition_id, payload)
        _forget(self._views, ())
        self._views[condition_id] = (self._now_s(), view)
        return view

    def fees(self, condition_id: str) -> reading.FeeSchedule | None:
        """The fee schedule of a market, once it was learned: it does not change while a window lives."""
        return self._fees.get(condition_id)

    async def learn_fees(self, condition_ids: set[str], odd: Callable[[OddError], None]) -> None:
        """Make the fee schedules of these markets known, of all that have a readable one."""
        _forget(self._fees, condition_ids)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def learn(condition_id: str) -> None:
            _, view = self._views.get(condition_id, (0.0, None))
            if view is not None:
                self._fees[condition_id] = view.fees
                return
            async with at_once:
                payload = await self._ask(condition_id)
            try:
                self._fees[condition_id] = reading.market_fees(condition_id, payload)
            except OddError as error:
                odd(error)

        await asyncio.gather(*(learn(condition_id) for condition_id in sorted(condition_ids - self._fees.keys())))


def _forget(cache: dict[str, Any], but: Collection[str]) -> None:
    """Make room for one more, and for `but`: the oldest go."""
    for stale in list(cache)[: max(0, len(cache) + max(1, len(but)) - _MOST)]:
        if stale not in but:
            del cache[stale]
