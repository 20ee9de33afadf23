"""Recorded quotes, books, prices and windows in Parquet, with raw frames of some windows beside them.

Files: ``windows.parquet``, ``quotes.parquet`` (best prices of both tokens at each change), ``books.parquet`` (6 to 10 levels,
at most one a second), ``prices.parquet``, ``raw/<slug>.jsonl.zst``. Where a window's raw frames are there, they are taken. Else
each quote becomes a book of the recorded token: its best prices, and behind them the levels of the last book before it. A
quote whose sizes were not recorded becomes an event of the best prices alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recording.format import Contents, Frame, Lack, Origin
from recording.importers.common import (
    SETTLES_LATER_MS,
    Wanted,
    best,
    book,
    gamma,
    in_order,
    made_condition,
    made_token,
    parquet,
    price,
)
from recording.reader import Reader

CONTENTS = Contents(depth=10, average_ms=0, lacks=(Lack.SIZES, Lack.TRADES, Lack.LEAD))

_WINDOWS = ("source", "slug", "asset", "start_ms", "end_ms", "strike", "final", "winner", "fee_rate", "usable")
_SIDES = tuple(f"{side}_{what}" for side in ("up", "down") for what in ("bid", "bid_size", "ask", "ask_size"))
_QUOTES = ("source", "asset", "timeframe", "window_start_ms", "recv_ms", "venue_ms", *_SIDES, "recorded")
_BOOKS = (
    "source",
    "asset",
    "timeframe",
    "window_start_ms",
    "venue_ms",
    "outcome",
    "bid_px",
    "bid_sz",
    "ask_px",
    "ask_sz",
)
_PRICES = ("source", "feed", "asset", "time_ms", "recv_ms", "price")
_WINNERS = {"Up": 0, "Down": 1, "Void": 2}
_FIRST, _THEN, _LAST = 0, 1, 2
_Timed = tuple[int, int, str, str]


def read(folder: Path, wanted: Wanted) -> Iterator[Frame]:
    """Frames of all windows that can be used (or of all), in order of time."""
    windows = [
        row
        for row in parquet(folder / "windows.parquet", _WINDOWS)
        if (row["usable"] or wanted.all_windows) and (not wanted.assets or row["asset"] in wanted.assets)
    ]
    kept = {_key(row["source"], row["slug"]) for row in windows}
    starts = sorted({row["start_ms"] for row in windows})
    quotes, books = (
        _by_window(folder / "quotes.parquet", _QUOTES, kept, starts),
        _by_window(folder / "books.parquet", _BOOKS, kept, starts),
    )
    frames: list[_Timed] = []
    for row in windows:
        raw = folder / "raw" / f"{row['slug']}.jsonl.zst"
        key = _key(row["source"], row["slug"])
        frames += _raw(raw, row, quotes[key]) if raw.exists() else _window(row, quotes[key], books[key])
    spans = _spans(windows)
    frames += [
        frame
        for row in parquet(folder / "prices.parquet", _PRICES, filters=[("asset", "in", sorted(spans))])
        for frame in _price(row, spans)
    ]
    yield from in_order(frames)


def _key(source: str, slug: str) -> tuple[str, str]:
    return source, slug


def _by_window(
    path: Path, columns: tuple[str, ...], kept: set[tuple[str, str]], starts: list[int]
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    rows: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in parquet(path, columns, filters=[("window_start_ms", "in", starts)]):
        slug = f"{row['asset'].lower()}-updown-{row['timeframe']}-{row['window_start_ms'] // 1000}"
        if (row["source"], slug) in kept:
            rows[row["source"], slug].append(row)
    return rows


def _ends(row: dict[str, Any], first_ms: int, **ids: Any) -> list[_Timed]:
    """What Gamma would have said: the market at the first frame, its strike at the start, its outcome after the end."""
    slug, strike = row["slug"], row["strike"]
    said: list[_Timed] = [
        (min(first_ms, row["start_ms"]), _FIRST, Origin.GAMMA, gamma(slug, fee_rate=row["fee_rate"], **ids))
    ]
    if strike is not None:
        shown = gamma(slug, strike=strike, fee_rate=row["fee_rate"], **ids)
        said.append((max(first_ms, row["start_ms"]), _FIRST, Origin.GAMMA, shown))
    winner = _WINNERS.get(row["winner"] or "")
    if winner is not None:
        final = gamma(slug, strike=strike, final=row["final"], winner=winner, fee_rate=row["fee_rate"], **ids)
        said.append((row["end_ms"] + SETTLES_LATER_MS, _LAST, Origin.GAMMA, final))
    return said


def _window(row: dict[str, Any], quotes: list[dict[str, Any]], books: list[dict[str, Any]]) -> list[_Timed]:
    slug = row["slug"]
    condition, tokens = made_condition(slug), (made_token(slug, 0), made_token(slug, 1))
    deep: dict[str, dict[str, Any]] = {}
    later = sorted(books, key=lambda one: int(one["venue_ms"]))
    at = 0
    frames: list[_Timed] = []
    for quote in sorted(quotes, key=lambda one: int(one["recv_ms"])):
        while at < len(later) and later[at]["venue_ms"] <= quote["venue_ms"]:
            deep[later[at]["outcome"]] = later[at]
            at += 1
        for outcome, side in enumerate(("up", "down")):
            if quote["recorded"] in (side, "both"):
                text = _told(condition, tokens[outcome], quote, side, deep.get(side))
                frames.append((quote["recv_ms"], _THEN, Origin.CLOB, text))
    first_ms = min((quote["recv_ms"] for quote in quotes), default=row["start_ms"])
    return [*_ends(row, first_ms), *frames]


def _told(condition: str, token: str, quote: dict[str, Any], side: str, deep: dict[str, Any] | None) -> str:
    """A quote of one token as the market channel would tell it."""
    bid, ask = (
        None if quote[f"{side}_{name}"] is None else round(quote[f"{side}_{name}"], 4) for name in ("bid", "ask")
    )
    bid_size, ask_size = (quote[f"{side}_{name}_size"] for name in ("bid", "ask"))
    if any(price is not None and not (size and size > 0) for price, size in ((bid, bid_size), (ask, ask_size))):
        return best(condition, token, quote["venue_ms"], bid, ask)
    bids, asks = _levels(bid, bid_size, deep, "bid", -1), _levels(ask, ask_size, deep, "ask", 1)
    return book(condition, token, quote["venue_ms"], bids, asks)


def _levels(
    price: float | None, size: float, deep: dict[str, Any] | None, name: str, sign: int
) -> list[tuple[float, float]]:
    """The best price as quoted, and behind it what the last book had there."""
    if price is None:
        return []
    levels = [] if deep is None else zip(deep[f"{name}_px"], deep[f"{name}_sz"], strict=True)
    return [(price, size), *((round(p, 4), s) for p, s in levels if sign * round(p, 4) > sign * price)]


def _raw(path: Path, row: dict[str, Any], quotes: list[dict[str, Any]]) -> list[_Timed]:
    """The window's frames as they came; which token is which is told by the outcome that the quotes were recorded of."""
    frames: list[_Timed] = []
    tokens: dict[str, int] = {}
    condition = ""
    for item in Reader(path):
        if isinstance(item, Frame):
            event = json.loads(item.text)
            tokens.setdefault(event["asset_id"], len(tokens))
            condition = event["market"]
            frames.append((item.recv_ms, _THEN, Origin.CLOB, item.text))
    named = _named(frames, list(tokens), quotes)
    ids = (named[0] or made_token(row["slug"], 0), named[1] or made_token(row["slug"], 1))
    first_ms = frames[0][0] if frames else row["start_ms"]
    return [*_ends(row, first_ms, condition_id=condition, token_ids=ids), *frames]


def _named(frames: list[_Timed], tokens: list[str], quotes: list[dict[str, Any]]) -> tuple[str, str]:
    """Which token is Up's and which is Down's: the quotes say of which outcome the window was recorded, in most of its frames."""
    busiest = max(tokens, key=lambda token: sum(f'"{token}"' in text for _, _, _, text in frames))
    other = next((token for token in tokens if token != busiest), "")
    is_up = sum(quote["recorded"] == "up" for quote in quotes) * 2 >= len(quotes)
    return (busiest, other) if is_up else (other, busiest)


def _spans(windows: list[dict[str, Any]]) -> dict[str, list[tuple[int, int]]]:
    """The times of each asset that prices are wanted of: its windows, and the 15 minutes before."""
    spans: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in windows:
        spans[row["asset"]].append((row["start_ms"] - 900_000, row["end_ms"] + 60_000))
    return spans


def _price(row: dict[str, Any], spans: dict[str, list[tuple[int, int]]]) -> Iterator[_Timed]:
    """A price at its reception; at its own time where that was not recorded."""
    time_ms = row["time_ms"] if row["time_ms"] is not None else row["recv_ms"]
    recv_ms = row["recv_ms"] if row["recv_ms"] is not None else time_ms
    if any(start <= recv_ms <= end for start, end in spans.get(row["asset"], ())):
        yield recv_ms, _THEN, Origin.ARCHIVE, price(row["feed"], row["asset"], time_ms, row["price"])
