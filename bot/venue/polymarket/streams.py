"""The venue's user channel: what happens to our orders, told as it happens (venue.md section 3).

It has no sequence numbers and replays nothing, so it only says where to look; what is true is asked over HTTP. The venue
wants a text PING every 10 s; an answer to it shows that the connection stands, and nothing about the events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bot.venue.decoding import STREAM_BYTES, OddError, Origin, Skips, as_list, as_name, as_object, as_text, decode, each
from bot.venue.polymarket.client import Credentials
from bot.venue.types import UserEvent, VenueError
from ledger.values import trade_word

PING_EVERY_S = 10.0
SILENT_AFTER_S = 25.0  # two PINGs without an answer, and some air
_OPEN_LIMIT_S = 10.0
_MAX_BYTES = 1 << 20
_MAX_MAKERS = 1_000


def user_events(text: str | bytes, skips: Skips | None = None) -> list[UserEvent]:
    """The events of one message; what is no event (PONG, something newer) gives none. Never raises.

    Args:
        skips: counts and logs what is an event and cannot be read.
    """
    if text in ("PONG", b"PONG", "", b""):
        return []
    counted = skips or Skips()

    def odd(error: OddError) -> None:
        counted.note(Origin.USER, error)

    try:
        payload = decode(text, _MAX_BYTES)
        parts = as_list(payload, "events") if isinstance(payload, list) else [payload]
    except OddError as error:
        odd(error)
        return []
    return [
        event for event in each(parts, "events", lambda part, where: _event(part, where, odd), odd) if event is not None
    ]


def _event(part: object, where: str, odd: Callable[[OddError], None]) -> UserEvent | None:
    event = as_object(part, where)
    kind, condition = event.get("event_type"), event.get("market")
    market = "" if condition in (None, "") else as_name(condition, f"{where}.market")
    if kind == "order":
        return UserEvent((as_name(event.get("id"), f"{where}.id"),), market)
    if kind == "trade":
        # An order that is named beside one that cannot be read is one to look at all the same.
        makers, taker = event.get("maker_orders"), event.get("taker_order_id")
        rows = as_list(makers, f"{where}.maker_orders", _MAX_MAKERS) if isinstance(makers, list) else []
        ids = list(each([taker], f"{where}.taker_order_id", as_name, odd)) if taker not in (None, "") else []
        ids += each(rows, f"{where}.maker_orders", lambda row, at: as_name(as_object(row, at).get("order_id"), at), odd)
        status = event.get("status")
        text = trade_word(as_text(status, f"{where}.status")) if isinstance(status, str) else ""
        return UserEvent(tuple(ids), market, as_name(event.get("id"), f"{where}.id"), text)
    return None


async def follow_user(
    url: str,
    credentials: Credentials,
    on_open: Callable[[], None],
    on_event: Callable[[UserEvent], None],
    skips: Skips | None = None,
) -> None:
    """One connection, from its opening to its end. Raises VenueError with the reason; never returns."""
    auth = {"apiKey": credentials.key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    try:
        async with connect(
            url,
            open_timeout=_OPEN_LIMIT_S,
            close_timeout=1,
            ping_interval=None,
            compression=None,
            max_size=STREAM_BYTES,
        ) as socket:
            await socket.send(json.dumps({"type": "user", "auth": auth}))
            # The venue does not acknowledge a subscription, but it answers a PING after it only if it was taken.
            await socket.send("PING")
            await _listen(socket, on_open, on_event, skips)
    except TimeoutError as error:
        raise VenueError(f"user channel: nothing came for {SILENT_AFTER_S:g} s") from error
    except (OSError, WebSocketException) as error:
        raise VenueError(f"user channel: {error!r}") from error


async def _listen(
    socket: ClientConnection,
    on_open: Callable[[], None],
    on_event: Callable[[UserEvent], None],
    skips: Skips | None,
) -> None:
    pings = asyncio.create_task(_ping(socket), name="user-ping")
    opened = False
    try:
        while True:
            async with asyncio.timeout(SILENT_AFTER_S):
                message = await socket.recv(decode=False)
            if not opened:
                opened = True
                on_open()
            for event in user_events(message, skips):
                on_event(event)
    finally:
        pings.cancel()
        await asyncio.gather(pings, return_exceptions=True)


async def _ping(socket: ClientConnection) -> None:
    while True:
        await asyncio.sleep(PING_EVERY_S)
        await socket.send("PING")
