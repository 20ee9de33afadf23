"""The venue's words for what became of an order or a trade, made plain. Pure.

Recorded (../shared/venue-recorded.md 1; py-sdk models; ts-sdk 264): orders LIVE, DELAYED, MATCHED, UNMATCHED, INVALID,
CANCELED, CANCELLED, with ORDER_STATUS_ before or a reason behind, and whole sentences; trades with TRADE_STATUS_ before.
A word that is not known says neither that an order may still be filled nor that it is over.
"""

from __future__ import annotations

import re
from enum import StrEnum

from ledger.values import FAILED

MATCHED = "MATCHED"
FINAL_STATUSES = (MATCHED, "UNMATCHED", "CANCELED", "CANCELLED", "INVALID", "EXPIRED", "REJECTED")
OPEN_STATUSES = ("LIVE", "DELAYED", "OPEN")
TRADE_STATUSES = (MATCHED, "MATCHED_NOT_BROADCASTED", "MINED", "CONFIRMED", "RETRYING", FAILED)

# Sentences that stand where a word was expected: a FAK or FOK that was killed, an order that its owner or the venue ended.
_ENDED = re.compile(
    r"(COULDN'T|COULD NOT) BE FULLY FILLED|NO ORDERS FOUND TO MATCH|FILLED OR KILLED|(ORDER|WAS|BEEN) (CANCELL?ED|KILLED)"
)
_WORD = re.compile(r"[A-Z]+")


class Fate(StrEnum):
    """What a status says of an order: it may still be filled, nothing more comes, or nobody knows."""

    OPEN = "open"
    FINAL = "final"
    UNKNOWN = "unknown"


def order_word(status: str) -> str:
    """The status of an order as one known word; what is not known comes back in capitals, without its prefix."""
    text = status.strip().upper().removeprefix("ORDER_STATUS_")
    first = _WORD.match(text)
    if first is not None and first.group() in (*FINAL_STATUSES, *OPEN_STATUSES):
        return first.group()
    return "CANCELED" if _ENDED.search(text) else text


def fate_of(status: str) -> Fate:
    """What the status of an order says of what may still come."""
    word = order_word(status)
    if word in FINAL_STATUSES:
        return Fate.FINAL
    return Fate.OPEN if word in OPEN_STATUSES else Fate.UNKNOWN
