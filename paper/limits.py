"""Rate limits per signer, as token buckets (venue.md 4.1). Pure: time comes in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from paper.errors import RefusedError

__all__ = ["TIERS", "Limits", "Tier"]

_KEPT = 10_000  # signers


@dataclass(frozen=True, slots=True)
class Tier:
    """Tokens a second and burst, of orders and of cancels."""

    orders_s: float
    orders_burst: float
    cancels_s: float
    cancels_burst: float


# Standard is documented; the factor of Elite is not.
TIERS = {"standard": Tier(40, 60, 80, 120), "elite": Tier(400, 600, 800, 1200)}


class Limits:
    """The buckets of all signers.

    Args:
        tier: name of a tier, or ``none``: no limits and no headers.
    """

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self._rates = TIERS.get(tier)
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}  # tokens, and when that was (UTC ms)

    def take(
        self, address: str, kind: Literal["order", "cancel"], count: int, now_ms: int, *, may_owe: bool = False
    ) -> dict[str, str]:
        """Take tokens for a request, all or none; return the headers of its answer.

        Args:
            may_owe: let the balance fall below zero; later requests wait for it (cancel-all).

        Raises:
            RefusedError: 429 with ``Retry-After``.
        """
        if self._rates is None:
            return {}
        rate, burst = self._rates.orders_s, self._rates.orders_burst
        if kind == "cancel":
            rate, burst = self._rates.cancels_s, self._rates.cancels_burst
        tokens, since_ms = self._buckets.pop((address, kind), (burst, now_ms))
        tokens = min(burst, tokens + max(0, now_ms - since_ms) / 1000 * rate)
        allowed = tokens >= count or (may_owe and tokens >= 0)
        left = tokens - count if allowed else tokens
        self._buckets[address, kind] = (left, now_ms)
        if len(self._buckets) > _KEPT:
            del self._buckets[next(iter(self._buckets))]
        wait_s = max(0.0, (min(count, burst) - left) / rate)
        headers = {
            "Poly-RateLimit-Remaining": str(math.floor(left)),
            "Poly-RateLimit-Reset": str(math.ceil(now_ms / 1000 + wait_s)),
            "Poly-RateLimit-Tier": self.tier,
        }
        if not allowed:
            headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
            raise RefusedError(429, "Too Many Requests", headers=headers)
        return headers
