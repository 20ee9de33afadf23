"""Which faults strike when: each kind alone, then mixtures drawn from a seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from paper.engine.faults import KINDS

__all__ = ["Mixture", "alone", "life", "mixtures"]

# Requests of an order's life, and of what the bot knows beside it; the empty start means every path.
_PATHS = (
    "/order",
    "/data/order",
    "/data/trades",
    "/data/orders",
    "/balance-allowance",
    "/v1/heartbeats",
    "/books",
    "/time",
    "/events",
    "/",
)
_STREAMS = ("/ws/user", "/ws/market", "/stream", "/")
_ANSWERS = ("lost_before", "lost_after", "slow", "error", "restarting", "rate_limited")
_OF_STREAMS = ("drop_streams", "freeze_streams", "duplicate_events", "reorder_events")
_OF_TRADES = ("failing_trades", "retried_trades")
_OFFSETS_S = (-4.0, -1.5, 1.5, 4.0)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Faults that are armed together, as `POST /paper/faults` takes them. name: of the kinds, and of the seed's number."""

    name: str
    orders: tuple[dict[str, Any], ...]


def alone() -> list[Mixture]:
    """Every kind by itself, where it hurts most."""
    draw = random.Random(0)
    return [Mixture(kind, (_order(kind, draw, path="/order" if kind in _ANSWERS else None),)) for kind in KINDS]


def life() -> list[Mixture]:
    """Replies lost before and after, delayed beyond the time limit, and broken, at each kind of request of an order's life."""
    requests = (
        ("/order", "POST"),
        ("/data/order", "GET"),
        ("/data/trades", "GET"),
        ("/data/orders", "GET"),
        ("/balance-allowance", "GET"),
        ("/v1/heartbeats", "POST"),
        ("/clob-markets", "GET"),
    )
    found = []
    for path, method in requests:
        where = {"path": path, "method": method, "count": 2}
        kinds: tuple[dict[str, Any], ...] = (
            {"kind": "lost_before"},
            {"kind": "lost_after"},
            {"kind": "slow", "seconds": 1.5},
            {"kind": "error"},
        )
        found.append(Mixture(f"replies of {method} {path}", tuple(kind | where for kind in kinds)))
    return found


def mixtures(seed: int, count: int) -> list[Mixture]:
    """`count` mixtures of two to four kinds. Equal seeds give equal mixtures."""
    found = []
    for number in range(count):
        draw = random.Random(f"{seed}:{number}")
        kinds = draw.sample(KINDS, draw.randint(2, 4))
        found.append(Mixture(f"#{number} {'+'.join(kinds)}", tuple(_order(kind, draw) for kind in kinds)))
    return found


def _order(kind: str, draw: random.Random, path: str | None = None) -> dict[str, Any]:
    seconds = round(draw.uniform(0.5, 3.0), 2)
    if kind == "slow":
        return {"kind": kind, "path": path or draw.choice(_PATHS), "seconds": seconds, "count": draw.randint(1, 5)}
    if kind in _ANSWERS:
        how = {"seconds": seconds} if draw.random() < 0.5 else {"count": draw.randint(1, 6)}
        return {"kind": kind, "path": path or draw.choice(_PATHS), **how}
    if kind == "drop_streams":
        return {"kind": kind, "path": draw.choice(_STREAMS)}
    if kind in _OF_STREAMS:
        return {"kind": kind, "path": draw.choice(_STREAMS), "seconds": seconds}
    if kind in _OF_TRADES:
        return {"kind": kind, "count": draw.randint(1, 3)}
    if kind == "restart":
        return {"kind": kind, "seconds": seconds, "post_only_seconds": round(draw.uniform(0.5, 3.0), 2)}
    if kind == "late_resolution":
        return {"kind": kind, "seconds": seconds, "count": 1}
    if kind == "wrong_clock":
        return {"kind": kind, "seconds": seconds, "offset": draw.choice(_OFFSETS_S)}
    return {"kind": kind, "seconds": seconds}
