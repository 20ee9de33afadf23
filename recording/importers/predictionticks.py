"""predictionticks.com: one pair of files a round, named by its closing unix second.

``btc-updown-5m-<close>.csv``: timestamp (float s), datetime, up_price, down_price (last trades), remaining_minutes.
``<close>_orderbook.jsonl``: timestamp, datetime, remaining_minutes, up {bids ascending, asks descending}, down: the best level
is the last one of each list. The venue names a window by its start.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recording.errors import RecordingError
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
)

CONTENTS = Contents(sampled_ms=1_500, lacks=(Lack.TRADES, Lack.LEAD, Lack.SETTLEMENT, Lack.STRIKE))

_NAME = re.compile(r"([a-z]+)-updown-([0-9]+)m-([0-9]{9,11})\.csv")
_DECIDED = 0.9  # a last price beyond tells the winner; what lies between tells nothing
_NEAR_END_S = 15.0
_FIRST, _THEN, _LAST = 0, 1, 2


def read(source: Path, wanted: Wanted) -> Iterator[Frame]:
    """Frames round by round, by their closing times."""
    rounds = [(match, path) for path in files(source, "*-updown-*.csv") if (match := _NAME.fullmatch(path.name))]
    if not rounds:
        raise RecordingError(f"{source}: expected files named btc-updown-5m-CLOSE.csv, found others")
    for match, path in sorted(rounds, key=lambda one: (int(one[0][3]), one[0][1])):
        if not wanted.assets or match[1].upper() in wanted.assets:
            yield from in_order(_round(match, path))


def _round(match: re.Match[str], path: Path) -> list[tuple[int, int, str, str]]:
    close_s = int(match[3])
    slug = f"{match[1]}-updown-{match[2]}m-{close_s - int(match[2]) * 60}"
    condition, tokens = made_condition(slug), (made_token(slug, 0), made_token(slug, 1))
    frames: list[tuple[int, int, str, str]] = []
    books = path.with_name(f"{close_s}_orderbook.jsonl")
    for row in _lines(books) if books.exists() else []:
        at_ms = round(float(row["timestamp"]) * 1000)
        for outcome, side in enumerate(("up", "down")):
            if isinstance(row.get(side), dict):
                bids, asks = (_levels(row[side].get(name)) for name in ("bids", "asks"))
                frames.append((at_ms, _THEN, Origin.CLOB, book(condition, tokens[outcome], at_ms, bids, asks)))
    begin_ms = min((frame[0] for frame in frames), default=(close_s - int(match[2]) * 60) * 1000)
    frames.append((begin_ms, _FIRST, Origin.GAMMA, gamma(slug, average_s=None)))
    winner = _winner(path, close_s)
    if winner is not None:
        ended = gamma(slug, winner=winner, average_s=None)
        frames.append((close_s * 1000 + SETTLES_LATER_MS, _LAST, Origin.GAMMA, ended))
    return frames


def _winner(path: Path, close_s: int) -> int | None:
    """Who won, by the last trade near the end; None where it tells nothing."""
    last: float | None = None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("up_price") and float(row["timestamp"]) >= close_s - _NEAR_END_S:
                    last = float(row["up_price"])
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: expected the columns timestamp and up_price ({error})") from error
    return None if last is None else 0 if last >= _DECIDED else 1 if last <= 1 - _DECIDED else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(line)
            if not isinstance(row, dict) or "timestamp" not in row:
                raise RecordingError(f"{path}, line {number}: expected an object with a timestamp")
            yield row
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read ({error})") from error


def _levels(value: Any) -> list[tuple[float, float]]:
    """Levels as objects or as pairs."""
    return [
        (float(level["price"]), float(level["size"])) if isinstance(level, dict) else (float(level[0]), float(level[1]))
        for level in value or []
    ]
