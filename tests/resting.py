"""Orders that rest: the bot sends none, but the owner of an account may have some."""

from __future__ import annotations


def resting(body: str) -> str:
    """The body of an order that stays until it is cancelled. The signature holds: it does not cover the order's type."""
    changed = body.replace('"orderType":"FAK"', '"orderType":"GTC"')
    assert changed != body, body
    return changed
