"""How long orders took: kept by the desk as they are answered, drained into the metrics beside the polls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from bot.venue.types import Accepted, Answer, Refused, VenueMode

KEEP = 1_000
Outcome = Literal["accepted", "refused", "in_doubt"]


@dataclass(frozen=True, slots=True)
class Sending:
    """One first sending of an order. tick: UTC ms; sent, answered: CLOCK_BOOTTIME in ms."""

    tick: int
    sent_boot_ms: int
    answered_boot_ms: int
    outcome: Outcome


class Sendings:
    """The newest sendings that nobody drained yet; the oldest fall out. sent, refused: of all; refused for what they were."""

    def __init__(self) -> None:
        self._kept: deque[Sending] = deque(maxlen=KEEP)
        self.sent = self.refused = 0

    def add(self, sending: Sending, *, at_fault: bool) -> None:
        """Keep one. at_fault: it was refused for what it was."""
        self._kept.append(sending)
        self.sent += 1
        self.refused += at_fault

    def drain(self) -> list[Sending]:
        """All that were kept, oldest first; they are forgotten."""
        found = list(self._kept)
        self._kept.clear()
        return found


# Refusals that say nothing of the order: nobody was there to trade with, it never left, or it came too often or out of hours.
_NOT_ITS_FAULT = frozenset(
    {"no_match", "not_sent", "rate_limited", "restarting", "market_not_ready", "market_closed", "post_only_mode"}
)


def is_at_fault(answer: Answer) -> bool:
    """Whether an order was refused for what it was (its price, size, signature, account), and not for the venue or the moment.

    A rise of these after a deploy is the code's: the deployer takes the lease back.
    """
    return isinstance(answer, Refused) and answer.mode is VenueMode.NORMAL and answer.code not in _NOT_ITS_FAULT


def outcome_of(answer: Answer) -> Outcome:
    """What an answer makes of its order."""
    if isinstance(answer, Accepted):
        return "accepted"
    return "refused" if isinstance(answer, Refused) else "in_doubt"
