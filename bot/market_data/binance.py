"""Binance's combined stream: always one connection with fresh data, as far as the network allows.

A connection is judged by its data, never by PING: one that stays open but brings nothing for `stale_after_s` is
aborted and replaced. Binance closes every connection after 24 h and announces a restart with `serverShutdown`; both
are forestalled by a planned replacement: the new connection brings data before the old one is closed, and what both
bring is delivered once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from bot.market_data.binance_messages import (
    InlineConnection,
    PriceUpdate,
    Shutdown,
    Source,
    parse,
    stream_path,
    symbol,
)
from bot.venue.decoding import STREAM_BYTES, OddError, Origin, Skips
from bus import Log

_QUEUE_FRAMES = 1_024


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. lifetime_s: a connection is replaced at this age (Binance ends it at 24 h).

    A failed attempt waits min(longest_wait_s, first_wait_s * 2**failures), times a random factor of 0.5 to 1.
    """

    connect_s: float = 5.0
    stale_after_s: float = 5.0
    lifetime_s: float = 23 * 3600.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 15.0


@dataclass(frozen=True, slots=True)
class FeedState:
    """What a person and the health check want to know.

    connected: data arrives now. connects: connections made. gaps: times that data was interrupted (a planned
    replacement is none). age_ms: since the last update of each asset; None where none came yet.
    """

    connected: bool
    connects: int
    gaps: int
    parse_errors: int
    last_error: str
    age_ms: Mapping[str, int | None]


@dataclass(eq=False, slots=True)
class _Line:
    """One connection with the task that watches it. live: it brought data. due: it should be replaced.

    fresh_until: on the loop's clock, the time at which it counts as dead unless data comes. failure: what `on_update` raised.
    """

    socket: InlineConnection
    fresh_until: float
    failure: Exception | None = None
    live: asyncio.Event = field(default_factory=asyncio.Event)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[str] = field(init=False)


class BinanceFeed:
    """The stream of some assets; `on_update` is called in the loop for each update, and must not block.

    Args:
        ws_url: base URL, for example wss://data-stream.binance.vision or ws://127.0.0.1:8700.
        assets: upper case, for example BTC; their pairs with USDT are read.
        after_updates: called in the same turn of the loop, once all that one read of the socket brought was delivered.
        boot_ms: CLOCK_BOOTTIME in ms.
        random: uniform in [0, 1), for the jitter of waits.
        skips: counts the messages that could not be read.
    """

    def __init__(
        self,
        *,
        ws_url: str,
        assets: tuple[str, ...],
        on_update: Callable[[PriceUpdate], None],
        boot_ms: Callable[[], int],
        random: Callable[[], float],
        log: Log,
        timing: Timing | None = None,
        after_updates: Callable[[], None] = lambda: None,
        skips: Skips | None = None,
    ) -> None:
        self._skips = skips or Skips()
        self._after_updates = after_updates
        self._url = ws_url.rstrip("/") + stream_path(assets)
        self._assets = {symbol(asset): asset for asset in assets}
        self._on_update = on_update
        self._boot_ms = boot_ms
        self._random = random
        self._log = log
        self._timing = timing or Timing()
        self._lines: list[_Line] = []
        self._last_number: dict[tuple[str, Source], tuple[int, int]] = {}  # and when it came
        self._last_boot_ms: dict[str, int] = {}
        self._failures = 0
        self._connects = 0
        self._gaps = 0
        self._parse_errors = 0
        self._last_error = ""

    def age_ms(self, asset: str) -> int | None:
        """How long ago an asset's last update came; None where none came yet."""
        at = self._last_boot_ms.get(asset)
        return None if at is None else max(0, self._boot_ms() - at)

    def state(self) -> FeedState:
        """The state now."""
        now = self._boot_ms()
        ages = {
            asset: None if (at := self._last_boot_ms.get(asset)) is None else max(0, now - at)
            for asset in self._assets.values()
        }
        return FeedState(
            connected=any(line.live.is_set() for line in self._lines),
            connects=self._connects,
            gaps=self._gaps,
            parse_errors=self._parse_errors,
            last_error=self._last_error,
            age_ms=ages,
        )

    async def run(self) -> None:
        """Read until cancelled. Ends by itself only with an exception of `on_update`."""
        try:
            while True:
                line = await self._open()
                if line is not None:
                    self._last_number.clear()  # Numbers may start anew after a gap; within an overlap they do not.
                    await self._keep(line)
                if self._failures > 1 or line is None:  # What was lost after it had brought data is replaced at once.
                    await asyncio.sleep(self._delay_s())
        finally:
            lines, self._lines = self._lines, []
            for line in lines:
                line.task.cancel()
                line.socket.transport.abort()
            await asyncio.gather(*(line.task for line in lines), return_exceptions=True)

    async def _keep(self, line: _Line) -> None:
        """Keep data coming from this line and its planned successors, until one is lost without a successor."""
        while True:
            await _first(line.task, line.due, self._timing.lifetime_s)
            if line.task.done():
                self._lose(line)
                return
            line.due.set()
            successor = await self._open()
            if successor is not None:
                await _first(successor.task, successor.live, self._timing.stale_after_s)
                if successor.live.is_set():
                    self._drop(line)
                    self._log.info("feed_replaced", connects=self._connects)
                    line = successor
                    continue
                self._failures += 1
                self._note("feed_replacement_failed", "the new connection brought no data")
                self._drop(successor)
            await asyncio.wait({line.task}, timeout=self._delay_s())

    async def _open(self) -> _Line | None:
        """A new line whose task watches it; None where no connection could be made."""
        try:
            socket = await connect(
                self._url,
                create_connection=InlineConnection,
                open_timeout=self._timing.connect_s,
                ping_interval=None,
                close_timeout=1,
                compression=None,
                max_size=STREAM_BYTES,
                max_queue=_QUEUE_FRAMES,
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            self._failures += 1
            self._note("feed_connect_failed", f"{type(error).__name__}: {error}")
            return None
        assert isinstance(socket, InlineConnection), "as asked for"
        self._connects += 1
        line = _Line(socket, self._fresh_until())
        socket.follow(partial(self._deliver, line), partial(self._tell, line))
        line.task = asyncio.create_task(self._watch(line), name=f"binance-feed-{self._connects}")
        self._lines.append(line)
        return line

    async def _watch(self, line: _Line) -> str:
        """Until a line ends; returns why. The time limit counts data alone, so garbage is no life."""
        try:
            while line.failure is None:
                try:
                    async with asyncio.timeout_at(line.fresh_until):
                        self._deliver(line, await line.socket.recv(decode=False))  # only what came in fragments
                except TimeoutError:
                    if asyncio.get_running_loop().time() >= line.fresh_until:
                        return f"no data for {self._timing.stale_after_s} s"
        except (OSError, WebSocketException) as error:
            if line.failure is None:
                return f"{type(error).__name__}: {error}"
        finally:
            line.live.clear()
        raise line.failure

    def _deliver(self, line: _Line, message: str | bytes) -> None:
        """Take one message of a line. What `on_update` raises ends the line, and `run` with it."""
        if line.failure is not None:
            return
        try:
            if self._take(line, message):
                line.fresh_until = self._fresh_until()
                if not line.live.is_set():
                    line.live.set()
                    self._failures = 0
        except Exception as error:  # noqa: BLE001  raised again by the line's task
            self._fail(line, error)

    def _tell(self, line: _Line) -> None:
        try:
            self._after_updates()
        except Exception as error:  # noqa: BLE001  raised again by the line's task
            self._fail(line, error)

    def _fail(self, line: _Line, error: Exception) -> None:
        line.failure = error
        line.socket.transport.abort()

    def _fresh_until(self) -> float:
        return asyncio.get_running_loop().time() + self._timing.stale_after_s

    def _take(self, line: _Line, message: str | bytes) -> bool:
        """Take one message; whether it was data."""
        try:
            update = parse(message, self._assets, self._boot_ms())
        except OddError as error:
            self._skips.count(Origin.BINANCE_STREAM, error.code)
            self._parse_errors += 1
            if (
                self._parse_errors & (self._parse_errors - 1) == 0
            ):  # 1, 2, 4, 8 ...: a flood is not logged line by line.
                self._note("feed_parse_error", str(error), count=self._parse_errors)
            return False
        if isinstance(update, Shutdown):
            self._log.info("feed_shutdown_announced")
            line.due.set()
            return False
        if update is None:
            return False
        key, now = (update.update.asset, update.update.source), update.update.boot_ms
        last, at = self._last_number.get(key, (-1, now))
        # What two connections bring twice comes twice within moments. Later than that the last number was an odd one: one that
        # is far too high would otherwise hold back every price after it.
        if update.number > last or now - at > self._timing.stale_after_s * 1000:
            self._last_number[key] = (update.number, now)
            self._last_boot_ms[update.update.asset] = now
            self._on_update(update.update)
        return True

    def _lose(self, line: _Line) -> None:
        """A line ended by itself: data is interrupted."""
        self._gaps += 1
        self._failures += 1
        self._drop(line)
        self._note("feed_lost", line.task.result())

    def _drop(self, line: _Line) -> None:
        """Be rid of a line. Aborted, since a frozen one would not answer a closing handshake. Raises a reader's bug."""
        self._lines.remove(line)
        line.socket.transport.abort()
        if line.task.done():
            line.task.result()
        line.task.cancel()

    def _note(self, event: str, reason: str, **fields: int) -> None:
        self._last_error = reason
        self._log.warning(event, reason=reason, **fields)

    def _delay_s(self) -> float:
        """Seconds before another attempt: doubling, bounded, with jitter."""
        timing = self._timing
        longest = min(timing.longest_wait_s, timing.first_wait_s * 2.0 ** min(self._failures, 32))
        return longest * (0.5 + 0.5 * self._random())


async def _first(task: asyncio.Task[str], event: asyncio.Event, limit_s: float) -> None:
    """Wait until the task ended or the event is set, at most that long."""
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, waiter}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
