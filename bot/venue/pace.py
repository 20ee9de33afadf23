"""How many reading requests one instance makes: one budget for all of them, so that what can wait gives way to what cannot.

Looks at markets wait for room. What is asked about orders, books and the account leaves at once, and is paid back by what
waits. Recorded: 48 requests a second of one instance whose sixteen slots waited for their strikes, where Gamma allows 50.
"""

from __future__ import annotations

from collections.abc import Callable

PER_S = 4.2
"""Requests a second in the long run, of what can wait and what cannot together."""
WARMING_PER_S = 7.0
"""While windows of now were never asked for: an instance that has just started."""
AT_ONCE, FIRST_AT_ONCE = 3.5, 8.0
"""In one burst, and in the first one."""
TURN_MS = 400
"""Between two looks at orders, of two or three requests each: orders that leave together are looked at one after the other."""
MOST_OWED = 9.0
"""What left without room is paid back by the others up to so many requests, so that they wait for some seconds at most."""


class RequestPace:
    """A token bucket. boot_ms: CLOCK_BOOTTIME in ms. per_s: requests a second; its bursts are in proportion."""

    def __init__(self, boot_ms: Callable[[], int], per_s: float = PER_S) -> None:
        self._boot_ms, self._scale = boot_ms, per_s / PER_S
        self._tokens = FIRST_AT_ONCE * self._scale
        self._at_ms: int | None = None
        self._next_turn_ms = 0.0
        self.is_warming = False

    def take(self, requests: float) -> bool:
        """Whether so many requests that can wait may leave now; then they are counted."""
        self._gain()
        if self._tokens < requests:
            return False
        self._tokens -= requests
        return True

    def spend(self, requests: float = 1.0) -> None:
        """So many requests leave that cannot wait."""
        self._gain()
        self._tokens = max(-MOST_OWED, self._tokens - requests)

    def turn(self, *, urgent: bool = False) -> bool:
        """Whether a look at an order may begin now: one in TURN_MS, once there is room. urgent: without room, too."""
        now = self._gain()
        if now < self._next_turn_ms or (self._tokens < 0 and not urgent):
            return False
        self._next_turn_ms = now + TURN_MS / self._scale
        return True

    def _gain(self) -> int:
        now = self._boot_ms()
        if self._at_ms is not None:
            per_second = self._scale * (WARMING_PER_S if self.is_warming else PER_S)
            gained = max(0, now - self._at_ms) / 1000 * per_second
            self._tokens = min(max(AT_ONCE * self._scale, self._tokens), self._tokens + gained)
        self._at_ms = now
        return now
