"""`bot record`: everything public of the slots' markets and the lead prices, as it comes, into a recording."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp

from bot.venue.credentials import Endpoints
from bus import Clock, Log, SettingsError
from recording import RecordingError, Writer
from recording.capture import Capture
from recording.discovery import Grid
from recording.hosts import Hosts
from recording.recorder import Recorder
from recording.writer import Written


def hosts_of(endpoints: Endpoints) -> Hosts:
    """The public streams and routes of a venue."""
    return Hosts(
        gamma=endpoints.venue.gamma,
        clob=endpoints.venue.clob,
        clob_ws=endpoints.venue.market_ws,
        rtds_ws=endpoints.venue.prices_ws,
        binance=endpoints.binance_url,
        binance_ws=endpoints.binance_ws_url,
    )


async def record_market(
    hosts: Hosts,
    assets: tuple[str, ...],
    timeframes: tuple[str, ...],
    folder: Path,
    *,
    budget: int,
    clock: Clock,
    log: Log,
    limit_s: float | None,
    say: Callable[[str], None],
) -> Written:
    """Record until SIGINT or SIGTERM, or for so many seconds; what was written.

    Raises SettingsError: the folder cannot be used, or a source cannot be reached.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def tell(event: str, facts: dict[str, object]) -> None:
        log.warning(event, **facts)

    try:
        writer = Writer(
            folder,
            writer="bot record",
            budget=budget,
            wall_ms=clock.wall_ms,
            mono_ms=lambda: time.monotonic_ns() // 1_000_000,
            say=tell,
        )
    except RecordingError as error:
        raise SettingsError(str(error)) from error
    try:
        async with aiohttp.ClientSession(trust_env=True) as session:
            recorder = Recorder(writer)
            capture = Capture(
                hosts,
                Grid(assets, timeframes),
                sink=recorder,
                session=session,
                wall_ms=clock.wall_ms,
                random=random.random,
                say=tell,
            )
            try:
                await capture.check()
            except RecordingError as error:
                raise SettingsError(str(error)) from error
            say(f"recording {', '.join(assets)} into {folder}; Ctrl-C ends it")
            parts = [asyncio.create_task(capture.run()), asyncio.create_task(recorder.run())]
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({*parts, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            for task in (*parts, stopped):
                task.cancel()
            for task in (*parts, stopped):
                with suppress(asyncio.CancelledError):
                    await task
    finally:
        writer.close()
    return writer.written
