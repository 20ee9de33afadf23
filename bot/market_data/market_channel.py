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
from decimal import Decimal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bot.venue.decoding import (
    STREAM_BYTES,
    Code,
    OddError,
    Origin,
    Skips,
    as_decimal,
    as_levels,
    as_list,
    as_ms,
    as_name,
    as_object,
    as_price,
    as_tick,
    as_units,
    decode,
    each,
)
from bot.venue.types import Book
from bus import Log

# The venue's market channel: messages to events. Pure. Forms: docs/reference/venue.md 3, and recordings of October 2026.
#
# A frame is one event or a list of events: the first frame of the live channel is one list of all books. An event that cannot
# be read costs itself. Where it names its token, that token's book is in `Doubt`: what the channel says next builds on what was
# lost.


_TEXTS = (b"PONG", b"")


@dataclass(frozen=True, slots=True)
class Change:
    """One level of one token's book: its size in base units from now on, 0 where it is gone. is_bid: of the buyers' side."""

    token_id: str
    is_bid: bool
    price: Decimal
    size: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Best:
    """What a frame says of a token's best prices once all of it was applied: (bid, ask), None for a side without offers.

    A frame with several changes may say so after each of them: one of these pairs is right.
    """

    token_id: str
    pairs: tuple[tuple[Decimal | None, Decimal | None], ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something about one token could not be read: its book may be another one by now."""

    token_id: str


@dataclass(frozen=True, slots=True)
class TickChange:
    """The tick of one token's market."""

    token_id: str
    tick: Decimal


@dataclass(frozen=True, slots=True)
class Resolved:
    """A market resolved; the venue's answer to a look-up says how."""

    condition_id: str


BookEvent = Book | Change | Best | Doubt | TickChange | Resolved


def parse_books(message: str | bytes, skips: Skips | None = None) -> list[BookEvent]:
    """What a message says; nothing where it is of no interest (PONG, trades, new markets).

    Args:
        skips: counts and logs the events that could not be read.

    Raises:
        OddError: nothing of it can be read: it is no JSON, or neither an event nor a list of events.
    """
    raw = message.encode("utf-8", "replace") if isinstance(message, str) else message
    if raw in _TEXTS:
        return []
    counted = skips or Skips()
    payload = decode(raw, STREAM_BYTES)
    events: list[BookEvent] = []
    for index, event in enumerate(as_list(payload, "frame") if isinstance(payload, list) else [payload]):
        try:
            events.extend(_read(event, lambda error: counted.note(Origin.MARKET, error)))
        except OddError as error:
            doubtful = _doubt(event)
            if not isinstance(payload, list) and not doubtful:
                raise
            counted.note(Origin.MARKET, OddError(error.code, f"[{index}]", "a market event", str(error)))
            events.extend(doubtful)
    return events


def _read(value: object, odd: Callable[[OddError], None]) -> list[BookEvent]:
    event = as_object(value, "event")
    kind = event.get("event_type")
    if kind == "book":
        return [_book(event, odd)]
    if kind == "price_change":
        return _changes(event, odd)
    if kind == "tick_size_change":
        tick = as_tick(event.get("new_tick_size"), "new_tick_size")
        return [TickChange(as_name(event.get("asset_id"), "asset_id"), tick)]
    if kind == "market_resolved":
        return [Resolved(as_name(event.get("market"), "market"))]
    return []


def _book(event: dict[str, object], odd: Callable[[OddError], None]) -> Book:
    bids = sorted(as_levels(event.get("bids"), "bids", odd), key=lambda level: -level.price)
    asks = sorted(as_levels(event.get("asks"), "asks", odd), key=lambda level: level.price)
    token_id = as_name(event.get("asset_id"), "asset_id")
    return Book(token_id, tuple(bids), tuple(asks), as_ms(event.get("timestamp"), "timestamp"))


def _changes(event: dict[str, object], odd: Callable[[OddError], None]) -> list[BookEvent]:
    """The changes of a frame, then for each token what the frame says of its best prices."""
    at_ms = as_ms(event.get("timestamp"), "timestamp")
    events: list[BookEvent] = []
    pairs: dict[str, list[tuple[Decimal | None, Decimal | None]]] = {}

    def read(value: object, where: str) -> None:
        row = as_object(value, where)
        token_id = as_name(row.get("asset_id"), f"{where}.asset_id")
        try:
            events.append(_change(row, token_id, at_ms, where))
            if (pair := _best(row, where)) is not None:
                pairs.setdefault(token_id, []).append(pair)
        except OddError:
            events.append(Doubt(token_id))
            raise

    for _ in each(as_list(event.get("price_changes"), "price_changes"), "price_changes", read, odd):
        pass
    events.extend(Best(token_id, tuple(said), at_ms) for token_id, said in pairs.items())
    return events


def _change(row: dict[str, object], token_id: str, at_ms: int, where: str) -> Change:
    side = row.get("side")
    if side not in ("BUY", "SELL"):
        raise OddError(Code.TEXT, f"{where}.side", "BUY or SELL", side)
    price, size = as_price(row.get("price"), f"{where}.price"), as_units(row.get("size"), f"{where}.size")
    return Change(token_id, side == "BUY", price, size, at_ms)


def _best(row: dict[str, object], where: str) -> tuple[Decimal | None, Decimal | None] | None:
    """The best bid and ask that are named beside; None where they are not. 0 and 1 stand for a side without offers."""
    if row.get("best_bid") in (None, "") or row.get("best_ask") in (None, ""):
        return None
    bid = as_decimal(row.get("best_bid"), f"{where}.best_bid", 0, 1)
    ask = as_decimal(row.get("best_ask"), f"{where}.best_ask", 0, 1)
    return bid if 0 < bid < 1 else None, ask if 0 < ask < 1 else None


def _doubt(value: object) -> Iterable[Doubt]:
    """The token whose book an event that cannot be read may have changed."""
    if not isinstance(value, dict) or value.get("event_type") not in ("book", "price_change"):
        return ()
    try:
        return (Doubt(as_name(value.get("asset_id"), "asset_id")),)
    except OddError:
        return ()


# The venue's market channel: one connection that follows the books of the tokens that are wanted now.


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
                max_size=STREAM_BYTES,
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
