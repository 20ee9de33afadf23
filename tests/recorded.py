"""Recorded windows, quotes and prices of others (docs/explanation/model.md): where they lie, and what is read of them.

They are no part of the repository. NEVER_SLEEPS_DATA names their folder; without it `shared/data/market` is looked for above the
checkout. Tests that need them are skipped where they are not there, and say so.
"""

from __future__ import annotations

import bisect
import importlib.util
import math
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ledger.predictions import HORIZONS_S
from recording import BookEvent, Event, Feed, MarketEvent, PriceEvent


def _folder() -> Path | None:
    named = os.environ.get("NEVER_SLEEPS_DATA")
    places = [Path(named)] if named else [above / "shared/data/market" for above in Path(__file__).resolve().parents]
    return next((place for place in places if (place / "windows.parquet").is_file()), None)


FOLDER = _folder()
needs_data = pytest.mark.skipif(
    FOLDER is None or importlib.util.find_spec("polars") is None,
    reason="optional: the recorded market data is not here, or polars (the extra `research`) is not",
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One window with its quotes and, where they are known, its prices."""

    slug: str
    asset: str
    start_ms: int
    end_ms: int
    strike: float | None
    won: float
    times: list[int]
    mids: list[float]

    def mid(self, at_ms: int) -> float | None:
        """The middle that stood then; where nobody bid or offered it is the price's bound."""
        place = bisect.bisect_right(self.times, at_ms) - 1
        return None if place < 0 else self.mids[place]


def _read(name: str) -> Any:
    import polars

    assert FOLDER is not None, "guarded by needs_data"
    return polars.read_parquet(FOLDER / f"{name}.parquet")


@cache
def windows(source: str) -> list[Recorded]:
    """The usable windows of a source, by time."""
    quotes: dict[tuple[str, str, int], list[tuple[int, float, float]]] = defaultdict(list)
    for row in _read("quotes").iter_rows(named=True):
        if row["source"] == source:
            bid, ask = (row[name] for name in ("up_bid", "up_ask"))
            key = row["asset"], row["timeframe"], row["window_start_ms"]
            quotes[key].append((row["venue_ms"], 0.0 if bid is None else bid, 1.0 if ask is None else ask))
    made = []
    for row in _read("windows").sort("start_ms").iter_rows(named=True):
        if row["source"] != source or not row["usable"]:
            continue
        of_it = sorted(quotes[row["asset"], row["timeframe"], row["start_ms"]], key=lambda quote: quote[0])
        made.append(
            Recorded(
                row["slug"], row["asset"], row["start_ms"], row["end_ms"], row["strike"], float(row["winner"] == "Up"),
                [at for at, _, _ in of_it], [(bid + ask) / 2 for _, bid, ask in of_it],
            )
        )  # fmt: skip
    return made


@cache
def prices(source: str, feed: str, asset: str) -> tuple[list[int], list[float]]:
    """Times (the feed's own, else of reception; UTC ms) and prices, by time."""
    rows = [
        (row["recv_ms"] if row["time_ms"] is None else row["time_ms"], row["price"])
        for row in _read("prices").iter_rows(named=True)
        if (row["source"], row["feed"], row["asset"]) == (source, feed, asset)
    ]
    rows.sort()
    return [at for at, _ in rows], [price for _, price in rows]


def old_model(window: Recorded, left_s: int, *, late_ms: int = 0, basis: float = 0.0) -> float | None:
    """P(Up) by the model of before: one price, a normal distribution, one-second moves of the last 300 s; None where none came.

    late_ms: how old the newest price is. basis: what is put onto it, as a log.
    """
    times, values = prices("rjav1", "chainlink", window.asset)
    now = window.end_ms - left_s * 1_000
    newest = bisect.bisect_right(times, now - late_ms) - 1
    first = bisect.bisect_left(times, now - 300_000)
    if window.strike is None or newest < 0 or now - late_ms - times[newest] > 10_000 or newest - first < 20:
        return None
    squares = seconds = 0.0
    for place in range(first + 1, newest + 1):
        weight = 0.5 ** ((times[newest] - times[place]) / 1_000 / 120)
        squares += weight * math.log(values[place] / values[place - 1]) ** 2
        seconds += weight * (times[place] - times[place - 1]) / 1_000
    deviation = max(math.sqrt(squares / seconds), 2e-5) * math.sqrt(left_s)
    z = (math.log(values[newest] / window.strike) + basis) / deviation
    return 0.5 * math.erfc(-z / math.sqrt(2))


RECEIVED_MS = 1_640  # a settlement price after its own time, in the middle (recorded 2026)
SHARE = 1_000_000


def events(source: str) -> list[Event]:
    """Quotes, prices, strikes and outcomes of a source's usable windows as a recording has them, by time of reception.

    Of an offer of unknown size the price alone is known: it has a hundredth of a share, which nobody can trade. Strike and
    outcome are told at the start and 2 s after the end.
    """
    made: list[Event] = []
    chosen = {window.slug: window for window in windows(source)}
    by_start = {(w.asset, w.start_ms): w for w in chosen.values()}
    for window in chosen.values():
        for at, strike, winner in (
            (window.start_ms, window.strike, None),
            (window.end_ms + 2_000, window.strike, window.won),
        ):
            made.append(
                MarketEvent(
                    at, window.slug, window.slug, (f"{window.slug}-up", f"{window.slug}-down"), window.start_ms, window.end_ms,
                    average_ms=0, strike=strike, winner=None if winner is None else int(winner == 0),
                )
            )  # fmt: skip
    for row in _read("quotes").iter_rows(named=True):
        found = by_start.get((row["asset"], row["window_start_ms"]))
        if row["source"] != source or found is None:
            continue
        for side in ("up", "down"):
            bids, asks = (_level(row, side, name) for name in ("bid", "ask"))
            made.append(BookEvent(row["recv_ms"], row["venue_ms"], found.slug, f"{found.slug}-{side}", bids, asks))
    for row in _read("prices").iter_rows(named=True):
        if row["source"] == source:
            received = row["time_ms"] + RECEIVED_MS
            made.append(PriceEvent(received, row["time_ms"], Feed(row["feed"]), row["asset"], row["price"]))
    return sorted(made, key=lambda event: event.recv_ms)


def _level(row: dict[str, Any], side: str, name: str) -> tuple[tuple[int, int], ...]:
    price, size = row[f"{side}_{name}"], row[f"{side}_{name}_size"]
    return () if price is None else ((round(price * SHARE), int((size or 0.01) * SHARE)),)


__all__ = ["FOLDER", "HORIZONS_S", "Recorded", "events", "needs_data", "old_model", "prices", "windows"]
