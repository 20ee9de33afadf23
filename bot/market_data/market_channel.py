"""The venue's market channel: one connection that follows the books of the tokens that are wanted now.

Nothing is replayed after a reconnect: `on_lost` says so, and each subscription begins with a whole book. PING goes out every
10 s and only after the first subscription (before it the venue closes with 1008); an answer to it shows that the connection
stands and nothing more, so whether books are fresh is judged elsewhere (`bot.market_data.books`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bot.feeds.book_messages import MESSAGE_BYTES, BookEvent, parse_books
from bot.venue.decoding import OddError, Origin, Skips
from bus import Log

_QUEUE_FRAMES = 1_024
_MOST_TOKENS = 450  # beyond 500 a connection loses books (venue.md 3)


@dataclass(frozen=True, slots=True)
class ChannelTiming:
    """Seconds. silent_s: a connection that brings nothing at all, not even PONG, for so long is replaced."""

    connect_s: float = 5.0
    look_s: float = 0.25
    ping_s: float = 10.0
    silent_s: float = 25.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 15.0


class MarketChannel:
    """Follows books.

    Args:
        url: of the market channel, ws or wss.
        wanted: the tokens to follow now.
        on_event: called in the loop for each event; must not block.
        on_lost: called when the connection is lost.
        random: uniform in [0, 1), for the jitter of waits.
        skips: counts what could not be read.
    """

    def __init__(
        self,
        *,
        url: str,
        wanted: Callable[[], Iterable[str]],
        on_event: Callable[[BookEvent], None],
        on_lost: Callable[[], None],
        random: Callable[[], float],
        log: Log,
        timing: ChannelTiming | None = None,
        skips: Skips | None = None,
    ) -> None:
        self._skips = skips or Skips()
        self._url, self._wanted, self._on_event, self._on_lost = url, wanted, on_event, on_lost
        self._random, self._log = random, log
        self._timing = timing or ChannelTiming()
        self._renew = asyncio.Event()
        self._failures = 0
        self._parse_errors = 0
        self.connected = False
        self.connects = 0

    def renew(self) -> None:
        """Replace the connection soon."""
        self._renew.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            if not self._tokens():
                await asyncio.sleep(self._timing.look_s)
                continue
            await self._connection()
            self._failures += 1
            timing = self._timing
            longest = min(timing.longest_wait_s, timing.first_wait_s * 2.0 ** min(self._failures, 32))
            await asyncio.sleep(longest * (0.5 + 0.5 * self._random()))

    async def _connection(self) -> None:
        """One connection from its making to its end."""
        reason = "renewed: a book of it differed from the venue's answer"
        try:
            async with connect(
                self._url,
                open_timeout=self._timing.connect_s,
                ping_interval=None,
                close_timeout=1,
                compression=None,
                max_size=MESSAGE_BYTES,
                max_queue=_QUEUE_FRAMES,
            ) as socket:
                self.connected, self.connects = True, self.connects + 1
                self._renew.clear()
                tasks = {
                    asyncio.create_task(self._read(socket), name="market-channel-read"),
                    asyncio.create_task(self._follow(socket), name="market-channel-follow"),
                    asyncio.create_task(self._renew.wait(), name="market-channel-renew"),
                }
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
                    socket.transport.abort()
        except (OSError, TimeoutError, WebSocketException) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            self.connected = False
            self._on_lost()
        self._log.warning("market_channel_lost", reason=reason, connects=self.connects)

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            async with asyncio.timeout(self._timing.silent_s):
                message = await socket.recv(decode=False)
            try:
                events = parse_books(message, self._skips)
            except OddError as error:
                self._skips.count(Origin.MARKET, error.code)
                self._parse_errors += 1
                if (
                    self._parse_errors & (self._parse_errors - 1) == 0
                ):  # 1, 2, 4 ...: a flood is not logged line by line
                    self._log.warning("market_channel_parse_error", reason=str(error), count=self._parse_errors)
                continue
            if events:
                self._failures = 0
            for event in events:
                self._on_event(event)

    async def _follow(self, socket: ClientConnection) -> None:
        """Subscribe to what is wanted, again and again; PING every ping_s."""
        followed: set[str] = set()
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + self._timing.ping_s
        first = True
        while True:
            wanted = self._tokens()
            if more := sorted(wanted - followed):
                head = {"type": "market"} if first else {"operation": "subscribe"}
                await socket.send(json.dumps({**head, "assets_ids": more, "custom_feature_enabled": True}))
                first = False
            if less := sorted(followed - wanted):
                await socket.send(json.dumps({"operation": "unsubscribe", "assets_ids": less}))
            followed = wanted
            if loop.time() >= ping_at:
                await socket.send("PING")
                ping_at = loop.time() + self._timing.ping_s
            await asyncio.sleep(self._timing.look_s)

    def _tokens(self) -> set[str]:
        return set(list(self._wanted())[:_MOST_TOKENS])
