"""Between polls: which assets there is news of, told soon, together, and not too often.

The first news of an asset is told with the `flush` after the read of the socket that brought it, or in the loop's next turn,
so that what one read brought is one evaluation; later ones at most every SPACING_S. What is kept is a set of assets: it cannot
grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

SPACING_S = 0.01
LONG_AGO = float("-inf")


class News:
    """`follow` names who is told; without anybody news is dropped."""

    def __init__(self) -> None:
        self._tell: Callable[[Iterable[str]], None] | None = None
        self._waiting: set[str] = set()
        self._told_at: dict[str, float] = {}
        self._timer: asyncio.Handle | None = None
        self._soon = False

    def follow(self, tell: Callable[[Iterable[str]], None] | None) -> None:
        """Tell this one from now on; None tells nobody, at once."""
        self._tell = tell
        self._waiting.clear()
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note(self, asset: str) -> None:
        """There is news of an asset."""
        if self._tell is None or asset in self._waiting:
            return
        self._waiting.add(asset)
        loop = asyncio.get_running_loop()
        wait_s = self._told_at.get(asset, LONG_AGO) + SPACING_S - loop.time()
        if wait_s <= 0:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._soon = loop.call_soon(self._due), True
        elif self._timer is None:
            self._timer = loop.call_later(wait_s, self._due)

    def flush(self) -> None:
        """Tell now what the loop's next turn would tell."""
        if self._soon and self._timer is not None:
            self._timer.cancel()
            self._due()

    def _due(self) -> None:
        """Tell what has waited long enough; set the timer for the rest."""
        self._timer, self._soon = None, False
        loop = asyncio.get_running_loop()
        now = loop.time()
        ripe = {asset for asset in self._waiting if self._told_at.get(asset, LONG_AGO) + SPACING_S <= now + 1e-4}
        self._waiting -= ripe
        self._told_at.update(dict.fromkeys(ripe, now))
        if self._waiting:
            first = min(self._told_at.get(asset, LONG_AGO) for asset in self._waiting) + SPACING_S
            self._timer = loop.call_later(max(0.0, first - now), self._due)
        if ripe and self._tell is not None:
            self._tell(ripe)
