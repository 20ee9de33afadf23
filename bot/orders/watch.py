"""What the looks at one open order found since anything about it was last new. Times: CLOCK_BOOTTIME in ms.

One look that finds nothing proves nothing: an answer of `delayed` has no amounts, the order's fill comes after the market's
delay, and its trades show later still (py-sdk 228, valory-xyz/trader 942). So looks count only from the delay's end on, they
must agree, and the whole account is compared before an order is called over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.venue.types import LONGEST_DELAY_MS

QUIET_LOOKS = 5  # 0.1 to 2 s apart: trades were recorded to show up to seconds after their match
UNKNOWN_LOOKS = 20  # while the venue shows a word that nobody knows, or a FAK as open
CLOSED_LOOKS = 3
FOLLOW_MS = 1_000  # how long after the delay an exit that shows nothing sold is followed by a fresh one
BLIND_MS = 5_000  # and how long where nobody could look: an exit waits no longer


@dataclass(slots=True)
class Watch:
    """One order. delay_ms, min_size: the market's. arrived_ms: when the venue was first known to have it, None while it is not.

    unknown: words of the venue about it that are not known. rests: the venue shows it as resting. was_looked_at: by this holder.
    """

    delay_ms: int = LONGEST_DELAY_MS
    min_size: int = 0
    arrived_ms: int | None = None
    rests: bool = False
    is_shown_open: bool = False
    was_looked_at: bool = False
    unknown: set[str] = field(default_factory=set)
    _from_ms: int | None = None
    _looks: int = 0
    _compared: bool = False
    _closed_looks: int = 0
    _closed_compared: bool = False
    _doubted_ms: int | None = None

    def news(self, boot_ms: int) -> None:
        """The venue has it and something about it is new: counting begins anew, when the delay is over."""
        self.arrived_ms = boot_ms if self.arrived_ms is None else self.arrived_ms
        self._from_ms = boot_ms + self.delay_ms
        self._looks = self._closed_looks = 0
        self._compared = self._closed_compared = False

    def looked(self, started_ms: int, *, closed: bool, is_shown_open: bool = False) -> None:
        """A look that began then found nothing new. closed: the order's window was over by then.

        is_shown_open: the venue shows it as one that may be filled, as it did before; no longer doing so is news.
        """
        if self.is_shown_open and not is_shown_open:
            self.news(started_ms)
        self.is_shown_open = is_shown_open
        if self._from_ms is not None and started_ms >= self._from_ms:
            self._looks += 1
        if closed:
            self._closed_looks += 1

    def compared(self) -> None:
        """A comparison of the whole account found nothing new, either."""
        self._compared = self._looks >= QUIET_LOOKS
        self._closed_compared = self._closed_looks >= CLOSED_LOOKS

    @property
    def wants_comparison(self) -> bool:
        """Whether the looks found nothing for so long that the whole account is to be asked."""
        return (self._looks >= QUIET_LOOKS and not self._compared) or (
            self._closed_looks >= CLOSED_LOOKS and not self._closed_compared
        )

    @property
    def quiet(self) -> bool:
        """Whether the delay passed, and then enough looks and a comparison that found nothing."""
        enough = UNKNOWN_LOOKS if self.unknown or self.is_shown_open else QUIET_LOOKS
        return self._compared and self._looks >= enough

    @property
    def is_stuck(self) -> bool:
        """Whether the venue shows it as open for so long that a FAK cannot be: whatever it shows, nothing comes of it."""
        return self.is_shown_open and self._looks >= UNKNOWN_LOOKS

    @property
    def never_shows(self) -> bool:
        """Whether what the venue said was matched did not show as trades in many looks and a comparison: it may never."""
        return self._compared and self._looks >= UNKNOWN_LOOKS

    @property
    def closed(self) -> bool:
        """Whether the window ended, and then enough looks and a comparison found nothing."""
        return self._closed_compared

    def may_follow(self, boot_ms: int) -> bool:
        """Whether an exit that the venue has may be followed by a fresh one for what is not shown as sold."""
        if self.arrived_ms is None:
            return False
        after_ms = boot_ms - self.arrived_ms - self.delay_ms
        return after_ms >= BLIND_MS or (after_ms >= FOLLOW_MS and self._looks > 0)

    def may_follow_doubt(self, boot_ms: int) -> bool:
        """The same of one in doubt, or of a former holder's: once it was looked at, or BLIND_MS after this was asked first."""
        if self._doubted_ms is None:
            self._doubted_ms = boot_ms
        return self.was_looked_at or boot_ms - self._doubted_ms >= BLIND_MS
