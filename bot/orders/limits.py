"""What the venue allows at present, as its last answers to orders said (venue.md 4.2). Pure; times in ms of CLOCK_BOOTTIME.

Nobody tells when a mode ends, or when somebody mended the account. So what closes entries is believed for a while only, longer
each time that the next order meets it again; then one order tries, and the others wait for its answer.
"""

from __future__ import annotations

from bot.reasons import Reason, ReasonCode
from bot.venue.types import VenueMode

# Our own rate budget for orders, below the venue's (venue.md 4.1), so that it never has to refuse an exit. Pure.
#
# A token bucket: it fills by `per_second` up to one and a half times that, and a third of it is kept for exits.


BURST_S = 1.5
FOR_EXITS = 1 / 3


class TokenBucket:
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

    def refuse(self, boot_ms: int, *, entry: bool) -> Reason | None:
        """Why an order may not leave now, or None."""
        reserve = self._most * FOR_EXITS if entry and self._most > 2 else 0.0
        if self.left(boot_ms) - reserve >= 1 - 1e-9:
            return None
        return Reason(ReasonCode.BUDGET, f"our own budget of {self._per_second:g} orders a second is spent")

    def spend(self, boot_ms: int) -> None:
        """One request leaves."""
        self._tokens = self.left(boot_ms) - 1

    def empty(self, boot_ms: int) -> None:
        """The venue said that there were too many."""
        self._tokens = min(0.0, self.left(boot_ms))


# What the venue allows at present, as its last answers to orders said (venue.md 4.2). Pure; times in ms of CLOCK_BOOTTIME.


HOLD_MS = (1_000, 2_000, 4_000, 8_000, 15_000)
PROBE_MS = 10_000


class CircuitBreaker:
    """A reason that keeps orders back, until it was believed long enough.

    Args:
        longest_ms: what it is believed for at most; a poll's interval, so that trading goes on within one poll of its end.
    """

    def __init__(self, longest_ms: int = HOLD_MS[-1]) -> None:
        self._longest_ms = longest_ms
        self._reason: Reason | None = None
        self._until_ms = 0
        self._probe_until_ms = 0
        self._in_a_row = 0

    def now(self, boot_ms: int) -> Reason | None:
        """What is to be believed now, or None."""
        return self._reason if boot_ms < self._until_ms else None

    def refuse(self, boot_ms: int, *, entry: bool) -> Reason | None:
        """Why an order may not be placed now, or None: then it may be the one that tries (`tries`). Exits wait for no other."""
        if self._reason is None:
            return None
        if boot_ms < self._until_ms:
            return self._reason.within(after=f"; an order tries again in {(self._until_ms - boot_ms) / 1000:.1f} s")
        if entry and boot_ms < self._probe_until_ms:
            return self._reason.within(after=", as it was last; another order tries first")
        return None

    def tries(self, boot_ms: int) -> None:
        """An order is on its way: the others wait for its answer."""
        if self._reason is not None:
            self._probe_until_ms = boot_ms + PROBE_MS

    def note(self, reason: Reason | None, boot_ms: int) -> None:
        """Take what an answer said; None: nothing keeps orders back."""
        if reason is None:
            self._in_a_row = 0
        elif self.now(boot_ms) is None:  # orders that were sent together count once
            self._in_a_row += 1
        self._reason, self._probe_until_ms = reason, 0
        hold_ms = HOLD_MS[min(max(self._in_a_row, 1), len(HOLD_MS)) - 1]
        self._until_ms = boot_ms + min(hold_ms, self._longest_ms)


def mode_reason(mode: VenueMode) -> Reason | None:
    """Why a mode of the venue closes entries, or None."""
    return None if mode is VenueMode.NORMAL else Reason(ReasonCode.VENUE_MODE, f"the venue is {mode}")


class VenueModes:
    """The venue's mode, believed as above."""

    def __init__(self, longest_ms: int = HOLD_MS[-1]) -> None:
        self._believed = CircuitBreaker(longest_ms)
        self._mode = VenueMode.NORMAL

    def now(self, boot_ms: int) -> VenueMode:
        """The mode that is to be believed now."""
        return VenueMode.NORMAL if self._believed.now(boot_ms) is None else self._mode

    def refuse(self, boot_ms: int, *, entry: bool) -> Reason | None:
        """As of Believed."""
        return self._believed.refuse(boot_ms, entry=entry)

    def tries(self, boot_ms: int) -> None:
        """As of Believed."""
        self._believed.tries(boot_ms)

    def note(self, mode: VenueMode, boot_ms: int) -> None:
        """Take what an answer said."""
        self._mode = mode
        self._believed.note(mode_reason(mode), boot_ms)
