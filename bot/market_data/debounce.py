"""Between polls: which assets there is news of, told at once, together, and never for more than half of the time.

News is told with the `flush` after the read of the socket that brought it, or in the loop's next turn, so that what one read
brought is one evaluation. After a telling nothing is told for as long as that one took: prices that come faster than they can be
evaluated wait together, and half of the processor stays for polls, answers and heartbeats. One that waited for a disk is followed
by a short rest all the same. What is kept is a set of assets: it cannot grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

LONG_AGO = float("-inf")
MOST_REST_S = 0.05


class News:
    """`follow` names who is told; without anybody news is dropped."""

    def __init__(self) -> None:
        self._tell: Callable[[Iterable[str]], None] | None = None
        self._waiting: set[str] = set()
        self._rests_until = LONG_AGO
        self._timer: asyncio.Handle | None = None
        self._soon = False

    def follow(self, tell: Callable[[Iterable[str]], None] | None) -> None:
        """Tell this one from now on; None tells nobody, at once."""
        self._tell = tell
        self._waiting.clear()
        self._set(None)

    def note(self, asset: str) -> None:
        """There is news of an asset."""
        if self._tell is None:
            return
        self._waiting.add(asset)
        if self._soon:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._rests_until:
            self._set(loop.call_soon(self._due), soon=True)
        elif self._timer is None:
            self._set(loop.call_at(self._rests_until, self._due))

    def flush(self) -> None:
        """Tell now what the loop's next turn would tell."""
        if self._soon:
            self._set(None)
            self._due()

    def _due(self) -> None:
        """Tell all that waits."""
        self._timer, self._soon = None, False
        if self._tell is None:
            return
        told, self._waiting = self._waiting, set()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._tell(told)
        finally:
            ended = loop.time()
            self._rests_until = ended + min(ended - began, MOST_REST_S)

    def _set(self, timer: asyncio.Handle | None, *, soon: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._soon = timer, soon
