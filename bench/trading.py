"""How long the bot takes: from a price to an order, and for a poll of many slots, with a standby running beside it.

python -m bench.trading [--orders 300] [--parts ticks,library,polls,commits]

Tick-to-send runs from the moment the event loop has read the price message from its socket to the moment the order's bytes
were handed to theirs: parsing, coalescing, decision, risk, signature, intent, request. `without fsync` has the ledger's
commits not wait for the disk; `commits` shows what the disk takes, paced, beside a bare fdatasync of the same machine.
`quotes/s` are prices that signal nothing, of all assets together: BTCUSDT's bookTicker alone came 87 to 255 times a second
where somebody counted (tarasko/picows, issue 41). An order must not wait for what they started.
`library` is what to compare it with on any machine: a script over the client library, with no ledger, no risk and no standby.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging as standard_logging
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from asyncio import selector_events
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from polymarket.errors import RequestRejectedError
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection as WebSocketConnection

from bench.stage import (
    SIGNAL_PRICE,
    STRIKE,
    FarEnd,
    make_market,
    make_venue,
    make_world,
    percentiles,
    show_books,
    show_settlement,
)
from bot.lifecycle.active import Active
from bot.lifecycle.app import GcTuning
from bot.lifecycle.polls import shadow_poll
from bot.settings import BotSettings
from bot.slots import DEFAULT_ASSETS, Slot, make_slots
from bot.strategy.evaluation import Own
from bus import Logging, SystemClock, open_bus, write_control
from bus.tasks import Guard
from ledger import Ledger
from ledger.schema import SCHEMA

CONTROL = {"strategy": {"confirmations": 1, "snipe_fraction": 1.0}, "risk": {"orders_per_minute": 1_000_000}}
POLL_S = 0.25
WARM_UP = 5
SIGNAL = f'"b": "{SIGNAL_PRICE:.2f}"'.encode()
PACES = (1, 50)


class Stopwatch:
    """Notes when a price that is a signal was read, and when order bytes went out."""

    def __init__(self) -> None:
        self.read_ns = self.read_cpu_ns = 0
        self.spans_ms: list[float] = []
        self.cpu_ms: list[float] = []
        self._fresh = False
        received, write = WebSocketConnection.data_received, selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]
        watch = self

        def data_received(connection: Any, data: bytes) -> None:
            if SIGNAL in data:
                watch.read_ns, watch.read_cpu_ns, watch._fresh = time.perf_counter_ns(), time.thread_time_ns(), True
            received(connection, data)

        def write_and_note(transport: Any, data: Any) -> None:
            write(transport, data)
            # The first order of a price: those of its other slots wait for it by nature.
            if watch._fresh and b'"orderType"' in bytes(data):
                watch.spans_ms.append((time.perf_counter_ns() - watch.read_ns) / 1e6)
                watch.cpu_ms.append((time.thread_time_ns() - watch.read_cpu_ns) / 1e6)
                watch._fresh = False

        WebSocketConnection.data_received = data_received  # type: ignore[method-assign,assignment]
        selector_events._SelectorSocketTransport.write = write_and_note  # type: ignore[attr-defined]


async def ticks(
    folder: Path, orders: int, *, durable: bool, watch: Stopwatch, quotes_per_s: float = 0.0
) -> list[float]:
    """The spans of so many orders, in ms."""
    far = FarEnd(DEFAULT_ASSETS, 0.03, quotes_per_s)
    logs = quiet()
    bus = open_bus(folder)
    clock = SystemClock()
    write_control(bus, 0, lambda found: found.changed(generation=1, **CONTROL), by="bench", clock=clock)
    venue = make_venue(far.http_url, logs.log)
    await venue.open()
    settings = BotSettings(timeframes=("15m",), poll_interval=POLL_S, orders_per_second=1000)
    slots = make_slots(DEFAULT_ASSETS, ("15m",))
    world, routes = make_world(bus, settings, slots, venue, far.ws_url, logs)
    standby = multiprocessing.get_context("spawn").Process(
        target=run_standby, args=(folder, far.ws_url, far.http_url), daemon=True
    )
    ledger = Ledger.hold(bus.ledger, world.identity, SCHEMA)
    if not durable:
        ledger.execute("PRAGMA synchronous = OFF")
    epoch = ledger.take(
        instance="bench", sha="a" * 40, color="blue", request="",
        wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms(), boot_id=clock.boot_id,
    )  # fmt: skip
    failures: list[Exception] = []
    guard = Guard(logs.log, on_failure=failures.append)
    active = Active(
        world,
        ledger,
        epoch,
        instance="bench",
        random_bits=secrets.randbits,
        on_change=lambda: None,
        on_failure=failures.append,
    )
    guard.start(world.account.run(), "account")
    guard.start(world.markets.run(), "markets")
    guard.start(world.feed.run(), "feed")
    active.start(guard)
    standby.start()
    try:
        await asyncio.sleep(1.0)
        watch.spans_ms.clear()
        watch.cpu_ms.clear()
        tick, garbage = active.ticks.first(), GcTuning()
        while len(watch.spans_ms) < orders:
            await asyncio.sleep(max(0.0, (active.ticks.anchor.due_ms(tick) - clock.boot_ms()) / 1000))
            show_books(routes, slots, world.now_ms())
            show_settlement(world)
            await active.poll(tick)
            garbage.after_poll()
            tick = active.ticks.after(tick)
            if failures:
                raise failures[0]
    finally:
        await active.close(1.0)
        await guard.close()
        await venue.close()
        ledger.close()
        standby.terminate()
        standby.join(10)
        far.close()
        logs.close()
    return watch.spans_ms[:orders]


def run_standby(folder: Path, ws_url: str, http_url: str) -> None:
    """A standby beside: its own prices, and a shadow poll at every tick."""

    async def live() -> None:
        logs = quiet()
        venue = make_venue(http_url, logs.log)
        await venue.open()
        settings = BotSettings(timeframes=("15m",), poll_interval=POLL_S)
        slots = make_slots(DEFAULT_ASSETS, ("15m",))
        world, routes = make_world(open_bus(folder), settings, slots, venue, ws_url, logs)
        guard = Guard(logs.log, on_failure=lambda _error: None)
        guard.start(world.account.run(), "account")
        guard.start(world.markets.run(), "markets")
        guard.start(world.feed.run(), "feed")
        while True:
            show_books(routes, slots, world.now_ms())
            await shadow_poll(world, Own())
            await asyncio.sleep(POLL_S)

    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # its log is nobody's concern here
    asyncio.run(live())


async def library(orders: int, watch: Stopwatch) -> list[float]:
    """Spans in ms of so many orders that the client library alone places on the same signals, over the same wire."""
    far, logs = FarEnd(DEFAULT_ASSETS, 0.03), quiet()
    venue = make_venue(far.http_url, logs.log)
    await venue.open()
    client = venue._client.library
    market = make_market("btc-updown-15m-1795465800")
    tokens = frozenset((market.up_token, market.down_token))
    metadata = SimpleNamespace(
        fee_info=SimpleNamespace(rate=market.fee_rate, exponent=market.fee_exponent),
        neg_risk=False,
        tick_size=market.tick,
        token_ids=tokens,
        asset_ids=tokens,
    )

    async def resolve_market(_context: Any, *, token_id: str) -> Any:  # noqa: ARG001
        """As the library's cache answers once it is filled."""
        return metadata

    client._ctx.order_metadata.resolve_market = resolve_market  # type: ignore[method-assign,assignment]
    watch.spans_ms.clear()
    watch.cpu_ms.clear()
    try:
        async with connect(f"{far.ws_url}/stream", compression=None) as socket:
            async for message in socket:
                if float(json.loads(message)["data"]["b"]) < STRIKE * 1.01:
                    continue
                with suppress(RequestRejectedError):  # the far end has nothing to match with
                    await client.place_limit_order(
                        token_id=market.up_token, price=Decimal("0.52"), size=Decimal(20), side="BUY"
                    )
                if len(watch.spans_ms) >= orders + WARM_UP:
                    break
    finally:
        await venue.close()
        far.close()
        logs.close()
    return watch.spans_ms[WARM_UP:]


async def polls(folder: Path, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Durations in ms of active polls of so many slots, commits included, and of making a status of each."""
    logs = quiet()
    bus = open_bus(folder)
    clock = SystemClock()
    write_control(bus, 0, lambda found: found.changed(generation=1), by="bench", clock=clock)
    venue = make_venue("http://127.0.0.1:9", logs.log)
    await venue.open()
    assets = tuple(
        f"A{first}{second}" for first in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for second in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    )
    assets = assets[: max(1, count // 2)]
    settings = BotSettings(assets=assets, timeframes=("5m", "15m"), poll_interval=0.25)
    slots = tuple(Slot(asset, timeframe) for asset in assets for timeframe in settings.timeframes)
    world, routes = make_world(bus, settings, slots, venue, "ws://127.0.0.1:9", logs)
    ledger = Ledger.hold(bus.ledger, world.identity, SCHEMA)
    epoch = ledger.take(
        instance="bench", sha="a" * 40, color="blue", request="",
        wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms(), boot_id=clock.boot_id,
    )  # fmt: skip
    active = Active(
        world, ledger, epoch, instance="bench", random_bits=secrets.randbits,
        on_change=lambda: None, on_failure=lambda _error: None,
    )  # fmt: skip
    guard = Guard(logs.log, on_failure=lambda _error: None)
    guard.start(world.account.run(), "account")
    guard.start(world.markets.run(), "markets")
    spans: list[float] = []
    statuses: list[float] = []
    garbage = GcTuning()
    try:
        while not all(world.markets.asked(slot.window(world.now_ms())) for slot in slots):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        tick = active.ticks.first()
        for _ in range(rounds):
            await asyncio.sleep(max(0.0, (active.ticks.anchor.due_ms(tick) - clock.boot_ms()) / 1000))
            show_books(routes, slots, world.now_ms())
            now = clock.boot_ms()
            world.feed._last_boot_ms.update(dict.fromkeys(assets, now))
            started = time.perf_counter_ns()
            done = await active.poll(tick)
            spans.append((time.perf_counter_ns() - started) / 1e6)
            started = time.perf_counter_ns()
            active.status()
            statuses.append((time.perf_counter_ns() - started) / 1e6)
            garbage.after_poll()
            assert all(e.inputs is not None for e in done.evaluations), "each slot was really evaluated"
            tick = active.ticks.after(tick)
    finally:
        await active.close(0.1)
        await guard.close()
        await venue.close()
        ledger.close()
        logs.close()
    return spans, statuses


def commits(folder: Path, per_second: int, seconds: float) -> tuple[list[float], list[float]]:
    """Spans in ms of one-row commits to a ledger, and of a bare write and fdatasync, paced, taking turns."""
    bus = open_bus(folder)
    clock = SystemClock()
    from ledger import Identity

    ledger = Ledger.hold(bus.ledger, Identity("paper", "137", "0xbench"), SCHEMA)
    ledger.take(
        instance="bench", sha="a" * 40, color="blue", request="",
        wall_ms=clock.wall_ms(), boot_ms=clock.boot_ms(), boot_id=clock.boot_id,
    )  # fmt: skip
    ledger_ms, bare_ms = [], []
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for n in range(max(5, int(per_second * seconds))):
            time.sleep(1 / per_second)
            started = time.perf_counter_ns()
            ledger.claim(n * 1000, 1, clock.boot_ms())
            ledger_ms.append((time.perf_counter_ns() - started) / 1e6)
            started = time.perf_counter_ns()
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
            bare_ms.append((time.perf_counter_ns() - started) / 1e6)
    finally:
        os.close(descriptor)
        ledger.close()
    return ledger_ms, bare_ms


def quiet() -> Logging:
    """A log that costs what it costs, into nowhere."""
    standard_logging.disable(standard_logging.CRITICAL)
    return Logging(color="bench", git_sha="a", deploy_id="")


def main() -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.trading", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=300, help="orders of each tick-to-send (%(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="polls of each size (%(default)s)")
    parser.add_argument(
        "--quotes",
        type=float,
        nargs="+",
        default=[0.0, 100.0],
        metavar="N",
        help="prices a second that signal nothing, beside (%(default)s)",
    )
    parser.add_argument("--parts", default="ticks,library,polls,commits", help="(%(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="where the buses are made (a temporary folder; its disk is measured)"
    )
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    out, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: PTH123, SIM115  # the bots' logs go nowhere
    missed = False

    def say(what: str, values: list[float]) -> None:
        out.write(f"{what:<44}{percentiles(values)}\n")
        out.flush()

    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        root = Path(name)
        watch = Stopwatch()
        if "ticks" in parts:
            for quotes, durable in itertools.product(chosen.quotes, (False, True)):
                (folder := root / f"ticks-{quotes:g}-{durable}").mkdir()
                spans = asyncio.run(ticks(folder, chosen.orders, durable=durable, watch=watch, quotes_per_s=quotes))
                say(f"tick-to-send, {quotes:g} quotes/s, {'with' if durable else 'without'} fsync", spans)
                say("  of that on the processor", watch.cpu_ms)
                ordered = sorted(spans)
                missed |= not durable and (ordered[len(ordered) // 2] > 0.5 or ordered[int(len(ordered) * 0.99)] > 2.0)
        if "library" in parts:
            say("tick-to-send of the library alone", asyncio.run(library(min(chosen.orders, 100), watch)))
        if "polls" in parts:
            for count in (16, 1000):
                (folder := root / f"polls-{count}").mkdir()
                spans, statuses = asyncio.run(polls(folder, count, chosen.rounds))
                say(f"a poll of {count} slots, commits included", spans)
                say(f"a status of {count} slots", statuses)
                missed |= count == 1000 and sorted(spans)[len(spans) // 2] > 100
        if "commits" in parts:
            for pace in PACES:
                (folder := root / f"commits-{pace}").mkdir()
                ledger_ms, bare_ms = commits(folder, pace, 10)
                say(f"a commit to the ledger, {pace}/s", ledger_ms)
                say(f"a bare fdatasync of 4 KB, {pace}/s", bare_ms)
    out.write("a target is missed\n" if missed else "all targets are met\n")
    gc.collect()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
