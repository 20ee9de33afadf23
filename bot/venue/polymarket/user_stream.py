"""The venue's user channel: what happens to our orders, told as it happens (venue.md section 3).

It has no sequence numbers and replays nothing, so it only says where to look; what is true is asked over HTTP. The venue
wants a text PING every 10 s; an answer to it shows that the connection stands, and nothing about the events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bot.venue.polymarket.account import Credentials
from bot.venue.statuses import trade_word
from bot.venue.types import UserEvent, VenueError

PING_EVERY_S = 10.0
SILENT_AFTER_S = 25.0  # two PINGs without an answer, and some air
_OPEN_LIMIT_S = 10.0
_MAX_BYTES = 1 << 20


def user_events(text: str) -> list[UserEvent]:
    """The events of one message; what is no event (PONG, something newer) gives none. Pure. Never raises."""
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return []
    found = payload if isinstance(payload, list) else [payload]
    return [event for part in found if isinstance(part, dict) and (event := _event(part)) is not None]


def _event(part: dict[str, Any]) -> UserEvent | None:
    kind, condition = part.get("event_type"), str(part.get("market") or "")
    if kind == "order" and isinstance(part.get("id"), str):
        return UserEvent((part["id"],), condition)
    if kind == "trade" and isinstance(part.get("id"), str):
        makers = part.get("maker_orders")
        ids = [part.get("taker_order_id")]
        ids += [one.get("order_id") for one in makers if isinstance(one, dict)] if isinstance(makers, list) else []
        return UserEvent(
            tuple(one for one in ids if isinstance(one, str)),
            condition,
            part["id"],
            trade_word(str(part.get("status") or "")),
        )
    return None


async def follow_user(
    url: str, credentials: Credentials, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]
) -> None:
    """One connection, from its opening to its end. Raises VenueError with the reason; never returns."""
    auth = {"apiKey": credentials.key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    try:
        async with connect(
            url, open_timeout=_OPEN_LIMIT_S, close_timeout=1, ping_interval=None, max_size=_MAX_BYTES
        ) as socket:
            await socket.send(json.dumps({"type": "user", "auth": auth}))
            # The venue does not acknowledge a subscription, but it answers a PING after it only if it was taken.
            await socket.send("PING")
            await _listen(socket, on_open, on_event)
    except TimeoutError as error:
        raise VenueError(f"user channel: nothing came for {SILENT_AFTER_S:g} s") from error
    except (OSError, WebSocketException) as error:
        raise VenueError(f"user channel: {error!r}") from error


async def _listen(socket: ClientConnection, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
    pings = asyncio.create_task(_ping(socket), name="user-ping")
    opened = False
    try:
        while True:
            async with asyncio.timeout(SILENT_AFTER_S):
                message = await socket.recv(decode=True)
            if not opened:
                opened = True
                on_open()
            for event in user_events(str(message)):
                on_event(event)
    finally:
        pings.cancel()
        await asyncio.gather(pings, return_exceptions=True)


async def _ping(socket: ClientConnection) -> None:
    while True:
        await asyncio.sleep(PING_EVERY_S)
        await socket.send("PING")
