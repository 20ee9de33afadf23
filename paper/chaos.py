"""Faults by themselves: a seeded schedule, and the task that arms them on time.

The schedule is pure; the same seed gives the same faults at the same distances.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from paper.engine.faults import FaultOrder, Kind

__all__ = ["haunt", "schedule"]

_LOG = logging.getLogger("paper")

_ORDERS: dict[str, Any] = {"path": "/order", "method": "POST"}


def schedule(seed: int, kinds: tuple[Kind, ...], interval_s: float, start_ms: int) -> Iterator[tuple[int, FaultOrder]]:
    """Yield faults without end: when each begins (UTC ms), and what it is.

    Args:
        kinds: at least one; they come up equally often.
        interval_s: mean distance in seconds; distances are exponential, so that faults also meet.
    """
    rng = random.Random(f"faults:{seed}")
    at = float(start_ms)
    while True:
        at += rng.expovariate(1 / interval_s) * 1000
        yield round(at), _order(rng.choice(kinds), rng)


def _order(kind: Kind, rng: random.Random) -> FaultOrder:
    """A fault of the size that the venue's users met: some seconds, some requests."""
    seconds, count = round(rng.uniform(2, 20), 1), rng.randint(1, 3)
    match kind:
        case "lost_before" | "lost_after":
            return FaultOrder(kind=kind, count=1, **_ORDERS)
        case "context_canceled" | "not_found" | "timed_out" | "origin_error":
            return FaultOrder(kind=kind, count=1, applied=rng.random() < 0.5, **_ORDERS)
        case "slow":
            return FaultOrder(kind=kind, seconds=round(rng.uniform(0.5, 3), 1), count=count, **_ORDERS)
        case "error" | "restarting" | "rate_limited" | "unavailable":
            return FaultOrder(kind=kind, count=count, **_ORDERS)
        case "restart":
            return FaultOrder(kind=kind, seconds=seconds, post_only_seconds=seconds * 2)
        case "wrong_clock":
            return FaultOrder(kind=kind, seconds=seconds, offset=round(rng.uniform(-30, 30), 1))
        case "failing_trades" | "retried_trades" | "drop_streams":
            return FaultOrder(kind=kind, count=1)
        case "late_resolution":
            return FaultOrder(kind=kind, count=1, seconds=seconds)
        case _:
            return FaultOrder(kind=kind, seconds=seconds)


async def haunt(
    faults: Iterable[tuple[int, FaultOrder]], arm: Callable[[FaultOrder], object], clock: Callable[[], int]
) -> None:
    """Arm each fault when its time has come, until cancelled."""
    for at_ms, order in faults:
        await asyncio.sleep(max(0, at_ms - clock()) / 1000)
        _LOG.info("fault armed", extra={"facts": order.model_dump(exclude_defaults=True)})
        arm(order)
