"""What the venue allows at present, as its answers to orders said (venue.md 4.2).

Nobody tells when a mode ends. So one that closes entries is believed for a while only, longer each time that the next order
meets it again: otherwise nothing would ever be sent that could show that it is over.
"""

from __future__ import annotations

from bot.venue.types import VenueMode

HOLD_MS = (1_000, 2_000, 4_000, 8_000, 15_000)


class Mode:
    """The venue's mode. Times in ms of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._mode = VenueMode.NORMAL
        self._until_ms = 0
        self._in_a_row = 0

    def now(self, boot_ms: int) -> VenueMode:
        """The mode that is to be believed now."""
        return self._mode if boot_ms < self._until_ms else VenueMode.NORMAL

    def note(self, mode: VenueMode, boot_ms: int) -> None:
        """Take what an answer said."""
        if mode is VenueMode.NORMAL:
            self._in_a_row = 0
        elif self.now(boot_ms) is VenueMode.NORMAL:  # orders that were sent together count once
            self._in_a_row += 1
        self._mode = mode
        self._until_ms = boot_ms + HOLD_MS[min(max(self._in_a_row, 1), len(HOLD_MS)) - 1]
