"""The dead-man heartbeat of one epoch: without one for 10 s the venue cancels all our resting orders (venue.md 4.3).

Its ids are a chain, so that two senders notice each other. The chain of the holder before is taken over from the venue's
answer; later a break of it is explained by a lost reply of ours, or by nothing: then somebody else trades on this account.
"""

from __future__ import annotations

import asyncio

from bot.venue.types import HeartbeatMismatchError, Venue, VenueError
from bus import FencedError, Log
from ledger import Ledger

EVERY_S = 5.0
RETRY_S = 1.0
TAKING_OVER_S = 15.0
"""A beat of the holder before may stay so long in the network (design section 6)."""
SUSPECT_S = 60.0
"""How long entries stay closed after a break that nothing explains."""


class Heartbeat:
    """Sends it, and says why entries must stay closed. problem: the reason, or None."""

    def __init__(self, venue: Venue, ledger: Ledger, epoch: int, log: Log) -> None:
        self._venue, self._ledger, self._epoch, self._log = venue, ledger, epoch, log
        self._suspect_until_s = 0.0
        self.problem: str | None = None

    async def run(self) -> None:
        """Beat until cancelled. Raises FencedError: the epoch is over."""
        loop = asyncio.get_running_loop()
        began, chain, explained = loop.time(), "", True
        while True:
            next_at = loop.time() + EVERY_S
            if not self._ledger.is_newest(self._epoch):
                raise FencedError(f"epoch {self._epoch} is not the newest any more")
            try:
                recover = explained or loop.time() - began < TAKING_OVER_S
                chain = await self._venue.heartbeat(chain, recover=recover)
                explained = False
                self._beaten(loop.time())
            except HeartbeatMismatchError as error:
                self.problem = f"another sender uses this account: {error}"
                self._suspect_until_s = loop.time() + SUSPECT_S
                self._log.error("heartbeat_mismatch", reason=str(error))
                # Somebody must keep the switch from falling: the next beat takes the chain over.
                explained, next_at = True, loop.time() + RETRY_S
            except VenueError as error:
                if loop.time() >= self._suspect_until_s:
                    self.problem = f"the heartbeat was not answered: {error}"
                explained, next_at = True, loop.time() + RETRY_S
            await asyncio.sleep(next_at - loop.time())

    def _beaten(self, now_s: float) -> None:
        if now_s >= self._suspect_until_s:
            self.problem = None
