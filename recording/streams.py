"""A public WebSocket that is kept open: replaced when it is lost, silent, or old; what it sends goes on as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import aiohttp

_MAX_MESSAGE = 8 << 20
_PONGS = frozenset({"PONG", "pong", ""})
Send = Callable[[str], Awaitable[None]]


class Sink(Protocol):
    """What takes frames, live or played. Called in the event loop; must not block."""

    def frame(self, source: str, text: str) -> None:
        """A message of a source, to the letter."""

    def opened(self, source: str) -> None:
        """A connection of a source stands; what comes next are snapshots."""

    def lost(self, source: str, reason: str) -> None:
        """It is gone."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    connect_s: float = 8.0
    ping_s: float = 5.0
    silent_s: float = 10.0
    """A connection that brings nothing but answers to pings for so long is replaced: some answer and are dead."""
    look_s: float = 0.25
    longest_s: float = 23 * 3600.0
    """Binance closes connections after a day."""
    first_wait_s: float = 0.25
    longest_wait_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Source:
    """What is followed."""

    name: str
    """of its frames"""
    url: str
    """ws or wss"""
    ping: str = ""
    """the text that keeps it open; "" for none"""


class Stream:
    """One source, followed until cancelled.

    Args:
        talk: called every look_s with a way to send, and with whether this is the connection's first turn.
        random: uniform in [0, 1), for the jitter of waits.
        needed: whether there is anything to follow now; without, no connection is made.
    """

    def __init__(
        self,
        source: Source,
        *,
        session: aiohttp.ClientSession,
        sink: Sink,
        talk: Callable[[Send, bool], Awaitable[None]],
        random: Callable[[], float],
        timing: Timing | None = None,
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.source, self.url, self._ping = source.name, source.url, source.ping
        self._session, self._sink, self._talk, self._random = session, sink, talk, random
        self._timing, self._needed = timing or Timing(), needed
        self._renew = asyncio.Event()
        self._failures = 0
        self._data_at = 0.0

    def renew(self) -> None:
        """Replace the connection soon."""
        self._renew.set()

    async def check(self) -> str:
        """Open and close a connection; why that is not possible, or "" where it is."""
        try:
            async with asyncio.timeout(self._timing.connect_s):
                socket = await self._connect()
                await socket.close()
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            return f"{self.url}: {said(error)}"
        return ""

    async def run(self) -> None:
        """Follow it."""
        timing = self._timing
        while True:
            if not self._needed():
                await asyncio.sleep(timing.look_s)
                continue
            await self._connection()
            self._failures += 1
            longest = min(timing.longest_wait_s, timing.first_wait_s * 2.0 ** min(self._failures, 16))
            await asyncio.sleep(longest * (0.5 + 0.5 * self._random()))

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        return await self._session.ws_connect(self.url, max_msg_size=_MAX_MESSAGE, autoping=True)

    async def _connection(self) -> None:
        reason = "renewed"
        try:
            async with asyncio.timeout(self._timing.connect_s):
                socket = await self._connect()
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            self._sink.lost(self.source, said(error))
            return
        loop = asyncio.get_running_loop()
        self._data_at = loop.time()
        self._renew.clear()
        self._sink.opened(self.source)
        tasks = {
            asyncio.create_task(self._read(socket), name=f"{self.source} read"),
            asyncio.create_task(self._speak(socket), name=f"{self.source} speak"),
            asyncio.create_task(self._renew.wait(), name=f"{self.source} renew"),
        }
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._timing.longest_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            reason = said(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sink.lost(self.source, reason)
            with suppress(OSError, TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(1.0):
                    await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Raises OSError: the connection ended. TimeoutError: it is silent."""
        loop = asyncio.get_running_loop()
        while True:
            left = self._data_at + self._timing.silent_s - loop.time()
            if left <= 0:
                raise TimeoutError(f"it brought nothing for {self._timing.silent_s:g} s")
            try:
                async with asyncio.timeout(left):
                    message = await socket.receive()
            except TimeoutError:
                continue
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                raise ConnectionResetError(f"closed with code {socket.close_code}")
            text = message.data if isinstance(message.data, str) else message.data.decode("utf-8", "replace")
            if text not in _PONGS:
                self._data_at, self._failures = loop.time(), 0
                self._sink.frame(self.source, text)

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        ping_at, first = loop.time() + self._timing.ping_s, True
        while True:
            await self._talk(socket.send_str, first)
            first = False
            if self._ping and loop.time() >= ping_at:
                await socket.send_str(self._ping)
                ping_at = loop.time() + self._timing.ping_s
            await asyncio.sleep(self._timing.look_s)


def said(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
