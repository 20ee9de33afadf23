"""kaboomfox/15btc_eth (MIT): BTC and ETH 15m, about a row a second and side, with Binance's and the oracle's prices.

``shard_XXXX.parquet``: ts (ms), progress (0 to 1 of the window), outcome_up, outcome_down (1.0 names the side), best_bid,
best_ask, best_bid_size, best_ask_size (in dollars), oracle_price, binance_price, target_price (int64 cents). It names neither
window nor asset: the window follows from time and progress, the asset from the price. It says that Up wins above the target;
the venue says at or above, and so does this.
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
    made_condition,
    made_token,
    parquet,
    price,
)

CONTENTS = Contents(depth=1, sampled_ms=1_000, average_ms=0, lacks=(Lack.TRADES,))

_COLUMNS = (
    *("ts", "progress", "outcome_up", "outcome_down", "best_bid", "best_ask", "best_bid_size", "best_ask_size"),
    *("oracle_price", "binance_price", "target_price"),
)
_WINDOW_MS = 900_000
_BTC_FROM_USD = 10_000  # of the two, BTC alone was ever dearer
_FINAL_MS = 5_000  # how near to the end the last oracle price must be, to decide
_FIRST, _THEN, _LAST = 0, 1, 2


def read(source: Path, wanted: Wanted) -> Iterator[Frame]:
    """Frames shard by shard. Shards are taken to be in order of time."""
    for path in files(source, "shard_*.parquet"):
        frames: list[tuple[int, int, str, str]] = []
        last: dict[str, dict[str, Any]] = {}
        for row in sorted(parquet(path, _COLUMNS), key=lambda one: int(one["ts"])):
            asset, slug = _window(row)
            if wanted.assets and asset not in wanted.assets:
                continue
            if slug not in last:
                strike = row["target_price"] / 100
                frames.append((int(row["ts"]), _FIRST, Origin.GAMMA, gamma(slug, strike=strike)))
            last[slug] = row
            frames += _row(row, asset, slug)
        frames += [ended for slug, row in last.items() for ended in _end(slug, row)]
        yield from in_order(frames)


def _window(row: dict[str, Any]) -> tuple[str, str]:
    asset = "BTC" if row["target_price"] / 100 >= _BTC_FROM_USD else "ETH"
    start_ms = round((row["ts"] - row["progress"] * _WINDOW_MS) / _WINDOW_MS) * _WINDOW_MS
    return asset, f"{asset.lower()}-updown-15m-{start_ms // 1000}"


def _row(row: dict[str, Any], asset: str, slug: str) -> Iterator[tuple[int, int, str, str]]:
    at_ms, outcome = int(row["ts"]), 0 if row["outcome_up"] == 1.0 else 1
    bid, ask = row["best_bid"], row["best_ask"]
    bids = [(bid, row["best_bid_size"] / bid)] if bid and row["best_bid_size"] else []
    asks = [(ask, row["best_ask_size"] / ask)] if ask and row["best_ask_size"] else []
    yield at_ms, _THEN, Origin.CLOB, book(made_condition(slug), made_token(slug, outcome), at_ms, bids, asks)
    if outcome == 0:  # both sides' rows carry the prices
        for feed, name in (("chainlink", "oracle_price"), ("binance", "binance_price")):
            if row[name]:
                yield at_ms, _THEN, Origin.ARCHIVE, price(feed, asset, at_ms, row[name] / 100)


def _end(slug: str, row: dict[str, Any]) -> Iterator[tuple[int, int, str, str]]:
    """The outcome, where the oracle's price of the end was recorded."""
    end_ms = int(slug.rpartition("-")[2]) * 1000 + _WINDOW_MS
    if row["oracle_price"] and row["ts"] >= end_ms - _FINAL_MS:
        strike, final = row["target_price"] / 100, row["oracle_price"] / 100
        ended = gamma(slug, strike=strike, final=final, winner=0 if final >= strike else 1)
        yield end_ms + SETTLES_LATER_MS, _LAST, Origin.GAMMA, ended
