"""kacho.io (CC0): one row a second of 5m windows, best prices and sizes of both tokens.

``<coin>_markets.parquet``: slug, condition_id, outcome (inferred; missing or wrong for some: Gamma's counts where it is given).
``<coin>_ticks.parquet``: t (unix s), condition_id, bu au su sau (Up: bid, ask, their sizes), bd ad sd sad (Down). A row of the
second s may hold quotes up to s + .999, so it is received at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recording.format import Contents, Frame, Lack, Origin
from recording.importers.common import (
    SETTLES_LATER_MS,
    Wanted,
    book,
    files,
    gamma,
    in_order,
    made_token,
    parquet,
)
from recording.reading import parse_slug

CONTENTS = Contents(
    depth=1, sampled_ms=1_000, average_ms=0, lacks=(Lack.TRADES, Lack.LEAD, Lack.SETTLEMENT, Lack.STRIKE)
)

_TICKS = ("t", "condition_id", "bu", "au", "su", "sau", "bd", "ad", "sd", "sad")
_OUTCOMES = {"up": 0, "yes": 0, "down": 1, "no": 1}
_FIRST, _THEN, _LAST = 0, 1, 2


def read(source: Path, wanted: Wanted) -> Iterator[Frame]:
    """Frames of all coins' windows, in order of time."""
    frames: list[tuple[int, int, str, str]] = []
    for path in files(source, "*_markets.parquet"):
        coin = path.name.removesuffix("_markets.parquet")
        if wanted.assets and coin.upper() not in wanted.assets:
            continue
        markets = {row["condition_id"]: row for row in parquet(path, ("slug", "condition_id", "outcome"))}
        for condition, row in markets.items():
            frames += _told(condition, row, wanted)
        for row in parquet(path.with_name(f"{coin}_ticks.parquet"), _TICKS):
            if row["condition_id"] in markets:
                frames += _quotes(row, markets[row["condition_id"]]["slug"], wanted)
    yield from in_order(frames)


def _tokens(condition: str, slug: str, wanted: Wanted) -> tuple[str, str]:
    known = wanted.markets.get(condition.lower())
    return known.token_ids if known is not None else (made_token(slug, 0), made_token(slug, 1))


def _told(condition: str, row: dict[str, Any], wanted: Wanted) -> list[tuple[int, int, str, str]]:
    slug, known = row["slug"], wanted.markets.get(condition.lower())
    _, _, start_ms, end_ms = parse_slug(slug)
    winner = known.winner if known is not None else _OUTCOMES.get(str(row["outcome"] or "").lower())
    strike, final = (known.strike, known.final) if known is not None else (None, None)
    ids: dict[str, Any] = {"condition_id": condition, "token_ids": _tokens(condition, slug, wanted)}
    told = [(start_ms, _FIRST, str(Origin.GAMMA), gamma(slug, strike=strike, **ids))]
    if winner is not None:
        ended = gamma(slug, strike=strike, final=final, winner=winner, **ids)
        told.append((end_ms + SETTLES_LATER_MS, _LAST, Origin.GAMMA, ended))
    return told


def _quotes(row: dict[str, Any], slug: str, wanted: Wanted) -> Iterator[tuple[int, int, str, str]]:
    tokens, at_ms = _tokens(row["condition_id"], slug, wanted), int(row["t"]) * 1000
    for outcome, names in enumerate((("bu", "au", "su", "sau"), ("bd", "ad", "sd", "sad"))):
        bid, ask, bid_size, ask_size = (row[name] for name in names)
        bids, asks = [(bid, bid_size)] if bid and bid_size else [], [(ask, ask_size)] if ask and ask_size else []
        yield at_ms + 999, _THEN, Origin.CLOB, book(row["condition_id"], tokens[outcome], at_ms, bids, asks)
