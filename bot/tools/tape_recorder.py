"""`./ns record`: live lead prices as a tape of one-second bars, in the form that `paper --tape` and `./ns replay` read."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from bot.market_data.binance import BinanceFeed
from bot.market_data.binance_messages import PriceUpdate, Source
from bus import Clock, Log, SettingsError

HEADER = "time,open,high,low,close,volume"
BAR_MS = 1_000
FLUSH_EVERY_S = 0.25


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


def last_ms(path: Path) -> int:
    """When the last bar of a tape begins, 0 where there is none yet. Raises SettingsError: the file is no tape."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with path.open(encoding="utf-8") as file:
        lines = file.read().splitlines()
    if lines[0] != HEADER:
        raise SettingsError(f"{path} is no tape: expected the first line {HEADER}; record into another folder")
    if len(lines) == 1:
        return 0
    try:
        return round(datetime.fromisoformat(lines[-1].split(",")[0]).timestamp() * 1000)
    except ValueError as error:
        raise SettingsError(f"{path}: the last line is no bar ({error}); remove it and record on") from error


async def record_tapes(
    ws_url: str,
    assets: tuple[str, ...],
    folder: Path,
    *,
    clock: Clock,
    log: Log,
    limit_s: float | None,
    say: Callable[[str], None],
) -> dict[Path, int]:
    """Record until SIGINT or SIGTERM, or for so many seconds; the bars that were written to each file.

    Files are {asset}-1s.csv; one that is there is carried on. Raises SettingsError: a file cannot be used.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    files: dict[str, TextIO] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = {asset: folder / f"{asset.lower()}-1s.csv" for asset in assets}
        bars = {asset: Bars(last_ms(path)) for asset, path in paths.items()}
        for asset, path in paths.items():
            files[asset] = path.open("a", encoding="utf-8")
            if not path.stat().st_size:
                files[asset].write(f"{HEADER}\n")
    except OSError as error:
        raise SettingsError(f"the tapes in {folder} cannot be written: {error}") from error
    written = dict.fromkeys(assets, 0)

    def take(update: PriceUpdate) -> None:
        if update.source is Source.BOOK:
            put(update.asset, bars[update.asset].add(update.price, clock.wall_ms()))

    def put(asset: str, bar: Bar | None) -> None:
        if bar is not None:
            files[asset].write(f"{bar.row()}\n")
            written[asset] += 1

    feed = BinanceFeed(
        ws_url=ws_url, assets=assets, on_update=take, boot_ms=clock.boot_ms, random=random.random, log=log
    )
    reading = asyncio.create_task(feed.run(), name="feed")
    flushing = asyncio.create_task(_flush_forever(files), name="flush")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        say(f"recording {', '.join(assets)} from {ws_url} into {folder}; Ctrl-C ends it")
        await asyncio.wait({reading, flushing, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, flushing):
            if task.done():
                task.result()
    finally:
        for one in (reading, flushing, stopped):
            one.cancel()
        await asyncio.gather(reading, flushing, stopped, return_exceptions=True)
        for asset, file in files.items():
            put(asset, bars[asset].close())
            file.close()
    return {paths[asset]: count for asset, count in written.items()}


async def _flush_forever(files: dict[str, TextIO]) -> None:
    while True:
        await asyncio.sleep(FLUSH_EVERY_S)
        for file in files.values():
            file.flush()
