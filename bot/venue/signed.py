"""What a body signs: the amounts that an order gives and asks for. Pure."""

from __future__ import annotations

import json


def signed_amounts(body: str) -> tuple[int, int] | None:
    """(maker amount, taker amount) of a SignedOrder's body in base units, or None where it does not say."""
    try:
        order = json.loads(body)["order"]
        give, ask = int(order["makerAmount"]), int(order["takerAmount"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (give, ask) if give > 0 and ask > 0 else None
