"""What the panel costs: `python -m bench.panel [--pages 20] [--seconds 30]`.

A real bot on the paper exchange (16 slots, a poll a second) and a real panel. First nobody looks, then so many pages follow the
events, each over a connection of its own. Measured: how old a status is when a page has it whole, the panel's processor time,
and the lag of the bot's polls behind their ticks without and with the pages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console

from bus import Ledger, Role
from tests.e2e.rig import Rig
from tests.unit.panel.running import RunningPanel, running_panel

LIMIT_MS = 250
LIMIT_CPU = 0.2
WARM_S = 5


async def follow(panel: RunningPanel, until_s: float, ages: list[int]) -> int:
    """One page: the ages in ms of the statuses that it got; returns how many events it got."""
    reader, writer = await asyncio.open_connection("127.0.0.1", panel.port, limit=1 << 24)
    request = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {panel.token}\r\n\r\n"
    writer.write(request.encode())
    events, kind, seen = 0, b"", set()
    try:
        async with asyncio.timeout(until_s - time.monotonic()):
            while line := await reader.readline():
                if line.startswith(b"event: "):
                    kind = line[7:].strip()
                elif line.startswith(b"data: "):
                    events += 1
                    if kind == b"status":
                        note_age(line[6:], ages, seen)
    except TimeoutError:
        pass
    writer.close()
    return events


def note_age(data: bytes, ages: list[int], seen: set[int]) -> None:
    """Keep the age of a status that this page sees for the first time. The one found at the opening counts for nothing."""
    now_ms = time.time_ns() // 1_000_000
    stamp = json.loads(data)["stamp"]
    if stamp is None or stamp["sequence"] in seen:
        return
    if seen:
        ages.append(now_ms - stamp["time_ms"])
    seen.add(stamp["sequence"])


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def lags(rig: Rig, since_tick: int) -> list[int]:
    """The lag in ms of each poll completed after a tick."""
    ledger = Ledger.reader(rig.bus.ledger)
    assert ledger is not None, "the bot has a ledger"
    with ledger:
        rows = ledger.execute("SELECT lag_ms FROM polls_completed WHERE tick > ?", (since_tick,))
    return [int(str(lag)) for (lag,) in rows]


def at(values: list[int], part: float) -> int:
    """The value below which `part` of all are."""
    rising = sorted(values)
    return rising[min(len(rising) - 1, int(part * len(rising)))] if rising else 0


def measure(rig: Rig, panel: RunningPanel, pages: int, seconds: float) -> tuple[float, list[int], list[int], int]:
    """(share of a core, poll lags, ages, events) over a stretch of time with so many pages."""
    tick = rig.count("SELECT max(tick) FROM polls_completed")
    ages: list[int] = []

    async def run() -> int:
        until_s = time.monotonic() + seconds
        if pages == 0:
            await asyncio.sleep(seconds)
            return 0
        return sum(await asyncio.gather(*(follow(panel, until_s, ages) for _ in range(pages))))

    used, began = cpu_s(panel.process.pid), time.monotonic()
    events = asyncio.run(run())
    share = (cpu_s(panel.process.pid) - used) / (time.monotonic() - began)
    return share, lags(rig, tick), ages, events


def main() -> int:
    """Returns 1 when a limit of the issue is not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.panel", description=__doc__)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), interval=1.0, timeframes="30s,90s")
        try:
            bot = rig.start_bot()
            rig.until_role(bot, Role.ACTIVE)
            with running_panel(rig.folder) as panel:
                time.sleep(WARM_S)
                alone, before, _, _ = measure(rig, panel, 0, arguments.seconds)
                share, during, ages, events = measure(rig, panel, arguments.pages, arguments.seconds)
        finally:
            rig.stop()
    console = Console(highlight=False, soft_wrap=True)
    said = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    console.print(
        f"{said}: {arguments.pages} pages for {arguments.seconds:g} s, {events} events, {len(ages)} statuses received"
    )
    console.print(
        f"status age at a page   p50 {at(ages, 0.5)} ms, p99 {at(ages, 0.99)} ms, most {max(ages, default=0)} ms"
    )
    console.print(f"panel                  {share:.1%} of a core ({alone:.1%} with no page open)")
    console.print(f"poll lag               p50 {at(before, 0.5)} ms, p99 {at(before, 0.99)} ms with no page open")
    console.print(f"                       p50 {at(during, 0.5)} ms, p99 {at(during, 0.99)} ms with {arguments.pages}")
    kept = at(ages, 0.99) <= LIMIT_MS and share <= LIMIT_CPU and bool(ages)
    console.print(f"limits: {LIMIT_MS} ms p99, {LIMIT_CPU:.0%} of a core: {'kept' if kept else 'NOT KEPT'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
