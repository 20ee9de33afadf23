"""How much memory paper holds after 1,000, 2,000 ... 10,000 windows: the whole exchange, house included, on a virtual clock.

python -m bench.paper_memory --windows 10000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from paper import Exchange, Record, Settings
from paper.windows import ASSETS

_START_MS = 1_795_000_200_000
_WINDOW_S = 5
_TICK_MS = 1_000
_COMMIT_MS = 20_000
_FLAT = 1.05  # the last thousand windows may hold this much more than the third thousand


async def run(windows: int, step: int, report: Callable[[dict[str, float]], None]) -> list[dict[str, float]]:
    """Let so many windows of 5 s pass; report a row each ``step`` windows, and return them."""
    now = _START_MS
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder))
        options = {"data": folder, "timeframes": f"{_WINDOW_S}s", "resolution_delay": 1.0}
        settings = Settings.model_validate(options)
        exchange = Exchange(settings, record, {}, lambda: now)
        exchange.start()
        started = time.monotonic()
        while len(rows) < windows // step:
            now += _TICK_MS
            exchange.tick()
            if now % _COMMIT_MS == 0:  # so that it is memory that is measured, and not the disk
                await record.durable()
            done = (now - _START_MS) // (_WINDOW_S * 1000) * len(ASSETS)
            if done >= (len(rows) + 1) * step:
                gc.collect()
                blocks, seconds = sys.getallocatedblocks(), round(time.monotonic() - started, 1)
                rows.append({"windows": done, "rss_mb": _rss_mb(), "blocks": blocks, "seconds": seconds})
                report(rows[-1])
        record.close()
    return rows


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> int:
    """Measure and print; 0 when memory is flat from the third step on, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper_memory", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--windows", type=int, default=10_000, help="how many windows (10000)")
    parser.add_argument("--step", type=int, default=1_000, help="windows between two rows (1000)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()

    def report(row: dict[str, float]) -> None:
        if not options.json:
            sys.stdout.write(f"{row['windows']:7}  {row['rss_mb']:7}  {row['blocks']:7}  {row['seconds']:8}\n")
            sys.stdout.flush()

    if not options.json:
        sys.stdout.write("windows   RSS MB   blocks   seconds\n")
    rows = asyncio.run(run(options.windows, options.step, report))
    if options.json:
        sys.stdout.write(json.dumps(rows) + "\n")
    return 0 if rows[-1]["blocks"] <= rows[min(2, len(rows) - 1)]["blocks"] * _FLAT else 1


if __name__ == "__main__":
    sys.exit(main())
