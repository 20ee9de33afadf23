"""Draws that are the same for the same seed, purpose and name, whatever else happened. Pure."""

from __future__ import annotations

import hashlib

__all__ = ["draw"]


def draw(seed: int, what: str, name: str) -> float:
    """Return a number in [0, 1).

    Args:
        seed: of the exchange.
        what: the purpose, so that two draws of one thing do not go together.
        name: what is drawn for: a window's slug, an order's id.
    """
    digest = hashlib.sha256(f"{seed}:{what}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)
