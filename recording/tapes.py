"""Lead prices of a recording as tapes of one-second bars, as ``python -m paper --tape`` and ``bot replay`` read them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from recording.errors import RecordingError
from recording.events import Feed, PriceEvent
from recording.format import Frame, Note
from recording.reading import decode

HEADER = "time,open,high,low,close,volume"
BAR_MS = 1_000


@dataclass(frozen=True, slots=True)
class Bar:
    """One second of one asset. start_ms: UTC. Prices are middles of best bid and ask; of volume nothing is known."""

    start_ms: int
    open: float
    high: float
    low: float
    close: float

    def row(self) -> str:
        """The line of the tape."""
        time = datetime.fromtimestamp(self.start_ms / 1000, tz=UTC).isoformat().replace("+00:00", "Z")
        return f"{time},{self.open!r},{self.high!r},{self.low!r},{self.close!r},0"


class Bars:
    """Prices of one asset to bars. Bars only rise: what a clock that was set back would repeat is left out. Pure."""

    def __init__(self, after_ms: int = 0) -> None:
        self._last_ms = after_ms
        self._bar: Bar | None = None

    def add(self, price: float, wall_ms: int) -> Bar | None:
        """Take a price; the bar that it closed, if it closed one."""
        start = wall_ms - wall_ms % BAR_MS
        bar = self._bar
        if bar is not None and start == bar.start_ms:
            self._bar = Bar(start, bar.open, max(bar.high, price), min(bar.low, price), price)
            return None
        if start <= self._last_ms or (bar is not None and start < bar.start_ms):
            return None
        closed = self.close()
        self._bar = Bar(start, price, price, price, price)
        return closed

    def close(self) -> Bar | None:
        """End the bar that is open."""
        bar, self._bar = self._bar, None
        if bar is not None:
            self._last_ms = bar.start_ms
        return bar


def write_tapes(items: Iterable[Frame | Note], folder: Path) -> dict[Path, int]:
    """Write ``{asset}-1s.csv`` for each asset with lead prices; return how many bars each has.

    Raises:
        RecordingError: the folder cannot be written.
    """
    bars: dict[str, Bars] = {}
    files: dict[str, TextIO] = {}
    counts: dict[Path, int] = {}

    def put(asset: str, bar: Bar | None) -> None:
        if bar is not None:
            files[asset].write(f"{bar.row()}\n")
            counts[folder / f"{asset.lower()}-1s.csv"] += 1

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for item in items:
                for event in decode(item) if isinstance(item, Frame) else ():
                    if not isinstance(event, PriceEvent) or event.feed is not Feed.BINANCE:
                        continue
                    if event.asset not in files:
                        path = folder / f"{event.asset.lower()}-1s.csv"
                        files[event.asset] = stack.enter_context(path.open("w", encoding="utf-8"))
                        files[event.asset].write(f"{HEADER}\n")
                        bars[event.asset], counts[path] = Bars(), 0
                    put(event.asset, bars[event.asset].add(event.price, event.recv_ms))
            for asset, one in bars.items():
                put(asset, one.close())
    except OSError as error:
        raise RecordingError(f"the tapes in {folder} cannot be written: {error}") from error
    return counts
