"""Starts a mirror: of the real exchange, of another paper, or of a recording."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from paper.engine.prices import ASSETS
from paper.engine.record import Record
from paper.errors import UsageError
from paper.mirror.clock import TimeMap
from paper.mirror.exchange import MirrorExchange
from paper.mirror.mirror import Mirror
from paper.mirror.player import Player
from paper.settings import Settings
from recording import Contents, RecordingError, Writer
from recording.capture import Capture
from recording.discovery import Grid
from recording.hosts import REAL, Hosts, hosts_at
from recording.recorder import Recorder, Tee
from recording.streams import Sink

_LOG = logging.getLogger("paper")
_LOOK_S = 0.1
Part = Callable[[], Coroutine[Any, Any, None]]
"""What has to run beside the exchange."""


def say(event: str, facts: dict[str, object]) -> None:
    """Log a fault of the world outside."""
    _LOG.warning(event.replace("_", " "), extra={"facts": facts})


@asynccontextmanager
async def mirrored(
    settings: Settings, record: Record, clock: Callable[[], int]
) -> AsyncIterator[tuple[MirrorExchange, dict[str, Part]]]:
    """Give the exchange, brought up to now, and what has to run beside it, by name.

    Raises:
        UsageError: what is to be mirrored cannot be reached or read, or the data folder belongs to another making.
    """
    if settings.recording is not None:
        player = Player(settings.recording, settings.speed)
        settings.timeframes = player.shown_timeframes
        exchange = MirrorExchange(
            settings, record, clock, f"the recording {settings.recording}, at speed {settings.speed:g}"
        )
        mirror = Mirror(exchange, player.times(clock()), clock)
        exchange.start()
        yield exchange, {"playing": lambda: _play(player, mirror, clock), "mirror": lambda: _look(mirror)}
        return
    hosts, where = _hosts(settings.mirror)
    async with aiohttp.ClientSession(trust_env=True) as session:
        exchange = MirrorExchange(settings, record, clock, where)
        mirror = Mirror(exchange, TimeMap(), clock)
        recorder = _recorder(settings)
        sinks: list[Sink] = [mirror] if recorder is None else [recorder, mirror]
        capture = Capture(
            hosts,
            Grid(ASSETS, settings.timeframes),
            sink=Tee(sinks),
            session=session,
            wall_ms=clock,
            random=random.random,
            say=say,
        )
        mirror.refresh, mirror.settled = capture.refresh, capture.settled
        mirror.look_soon = capture.discovery.look_soon
        try:
            await capture.check()
            exchange.start()
            for market in exchange.markets.by_condition.values():
                capture.discovery.follow(market.window.slug)
            parts: dict[str, Part] = {"capture": capture.run, "mirror": lambda: _look(mirror)}
            if recorder is not None:
                parts["recording"] = recorder.run
            yield exchange, parts
        except RecordingError as error:
            raise UsageError(f"--mirror {settings.mirror}: {error}") from error
        finally:
            if recorder is not None:
                recorder.writer.close()


async def _play(player: Player, mirror: Mirror, clock: Callable[[], int]) -> None:
    await player.play(mirror, clock)
    await asyncio.Event().wait()  # what it ended with goes on being served


async def _look(mirror: Mirror) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        mirror.look()


def _hosts(mirror: str) -> tuple[Hosts, str]:
    if mirror == "real":
        return REAL, "Polymarket and Binance, live"
    return hosts_at(mirror), f"the exchange at {mirror}"


def _recorder(settings: Settings) -> Recorder | None:
    """Raises UsageError: its folder cannot be written."""
    if settings.record_to is None:
        return None
    try:
        writer = Writer(
            settings.record_to,
            writer="paper --mirror",
            contents=Contents(),
            budget=round(settings.record_budget * 2**30),
            wall_ms=lambda: time.time_ns() // 1_000_000,
            mono_ms=lambda: time.monotonic_ns() // 1_000_000,
            say=say,
        )
    except RecordingError as error:
        raise UsageError(f"--record-to: {error}") from error
    return Recorder(writer)
