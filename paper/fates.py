"""What becomes of a trade after its match. Pure.

At the venue a match is settled on chain: MATCHED, then MINED, then CONFIRMED; or the transaction fails and is RETRYING,
and in the end it is CONFIRMED after all, or FAILED, and then it never moved anything (venue.md 1.6).
"""

from __future__ import annotations

from typing import Literal

from paper.chance import draw

__all__ = ["Fate", "fate_of", "stages", "trade_status"]

Fate = Literal["confirmed", "retried", "failed"]


def fate_of(match_id: str, seed: int, failed: float, retried: float) -> Fate:
    """Draw a trade's fate. One user saw 12 of 34 buys fail (py-clob-client issue 338).

    Args:
        failed, retried: shares of all trades, 0 to 1 together.
    """
    drawn = draw(seed, "fate", match_id)
    return "failed" if drawn < failed else "retried" if drawn < failed + retried else "confirmed"


def stages(fate: str, settle_ms: int) -> tuple[tuple[int, str], ...]:
    """Return the statuses of a trade and its age in ms at which each begins.

    Args:
        fate: one of ``Fate``.
        settle_ms: time from an ordinary trade to its confirmation.
    """
    half = settle_ms // 2
    if fate == "failed":
        return (0, "MATCHED"), (half, "RETRYING"), (settle_ms, "FAILED")
    if fate == "retried":
        return (0, "MATCHED"), (half, "RETRYING"), (settle_ms, "MINED"), (settle_ms + half, "CONFIRMED")
    return (0, "MATCHED"), (half, "MINED"), (settle_ms, "CONFIRMED")


def trade_status(fate: str, age_ms: int, settle_ms: int) -> str:
    """Return the status of a trade at an age of 0 ms or more."""
    return [status for begins, status in stages(fate, settle_ms) if begins <= max(0, age_ms)][-1]
