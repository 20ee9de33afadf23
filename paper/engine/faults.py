"""Faults on demand. Pure: what is armed, and which request, stream, trade or window it strikes.

A fault strikes the next ``count`` times that it applies, or everything within ``seconds``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

# Draws that are the same for the same seed, purpose and name, whatever else happened. Pure.


def draw(seed: int, what: str, name: str) -> float:
    """Return a number in [0, 1).

    Args:
        seed: of the exchange.
        what: the purpose, so that two draws of one thing do not go together.
        name: what is drawn for: a window's slug, an order's id.
    """
    digest = hashlib.sha256(f"{seed}:{what}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


# Faults on demand. Pure: what is armed, and which request, stream, trade or window it strikes.


Kind = Literal[
    "lost_before",
    "lost_after",
    "slow",
    "error",
    "restarting",
    "restart",
    "post_only",
    "cancel_only",
    "disabled",
    "rate_limited",
    "empty_order",
    "wrong_clock",
    "drop_streams",
    "freeze_streams",
    "duplicate_events",
    "reorder_events",
    "lost_events",
    "odd_events",
    "wide_books",
    "context_canceled",
    "not_found",
    "timed_out",
    "origin_error",
    "unavailable",
    "failing_trades",
    "retried_trades",
    "late_resolution",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_POST_ONLY_S = 120.0  # after a restart (venue.md 4.2)
_RESTART_S = 90.0
_AMOUNTS = ("slow", "late_resolution")  # their seconds say how much, not how long


@dataclass(slots=True)
class Fault:
    """One armed fault; docs/reference/paper.md says what each kind does.

    Attributes:
        path: start of the path that it strikes.
        method: HTTP method that it strikes, or empty for all.
        left: how often it still strikes, or None for no limit.
        from_ms, until_ms: UTC ms between which it is on; ``until_ms`` None for no end.
        delay_s: how long ``slow`` and ``late_resolution`` wait, in seconds.
        offset_s: how far ``wrong_clock`` is ahead, in seconds.
        applied: whether the request takes effect before it is answered wrongly (``context_canceled``, ``not_found``,
            ``timed_out``, ``origin_error``).
    """

    kind: Kind
    path: str = "/"
    method: str = ""
    left: int | None = 1
    from_ms: int = 0
    until_ms: int | None = None
    delay_s: float = 0.0
    offset_s: float = 0.0
    applied: bool = True

    @property
    def body(self) -> dict[str, object]:
        """As JSON shows it."""
        return asdict(self)

    def is_on(self, path: str, now_ms: int) -> bool:
        """Whether it strikes this path now."""
        return self.from_ms <= now_ms and path.startswith(self.path)


class FaultOrder(BaseModel):
    """The body of ``POST /paper/faults``.

    ``seconds`` is the fault's length; the delay of ``slow`` and ``late_resolution``; for ``restart`` the length of the 425s,
    which ``post_only_seconds`` of post-only mode follow.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    seconds: float | None = Field(default=None, gt=0, le=3600)
    path: str = "/"
    method: Literal["", "GET", "POST", "DELETE"] = ""
    offset: float = Field(default=0.0, ge=-86_400, le=86_400)
    post_only_seconds: float = Field(default=_POST_ONLY_S, ge=0, le=3600)
    applied: bool = True

    def faults(self, now_ms: int) -> list[Fault]:
        """Return the faults that it asks for, starting now."""
        if self.kind == "restart":
            back_ms = now_ms + round((self.seconds or _RESTART_S) * 1000)
            end_ms = back_ms + round(self.post_only_seconds * 1000)
            order = Fault("restarting", "/order", "", None, now_ms, back_ms)
            cancel = Fault("restarting", "/cancel", "", None, now_ms, back_ms)
            return [order, cancel, Fault("post_only", "/", "", None, back_ms, end_ms)]
        timed = self.seconds is not None and self.kind not in _AMOUNTS
        left = self.count if self.count is not None else None if timed else 1
        until = now_ms + round((self.seconds or 0) * 1000) if timed else None
        delay_s = self.seconds or 0.0
        return [Fault(self.kind, self.path, self.method, left, now_ms, until, delay_s, self.offset, self.applied)]


class Faults:
    """All armed faults; at most 100."""

    _LIMIT = 100

    def __init__(self) -> None:
        self.armed: list[Fault] = []

    def arm(self, fault: Fault) -> None:
        """Add a fault; the oldest goes when there are too many."""
        self.armed = [*self.armed, fault][-self._LIMIT :]

    def clear(self) -> None:
        """Remove all."""
        self.armed = []

    def strike(self, kinds: tuple[Kind, ...], method: str, path: str, now_ms: int) -> Fault | None:
        """Return the first fault of these kinds that strikes this request, and count it."""
        if not self.armed:
            return None
        self.drop_ended(now_ms)
        for fault in self.armed:
            if fault.kind in kinds and fault.is_on(path, now_ms) and fault.method in ("", method):
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def active(self, kind: Kind, path: str, now_ms: int) -> Fault | None:
        """Return a fault of this kind that is on for this path; does not count it."""
        if not self.armed:
            return None
        self.drop_ended(now_ms)
        return next((fault for fault in self.armed if fault.kind == kind and fault.is_on(path, now_ms)), None)

    def drop_ended(self, now_ms: int) -> None:
        """Forget what has struck or lasted as it should."""
        self.armed = [
            fault
            for fault in self.armed
            if (fault.left is None or fault.left > 0) and (fault.until_ms is None or now_ms < fault.until_ms)
        ]


# Faults by themselves: a seeded schedule, and the task that arms them on time.
#
# The schedule is pure; the same seed gives the same faults at the same distances.


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
