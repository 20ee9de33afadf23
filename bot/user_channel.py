"""The user channel beside the polls: it says where to look at once; what is true is asked over HTTP.

The channel gives no sign of what it left out, and one that answers PING may be dead. So the two are held against each other:
a trade of ours that shows over HTTP while the channel was open, and that the channel did not tell of, ends the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from bot.venue.types import UserEvent, Venue, VenueError
from bus import Log

RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)
LASTED_S = 60.0
AGREE_WITHIN_S = 10.0
REMEMBERED = 1_000


class UserChannel:
    """Keeps one connection to the user channel, as long as `run` runs.

    Args:
        on_open: the channel listens (again): what happened before must be asked for.
        on_event: what it said.
    """

    def __init__(
        self, venue: Venue, log: Log, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]
    ) -> None:
        self._venue, self._log, self._on_open, self._on_event = venue, log, on_open, on_event
        self._told: deque[str] = deque(maxlen=REMEMBERED)
        self._opened_s: float | None = None
        self._scope: asyncio.Timeout | None = None
        self.connects = 0
        self.missed = 0

    async def run(self) -> None:
        """Connect again and again, with growing pauses, until cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            try:
                async with asyncio.timeout(None) as self._scope:
                    await self._venue.follow_user(self._opened, self._event)
            except VenueError as error:
                self._log.warning("user_channel_ended", reason=str(error), connects=self.connects)
            except TimeoutError:
                self._log.warning("user_channel_silent", missed=self.missed)
            finally:
                self._opened_s = None
            failures = 0 if loop.time() - started > LASTED_S else failures + 1
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])

    def shown_over_http(self, trade_id: str) -> None:
        """A trade of ours is at the venue: the channel must have told of it, or do so soon."""
        loop = asyncio.get_running_loop()
        if self._opened_s is None or trade_id in self._told or loop.time() - self._opened_s < AGREE_WITHIN_S:
            return  # it may have happened before the channel listened
        loop.call_later(AGREE_WITHIN_S, self._judge, trade_id, self.connects)

    def _judge(self, trade_id: str, connects: int) -> None:
        if connects == self.connects and self._opened_s is not None and trade_id not in self._told:
            self.missed += 1
            if self._scope is not None and self._scope.when() is None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    def _opened(self) -> None:
        self._opened_s = asyncio.get_running_loop().time()
        self.connects += 1
        self._on_open()

    def _event(self, event: UserEvent) -> None:
        if event.trade_id:
            self._told.append(event.trade_id)
        self._on_event(event)
