"""Our own rate budget for orders, below the venue's (venue.md 4.1), so that it never has to refuse an exit. Pure.

A token bucket: it fills by `per_second` up to one and a half times that, and a third of it is kept for exits.
"""

from __future__ import annotations

BURST_S = 1.5
FOR_EXITS = 1 / 3


class Budget:
    """Requests that place orders. Times in ms of CLOCK_BOOTTIME."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_S)
        self._tokens = self._most
        self._at_ms: int | None = None

    def left(self, boot_ms: int) -> float:
        """Requests that may leave now; below 0 when more left than were there."""
        if self._at_ms is not None:
            gained = (boot_ms - self._at_ms) / 1000 * self._per_second
            self._tokens = min(self._most, self._tokens + max(0.0, gained))
        self._at_ms = boot_ms
        return self._tokens

    def refuse(self, boot_ms: int, *, entry: bool) -> str | None:
        """Why an order may not leave now, or None."""
        kept = self._most * FOR_EXITS if entry and self._most > 2 else 0.0
        if self.left(boot_ms) - kept >= 1 - 1e-9:
            return None
        return f"our own budget of {self._per_second:g} orders a second is spent"

    def spend(self, boot_ms: int) -> None:
        """One request leaves."""
        self._tokens = self.left(boot_ms) - 1

    def empty(self, boot_ms: int) -> None:
        """The venue said that there were too many."""
        self._tokens = min(0.0, self.left(boot_ms))
