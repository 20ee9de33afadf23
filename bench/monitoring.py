"""What metrics and logs cost: `python -m bench.monitoring`.

One poll of 16 slots with all that it tells Prometheus and the log, into a pipe that is read; one scrape; the lag of an event loop
with and without both; the series that 50 deploys leave.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from bot.active import Poll
from bot.metrics import Metrics
from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, make_slots
from bus import Instance, Log, Logging, Role, Seen, Status, Totals
from bus.status import SlotStatus
from deployer.targets import targets

POLLS = 2_000
SCRAPES = 200
LINES_A_POLL = 3  # more than a poll usually writes
LOOP_S = 10.0
STEP_S = 0.005
REASONS = ("before the snipe window", "edge +0.011 is below 0.03", "Up costs 0.98, more than 0.97", "no offers")
SLOTS = make_slots(DEFAULT_ASSETS, DEFAULT_TIMEFRAMES)


def _metrics() -> Metrics:
    made = Metrics("1", "a" * 40)
    made.prepare(((slot.id, slot.asset) for slot in SLOTS), [f"binance {asset}" for asset in DEFAULT_ASSETS])
    return made


def _poll(number: int) -> Poll:
    decisions = [SimpleNamespace(action="none", reason=REASONS[(number + n) % len(REASONS)]) for n in range(len(SLOTS))]
    return Poll(5_000 * number, True, None, cast(Any, [SimpleNamespace(decision=d) for d in decisions]), 1, 25)


def _status() -> Status:
    slots = tuple(
        SlotStatus(slot=slot.id, asset=slot.asset, timeframe=slot.timeframe, enabled=True, reason=REASONS[0])
        for slot in SLOTS
    )
    return Status(
        epoch=1, instance="i", sha="a", color="blue", since_ms=0, interval_ms=5_000, slots=slots, totals=Totals()
    )  # fmt: skip


def _tell(metrics: Metrics, log: Log, poll: Poll, status: Status) -> None:
    """All that one poll tells: it is counted, its status is taken over, lines are logged."""
    metrics.note_poll(poll, 0.001)
    metrics.note_role(Role.ACTIVE)
    metrics.note_status(status)
    for n in range(LINES_A_POLL):
        log.info(
            "order_placed", slot="BTC-5m", tick=poll.tick, side="BUY", price="0.50", shares="10", reason=REASONS[n]
        )


def _times(work: Callable[[int], None], count: int) -> str:
    """Of the wall clock and of this thread's processor time, which other work on the machine does not touch."""
    wall, processor = [], []
    for n in range(count):
        began, ran = time.perf_counter(), time.thread_time()
        work(n)
        processor.append((time.thread_time() - ran) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
    shown = []
    for name, taken in (("processor", processor), ("wall", wall)):
        taken.sort()
        shown.append(f"{name} p50 {taken[count // 2]:.3f}, p99 {taken[count * 99 // 100]:.3f}")
    return "; ".join(shown) + " ms"


async def _loop_lag(between: Callable[[int], None] | None) -> str:
    """How late sleepers wake, with `between` run once a second."""
    loop, late = asyncio.get_running_loop(), []
    ends, n = loop.time() + LOOP_S, 0
    while loop.time() < ends:
        wake_at = loop.time() + STEP_S
        await asyncio.sleep(STEP_S)
        late.append((loop.time() - wake_at) * 1000)
        n += 1
        if between is not None and n % round(1 / STEP_S) == 0:
            loop.call_later(STEP_S / 2, between, n)  # while the sleeper sleeps
    late.sort()
    return f"p50 {statistics.median(late):.3f} ms, p99 {late[len(late) * 99 // 100]:.3f} ms"


def _places_after(deploys: int) -> int:
    """How many places 50 deploys used, two bots a commit."""

    def bot(number: int, color: str) -> Seen:
        document = Instance(
            id=str(number), role=Role.STANDBY, color=color, sha="a", unit=f"bot-{number}", metrics="0.0.0.0:1"
        )
        return Seen(str(number), True, document, 1)

    before: dict[str, str] = {}
    used: set[str] = set()
    for deploy in range(deploys):
        old, new = ("blue", "green") if deploy % 2 else ("green", "blue")
        former = [bot(4 * deploy, old), bot(4 * deploy + 1, old)]
        for fleet in (
            former,
            [*former, bot(4 * deploy + 2, new)],
            [bot(4 * deploy + 2, new), bot(4 * deploy + 3, new)],
        ):
            before = {target.address: target.place for target in targets(fleet, before)}
            used |= set(before.values())
    return len(used)


def main() -> None:
    """Measure and print."""
    reader, writer = os.pipe()
    threading.Thread(target=_drain, args=(reader,), daemon=True).start()
    logging = Logging(writer, color="blue", git_sha="a" * 12, deploy_id="d")
    metrics, status = _metrics(), _status()
    polls = [_poll(n) for n in range(100)]

    def tell(n: int) -> None:
        _tell(metrics, logging.log, polls[n % 100], status)

    _say(f"metrics and {LINES_A_POLL} log lines a poll of {len(SLOTS)} slots: {_times(tell, POLLS)}")
    _say(f"a scrape: {_times(lambda _n: _scrape(metrics), SCRAPES)}, {len(metrics.text()) / 1024:.0f} KB")
    _say(f"loop lag without them: {asyncio.run(_loop_lag(None))}")
    _say(f"loop lag with a poll told a second: {asyncio.run(_loop_lag(tell))}")
    series = sum(len(family.samples) for family in metrics.registry.collect())
    used = _places_after(50)
    _say(
        f"after 50 deploys: {used} places x {series} series of a bot, and one bot_build_info a commit and place it had"
    )
    _say(f"log lines dropped: {logging.dropped}")
    logging.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _scrape(metrics: Metrics) -> None:
    metrics.text()


def _drain(reader: int) -> None:
    while os.read(reader, 1 << 16):
        pass


if __name__ == "__main__":
    main()
