"""The state of an exchange as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["as_text"]


def as_text(state: dict[str, Any]) -> str:
    """Return what ``GET /paper/view`` answers, as tables."""
    parts = [
        _table("prices", ("asset", "lead", "settlement"), [list(one.values()) for one in state["prices"]]),
        _table(
            "books of Up",
            ("window", "left s", "reference", "last", "tick", "users' orders", "bid", "ask"),
            [
                [
                    *_of(one, "slug", "left_s", "reference", "last", "tick", "users"),
                    _best(one["bids"]),
                    _best(one["asks"]),
                ]
                for one in state["books"]
            ],
        ),
        *(
            _table(
                title,
                ("age s", "window", "taker's side", "outcome", "shares", "price", "whose"),
                [_of(one, "age_s", "slug", "side", "outcome", "size", "price", "whose") for one in state[name]],
            )
            for title, name in (("last trades", "flow"), ("users' last trades", "users_flow"))
        ),
        _table(
            "users' resting orders",
            ("window", "side", "outcome", "type", "price", "size", "filled", "order"),
            [
                _of(one, "slug", "side", "outcome", "type", "price", "size", "filled", "order_id")
                for one in state["orders"]
            ],
        ),
        _table("balances", ("wallet", "pUSD", "tokens"), [list(one.values()) for one in state["balances"]]),
        _table(
            "faults that are on",
            ("kind", "path", "left", "until (UTC ms)"),
            [_of(one, "kind", "path", "left", "until_ms") for one in state["faults"]],
        ),
    ]
    return "\n".join(parts)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return f"{title}: none\n"
    lines = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    return f"{title}\n{text}\n"


def _best(levels: Sequence[Sequence[str]]) -> str:
    return f"{levels[0][0]} x {levels[0][1]}" if levels else "-"


def _of(row: dict[str, Any], *names: str) -> list[object]:
    return ["-" if row[name] is None else row[name] for name in names]
