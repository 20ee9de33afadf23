"""What the importers share: frames as the venue would have sent them, tables, ids where an archive has none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recording.errors import RecordingError
from recording.events import MarketEvent
from recording.format import Frame, Origin
from recording.reading import decode, parse_slug

SETTLES_LATER_MS = 5_000
"""When after a window's end an archive's outcome is told of; archives do not say when it was."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an archive is imported."""

    markets: dict[str, MarketEvent] = field(default_factory=dict)
    """By condition id: from a file of Gamma's events, for archives that do not say what a market is."""
    events: dict[str, str] = field(default_factory=dict)
    """The same events as texts, by condition id."""
    assets: tuple[str, ...] = ()
    """Of these alone; empty for all."""
    all_windows: bool = False
    """Also windows that the archive itself calls unusable."""
    budget: int | None = None


def read_markets(path: Path) -> tuple[dict[str, MarketEvent], dict[str, str]]:
    """Gamma's events (answers of ``/events/slug/...``), one a line.

    Raises:
        RecordingError: the file cannot be read, or has no market of an Up/Down window.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"--markets {path}: cannot be read ({error})") from error
    markets: dict[str, MarketEvent] = {}
    events: dict[str, str] = {}
    for line in lines:
        for event in decode(Frame(0, Origin.GAMMA, line.strip())):
            if isinstance(event, MarketEvent):
                markets[event.condition_id.lower()], events[event.condition_id.lower()] = event, line.strip()
    if not markets:
        raise RecordingError(f"--markets {path}: expected Gamma's events of Up/Down windows, one a line; found none")
    return markets, events


def gamma(
    slug: str,
    *,
    strike: float | None = None,
    final: float | None = None,
    winner: int | None = None,
    average_s: int | None = 0,
    condition_id: str = "",
    token_ids: tuple[str, str] = ("", ""),
    fee_rate: float | None = None,
) -> str:
    """An event as Gamma has it, of what an archive knows of a window. Ids that it does not have are made of the slug."""
    prices = {None: ("0.5", "0.5"), 0: ("1", "0"), 1: ("0", "1"), 2: ("0.5", "0.5")}[winner]
    market: dict[str, Any] = {
        "slug": slug,
        "conditionId": condition_id or made_condition(slug),
        "outcomes": '["Up", "Down"]',
        "clobTokenIds": json.dumps([token or made_token(slug, n) for n, token in enumerate(token_ids)]),
        "outcomePrices": json.dumps(prices),
        "closed": winner is not None,
    }
    if average_s is not None:
        market["cryptoMarketConfig"] = {"twapEnabled": average_s > 0, "twapLookbackSeconds": average_s}
    if fee_rate is not None:
        market["feeSchedule"] = {"rate": fee_rate}
    metadata = {name: value for name, value in (("priceToBeat", strike), ("finalPrice", final)) if value is not None}
    return json.dumps({"slug": slug, "markets": [market], "eventMetadata": metadata}, separators=(",", ":"))


def made_condition(slug: str) -> str:
    """A condition id for a market of which an archive has none."""
    return "0x" + hashlib.sha256(f"condition:{slug}".encode()).hexdigest()


def made_token(slug: str, outcome: int) -> str:
    """A token id for a market of which an archive has none."""
    return str(int.from_bytes(hashlib.sha256(f"token:{outcome}:{slug}".encode()).digest(), "big"))


Levels = Sequence[tuple[float, float]]


def book(condition_id: str, token_id: str, at_ms: int, bids: Levels, asks: Levels) -> str:
    """A book as the market channel sends it: the best levels last."""

    def shown(levels: Levels, *, rising: bool) -> list[dict[str, str]]:
        ordered = sorted(levels, key=lambda level: level[0], reverse=not rising)
        return [
            {"price": decimal(price), "size": decimal(size)} for price, size in ordered if size > 0 and 0 < price < 1
        ]

    event = {
        "event_type": "book",
        "market": condition_id,
        "asset_id": token_id,
        "timestamp": str(at_ms),
        "bids": shown(bids, rising=True),
        "asks": shown(asks, rising=False),
    }
    return json.dumps(event, separators=(",", ":"))


def best(condition_id: str, token_id: str, at_ms: int, bid: float | None, ask: float | None) -> str:
    """The best prices of a token, where their sizes are not known; none is 0 for a bid and 1 for an ask."""
    event = {
        "event_type": "best_bid_ask",
        "market": condition_id,
        "asset_id": token_id,
        "best_bid": decimal(bid or 0.0),
        "best_ask": decimal(1.0 if ask is None else ask),
        "timestamp": str(at_ms),
    }
    return json.dumps(event, separators=(",", ":"))


def price(feed: str, asset: str, time_ms: int, value: float) -> str:
    """A price of an archive."""
    event = {"event_type": "price", "feed": feed, "asset": asset, "time_ms": time_ms, "price": value}
    return json.dumps(event, separators=(",", ":"))


def decimal(value: float) -> str:
    """A number as the venue writes it, of at most six decimals: single precision of archives is rounded away."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def window_end(slug: str) -> int:
    """When a window ends, UTC ms."""
    return parse_slug(slug)[3]


def in_order(frames: Iterable[tuple[int, int, str, str]]) -> Iterator[Frame]:
    """Frames by time, then by rank, then as they came: (UTC ms, rank, source, text)."""
    for recv_ms, _, source, text in sorted(frames, key=lambda frame: frame[:2]):
        yield Frame(recv_ms, source, text)


def parquet(path: Path, columns: Sequence[str], filters: Any = None) -> list[dict[str, Any]]:
    """Rows of a Parquet file.

    Raises:
        RecordingError: pyarrow is missing, the file cannot be read, or has not these columns.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RecordingError("Parquet needs pyarrow; install the extra: pip install '.[research]'") from error
    try:
        there = set(pq.read_schema(path).names)
        missing = [name for name in columns if name not in there]
        if missing:
            raise RecordingError(f"{path} has no column {missing[0]}; expected {', '.join(columns)}")
        rows: list[dict[str, Any]] = pq.read_table(path, columns=[*columns], filters=filters).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(f"{path} cannot be read as Parquet: {error}") from error
    return rows


def files(source: Path, pattern: str) -> list[Path]:
    """The archive's files, sorted; one file alone where it was named.

    Raises:
        RecordingError: there are none.
    """
    found = (
        [source] if source.is_file() else sorted(filter(Path.is_file, source.glob(pattern))) if source.is_dir() else []
    )
    if not found:
        raise RecordingError(f"{source}: expected files named {pattern}, found none")
    return found
