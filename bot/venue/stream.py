"""A public WebSocket stream: always one connection with fresh data, as far as the network allows.

A connection is judged by its data, never by PING or PONG: one that stays open and brings nothing for `stale_after_s` is aborted
and replaced. A planned replacement overlaps: the new connection brings data before the old one is closed, and the reader leaves
out what both bring. A message is handed over in the turn of the loop in which it was read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from bot.venue.decoding import STREAM_BYTES, OddError
from bus import Log

_QUEUE_FRAMES = 1_024
Send = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. A failed attempt waits min(longest_wait_s, first_wait_s * 2**failures), times a random factor of 0.5 to 1."""

    connect_s: float = 5.0
    stale_after_s: float = 5.0
    """a connection that brings no data for so long is replaced"""
    lifetime_s: float = math.inf
    """at this age a replacement is made, while the connection goes on"""
    ping_s: float = math.inf
    """between two PINGs as text, which some servers want"""
    look_s: float = 0.25
    """between two times that the reader may talk, or says whether it wants a connection"""
    first_wait_s: float = 0.25
    longest_wait_s: float = 15.0


class Reader:
    """Who follows a stream. All is called in the loop and must not block; what `take` and `after_read` raise ends the stream."""

    def take(self, message: str | bytes) -> bool:
        """Take a message. Whether it was data, which alone keeps a connection."""
        raise NotImplementedError

    def after_read(self) -> None:
        """All that one read of the socket brought was taken."""

    def wants(self) -> bool:
        """Whether there is anything to follow; without, no connection is made."""
        return True

    async def talk(self, send: Send, first: bool) -> None:
        """Say what is to be said, first at the beginning of each connection, then every look_s."""

    def lost(self) -> None:
        """Data is interrupted, or an attempt to connect failed: what comes next comes from a new connection."""


@dataclass(eq=False, slots=True)
class _Line:
    """One connection with the task that watches it."""

    socket: InlineConnection
    opened: float
    """on the loop's clock"""
    fresh_until: float
    """on the loop's clock: then it counts as dead unless data comes"""
    brought: bool = False
    failure: Exception | None = None
    """what the reader raised"""
    live: asyncio.Event = field(default_factory=asyncio.Event)
    """data comes"""
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """it should be replaced"""
    task: asyncio.Task[str] = field(init=False)


class Stream:
    """One stream, followed by one reader.

    Args:
        name: begins its events in the log: `NAME_lost`, `NAME_connect_failed`, `NAME_replaced`, `NAME_replacement_failed`,
            `NAME_parse_error`.
        url: ws or wss.
        random: uniform in [0, 1), for the jitter of waits.
    """

    def __init__(self, name: str, url: str, *, timing: Timing, random: Callable[[], float], log: Log) -> None:
        self._name, self._url, self._timing, self._random, self._log = name, url, timing, random, log
        self._reader = Reader()
        self._lines: list[_Line] = []
        self._failures, self._why = 0, ""
        self.connects = 0
        self.gaps = 0
        """times that data was interrupted; a planned replacement is none"""
        self.parse_errors = 0
        """messages that the reader could not read"""
        self.last_error = ""

    @property
    def is_open(self) -> bool:
        """Whether a connection stands."""
        return bool(self._lines)

    @property
    def is_live(self) -> bool:
        """Whether data comes."""
        return any(line.live.is_set() for line in self._lines)

    def note_odd(self, error: OddError) -> None:
        """The reader could not read a message. The 1st, 2nd, 4th ... is logged: a flood is not, line by line."""
        self.parse_errors, self.last_error = self.parse_errors + 1, str(error)
        if self.parse_errors & (self.parse_errors - 1) == 0:
            self._log.warning(f"{self._name}_parse_error", reason=self.last_error, count=self.parse_errors)

    def replace(self) -> None:
        """Replace the connection soon; it goes on until the new one brings data."""
        for line in self._lines:
            line.due.set()

    def renew(self, why: str) -> None:
        """End the connection now, for another one."""
        self._why = why
        for line in self._lines:
            line.task.cancel()

    async def run(self, reader: Reader) -> None:
        """Follow until cancelled. Ends by itself only with an exception of the reader."""
        self._reader = reader
        try:
            while True:
                if not reader.wants():
                    await asyncio.sleep(self._timing.look_s)
                    continue
                line = await self._open()
                at_once = line is not None and await self._keep(line)
                if not at_once:
                    await asyncio.sleep(self._delay_s())
        finally:
            lines, self._lines = self._lines, []
            for line in lines:
                line.task.cancel()
                line.socket.transport.abort()
            await asyncio.gather(*(line.task for line in lines), return_exceptions=True)

    async def _keep(self, line: _Line) -> bool:
        """Keep data coming from this line and its planned successors, until one is lost without a successor.

        Whether another one is to be made at once: it had brought data, for longer than a moment.
        """
        while True:
            await _first(line.task, line.due, self._timing.lifetime_s)
            if line.task.done():
                return self._lose(line)
            line.due.set()
            successor = await self._open()
            if successor is not None:
                await _first(successor.task, successor.live, self._timing.stale_after_s)
                if successor.live.is_set():
                    self._drop(line)
                    self._log.info(f"{self._name}_replaced", connects=self.connects)
                    line = successor
                    continue
                self._failed("replacement_failed", "the new connection brought no data")
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
            self._failed("connect_failed", f"{type(error).__name__}: {error}")
            if not self._lines:
                self._reader.lost()
            return None
        assert isinstance(socket, InlineConnection), "as asked for"
        self.connects += 1
        line = _Line(socket, asyncio.get_running_loop().time(), self._fresh_until())
        socket.follow(partial(self._deliver, line), partial(self._tell, line))
        line.task = asyncio.create_task(self._watch(line), name=f"{self._name}-{self.connects}")
        self._lines.append(line)
        return line

    async def _watch(self, line: _Line) -> str:
        """Until a line ends; returns why. The time limit counts data alone, so garbage is no life."""
        talk = asyncio.create_task(self._talk(line), name=f"{self._name}-{self.connects}-talk")
        try:
            while line.failure is None:
                try:
                    async with asyncio.timeout_at(line.fresh_until):
                        self._deliver(line, await line.socket.recv(decode=False))  # only what came in fragments
                except TimeoutError:
                    if asyncio.get_running_loop().time() >= line.fresh_until:
                        return f"no data for {self._timing.stale_after_s:g} s"
        except (OSError, WebSocketException) as error:
            if line.failure is None:
                return f"{type(error).__name__}: {error}"
        finally:
            line.live.clear()
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
        raise line.failure

    async def _talk(self, line: _Line) -> None:
        """Say what the reader wants to say, and PING. A lost connection is noticed by who watches it."""
        loop, first = asyncio.get_running_loop(), True
        ping_at = loop.time() + self._timing.ping_s
        try:
            while True:
                await self._reader.talk(line.socket.send, first)
                first = False
                if loop.time() >= ping_at:
                    await line.socket.send("PING")
                    ping_at = loop.time() + self._timing.ping_s
                await asyncio.sleep(min(self._timing.look_s, self._timing.ping_s))
        except (OSError, WebSocketException):
            return
        except Exception as error:  # noqa: BLE001  raised again by the line's task
            self._fail(line, error)

    def _deliver(self, line: _Line, message: str | bytes) -> None:
        """Take one message of a line. What the reader raises ends the line, and `run` with it."""
        if line.failure is not None:
            return
        try:
            if self._reader.take(message):
                line.fresh_until = self._fresh_until()
                if not line.live.is_set():
                    line.live.set()
                    line.brought, self._failures = True, 0
        except Exception as error:  # noqa: BLE001  raised again by the line's task
            self._fail(line, error)

    def _tell(self, line: _Line) -> None:
        try:
            self._reader.after_read()
        except Exception as error:  # noqa: BLE001  raised again by the line's task
            self._fail(line, error)

    def _fail(self, line: _Line, error: Exception) -> None:
        line.failure = error
        line.socket.transport.abort()

    def _fresh_until(self) -> float:
        return asyncio.get_running_loop().time() + self._timing.stale_after_s

    def _lose(self, line: _Line) -> bool:
        """A line ended by itself; whether another one is made at once. Raises a reader's bug."""
        self._remove(line)
        self.gaps += line.brought
        self._failed("lost", self._why if line.task.cancelled() else line.task.result())
        self._reader.lost()
        return line.brought and asyncio.get_running_loop().time() - line.opened > self._timing.first_wait_s

    def _drop(self, line: _Line) -> None:
        """Be rid of a line that is not needed any more. Raises a reader's bug."""
        self._remove(line)
        if line.task.done() and not line.task.cancelled():
            line.task.result()
        line.task.cancel()

    def _remove(self, line: _Line) -> None:
        """Aborted, since a frozen one would not answer a closing handshake."""
        self._lines.remove(line)
        line.socket.transport.abort()

    def _failed(self, what: str, reason: str) -> None:
        """Log the first failure in a row, and then ever fewer: a stream may be away for days."""
        self._failures, self.last_error = self._failures + 1, reason
        if self._failures & (self._failures - 1) == 0:
            self._log.warning(f"{self._name}_{what}", reason=reason, connects=self.connects)

    def _delay_s(self) -> float:
        """Seconds before another attempt: doubling, bounded, with jitter."""
        timing = self._timing
        longest = min(timing.longest_wait_s, timing.first_wait_s * 2.0 ** min(self._failures, 32))
        return longest * (0.5 + 0.5 * self._random())


async def _first(task: asyncio.Task[str], event: asyncio.Event, limit_s: float) -> None:
    """Wait until the task ended or the event is set, at most that long."""
    waiter = asyncio.create_task(event.wait())
    try:
        limit = None if math.isinf(limit_s) else limit_s
        await asyncio.wait({task, waiter}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()


class InlineConnection(ClientConnection):
    """As the library's, but whole text messages are handed over once `follow` was called; others are queued for `recv` as ever.

    The library puts each message into a queue and wakes a task for it: a turn of the loop between a price and the look at it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._take: Callable[[bytes], None] | None = None
        self._after_read: Callable[[], None] = lambda: None

    def follow(self, take: Callable[[bytes], None], after_read: Callable[[], None]) -> None:
        """Hand over from now on. Neither may raise.

        Args:
            take: called with each whole text message, undecoded.
            after_read: called once all messages of one read of the socket were taken.
        """
        self._take, self._after_read = take, after_read

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        self._after_read()

    def process_event(self, event: Event) -> None:
        """Called by the library for each frame."""
        if self._take is not None and isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin:
            self._take(bytes(event.data))
        else:
            super().process_event(event)
