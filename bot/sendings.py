"""How long orders took: kept by the desk as they are answered, drained into the metrics beside the polls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from bot.venue.types import Accepted, Answer, Refused

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
    """The newest sendings that nobody drained yet; the oldest fall out."""

    def __init__(self) -> None:
        self._kept: deque[Sending] = deque(maxlen=KEEP)

    def add(self, sending: Sending) -> None:
        """Keep one."""
        self._kept.append(sending)

    def drain(self) -> list[Sending]:
        """All that were kept, oldest first; they are forgotten."""
        found = list(self._kept)
        self._kept.clear()
        return found


def outcome_of(answer: Answer) -> Outcome:
    """What an answer makes of its order."""
    if isinstance(answer, Accepted):
        return "accepted"
    return "refused" if isinstance(answer, Refused) else "in_doubt"
