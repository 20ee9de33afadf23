"""Tables of a recording: quotes, trades, prices, windows. The rows are made without any library; Parquet needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recording.books import BookStates
from recording.errors import RecordingError
from recording.events import ONE, BestEvent, BookEvent, ChangeEvent, MarketEvent, OddFrame, PriceEvent, TradeEvent
from recording.format import Frame, Note
from recording.reading import decode

QUOTES, TRADES, PRICES, WINDOWS = "quotes", "trades", "prices", "windows"
Row = tuple[str, dict[str, Any]]
"""A table's name, and one row of it."""

# Types as Arrow names them; docs/reference/recordings.md describes the columns.
COLUMNS: dict[str, dict[str, str]] = {
    QUOTES: {
        **{
            "asset": "string",
            "timeframe": "string",
            "window_start_ms": "int64",
            "recv_ms": "int64",
            "venue_ms": "int64",
        },
        "seconds_left": "double",
        **{f"{side}_{what}": "double" for side in ("up", "down") for what in ("bid", "bid_size", "ask", "ask_size")},
        **{"recorded": "string", "doubtful": "bool"},
    },
    TRADES: {
        **{
            "asset": "string",
            "timeframe": "string",
            "window_start_ms": "int64",
            "recv_ms": "int64",
            "venue_ms": "int64",
        },
        **{"outcome": "string", "side": "string", "price": "double", "size": "double", "transaction": "string"},
    },
    PRICES: {"feed": "string", "asset": "string", "time_ms": "int64", "recv_ms": "int64", "price": "double"},
    WINDOWS: {
        **{"slug": "string", "asset": "string", "timeframe": "string", "start_ms": "int64", "end_ms": "int64"},
        **{"condition_id": "string", "up_token": "string", "down_token": "string"},
        **{"strike": "double", "final": "double", "winner": "string", "average_ms": "int64", "delay_ms": "int64"},
        **{"fee_rate": "double", "quotes": "int64", "first_s": "double", "last_s": "double", "longest_gap_s": "double"},
        "whole": "bool",
    },
}
_WINNERS = ("Up", "Down", "Void")
_WHOLE_S = 15.0  # a window is whole where nothing longer is missing, at its ends or in it
_BATCH = 50_000


_Best = tuple[float | None, float | None, float | None, float | None]
_Told = tuple[int, _Best]


@dataclass(slots=True)
class _Window:
    market: MarketEvent
    quotes: int = 0
    first_ms: int | None = None
    last_ms: int = 0
    longest_gap_ms: int = 0
    last: tuple[Any, ...] = ()
    told: dict[int, _Told] = field(default_factory=dict)
    """By outcome: best prices that were told without sizes, until its next book or change."""


@dataclass(slots=True)
class _Walk:
    books: BookStates = field(default_factory=BookStates)
    windows: dict[str, _Window] = field(default_factory=dict)
    tokens: dict[str, tuple[_Window, int]] = field(default_factory=dict)


def rows(items: Iterable[Frame | Note]) -> Iterator[Row]:
    """Make the rows of all tables out of a recording, those of windows last."""
    walk = _Walk()
    for item in items:
        if not isinstance(item, Frame):
            continue
        touched: dict[str, _Window] = {}
        for event in decode(item):
            match event:
                case MarketEvent():
                    _market(walk, event)
                case BookEvent() | ChangeEvent():
                    known = walk.tokens.get(event.token_id)
                    if known is not None and walk.books.take(event) is not None:
                        known[0].told.pop(known[1], None)
                        touched[known[0].market.slug] = known[0]
                case BestEvent():
                    known = walk.tokens.get(event.token_id)
                    if known is not None and _tell(walk, event, *known):
                        touched[known[0].market.slug] = known[0]
                case OddFrame() if event.token_id:
                    walk.books.doubt(event.token_id, event.reason)
                case TradeEvent():
                    known = walk.tokens.get(event.token_id)
                    if known is not None:
                        yield TRADES, _trade(event, *known)
                case PriceEvent():
                    yield PRICES, _price(event)
                case _:
                    pass
        for window in touched.values():
            quote = _quote(walk, window, item.recv_ms)
            if quote is not None:
                yield QUOTES, quote
    for window in sorted(walk.windows.values(), key=lambda one: (one.market.start_ms, one.market.slug)):
        yield WINDOWS, _window(window)


def _market(walk: _Walk, event: MarketEvent) -> None:
    window = walk.windows.get(event.slug)
    if window is None:
        window = walk.windows[event.slug] = _Window(event)
        for outcome, token in enumerate(event.token_ids):
            walk.tokens[token] = window, outcome
    window.market = event


def _tell(walk: _Walk, event: BestEvent, window: _Window, outcome: int) -> bool:
    """Take best prices without sizes; False where the book has them already, as it does at the venue."""
    bid = event.best_bid / ONE if 0 < event.best_bid < ONE else None
    ask = event.best_ask / ONE if 0 < event.best_ask < ONE else None
    book = walk.books.books.get(event.token_id)
    if outcome not in window.told and book is not None and _best(book.bids, book.asks)[::2] == (bid, ask):
        return False
    window.told[outcome] = event.venue_ms, (bid, None, ask, None)
    return True


def _quote(walk: _Walk, window: _Window, recv_ms: int) -> dict[str, Any] | None:
    """The best prices of both tokens; None where they are as they were. One that is not recorded is the other's mirror image."""
    books = [walk.books.books.get(token) for token in window.market.token_ids]
    sides = [
        window.told[outcome][1] if outcome in window.told else _best(book.bids, book.asks) if book is not None else None
        for outcome, book in enumerate(books)
    ]
    recorded = "both" if all(sides) else "up" if sides[0] else "down"
    up, down = sides[0] or _mirror(sides[1]), sides[1] or _mirror(sides[0])
    doubtful = any(book is not None and book.doubt for book in books)
    times = [book.venue_ms for book in books if book is not None]
    venue_ms = max(*times, *(told[0] for told in window.told.values()), 0)
    if window.first_ms is None:
        window.first_ms = window.last_ms = venue_ms
    market = window.market
    if market.start_ms <= venue_ms <= market.end_ms:
        window.longest_gap_ms = max(window.longest_gap_ms, venue_ms - max(window.last_ms, market.start_ms))
    window.last_ms = max(window.last_ms, venue_ms)
    if (up, down, doubtful) == window.last:
        return None
    window.last, window.quotes = (up, down, doubtful), window.quotes + 1
    names = [f"{side}_{what}" for side in ("up", "down") for what in ("bid", "bid_size", "ask", "ask_size")]
    return {
        "asset": market.asset,
        "timeframe": market.timeframe,
        "window_start_ms": market.start_ms,
        "recv_ms": recv_ms,
        "venue_ms": venue_ms,
        "seconds_left": (market.end_ms - venue_ms) / 1000,
        **dict(zip(names, (*up, *down), strict=True)),
        "recorded": recorded,
        "doubtful": doubtful,
    }


def _best(bids: dict[int, int], asks: dict[int, int]) -> _Best:
    bid, ask = max(bids, default=None), min(asks, default=None)
    return (
        None if bid is None else bid / ONE,
        None if bid is None else bids[bid] / ONE,
        None if ask is None else ask / ONE,
        None if ask is None else asks[ask] / ONE,
    )


def _mirror(best: _Best | None) -> _Best:
    bid, bid_size, ask, ask_size = best or (None, None, None, None)
    return (
        None if ask is None else round(1 - ask, 6),
        ask_size,
        None if bid is None else round(1 - bid, 6),
        bid_size,
    )


def _trade(event: TradeEvent, window: _Window, outcome: int) -> dict[str, Any]:
    market = window.market
    return {
        "asset": market.asset,
        "timeframe": market.timeframe,
        "window_start_ms": market.start_ms,
        "recv_ms": event.recv_ms,
        "venue_ms": event.venue_ms,
        "outcome": _WINNERS[outcome],
        "side": "BUY" if event.is_buy else "SELL",
        "price": event.price / ONE,
        "size": event.size / ONE,
        "transaction": event.transaction,
    }


def _price(event: PriceEvent) -> dict[str, Any]:
    return {
        "feed": str(event.feed),
        "asset": event.asset,
        "time_ms": event.time_ms,
        "recv_ms": event.recv_ms,
        "price": event.price,
    }


def _window(window: _Window) -> dict[str, Any]:
    market = window.market
    first_s = None if window.first_ms is None else (window.first_ms - market.start_ms) / 1000
    last_s = None if window.first_ms is None else (window.last_ms - market.start_ms) / 1000
    gap_ms = max(window.longest_gap_ms, market.end_ms - window.last_ms)
    return {
        "slug": market.slug,
        "asset": market.asset,
        "timeframe": market.timeframe,
        "start_ms": market.start_ms,
        "end_ms": market.end_ms,
        "condition_id": market.condition_id,
        "up_token": market.token_ids[0],
        "down_token": market.token_ids[1],
        "strike": market.strike,
        "final": market.final,
        "winner": None if market.winner is None else _WINNERS[market.winner],
        "average_ms": market.average_ms,
        "delay_ms": market.delay_ms,
        "fee_rate": market.fee_rate,
        "quotes": window.quotes,
        "first_s": first_s,
        "last_s": last_s,
        "longest_gap_s": None if first_s is None else gap_ms / 1000,
        "whole": first_s is not None and first_s < _WHOLE_S and gap_ms < _WHOLE_S * 1000,
    }


def write_tables(items: Iterable[Frame | Note], folder: Path) -> dict[str, int]:
    """Write the tables as ``NAME.parquet`` into a folder; return how many rows each has. Equal items give equal bytes.

    Raises:
        RecordingError: pyarrow is not installed, or the folder cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RecordingError("Parquet needs pyarrow; install the extra: pip install '.[research]'") from error
    types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
    counts = dict.fromkeys(COLUMNS, 0)
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        schemas = {name: pa.schema([(c, types[t]) for c, t in columns.items()]) for name, columns in COLUMNS.items()}
        writers = {
            name: pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd")
            for name, schema in schemas.items()
        }

        def put(name: str) -> None:
            writers[name].write_table(pa.Table.from_pylist(waiting[name], schema=schemas[name]))
            waiting[name].clear()

        try:
            for name, row in rows(items):
                waiting[name].append(row)
                counts[name] += 1
                if len(waiting[name]) >= _BATCH:
                    put(name)
            for name in COLUMNS:
                put(name)
        finally:
            for writer in writers.values():
                writer.close()
    except OSError as error:
        raise RecordingError(f"the tables cannot be written to {folder}: {error}") from error
    return counts
