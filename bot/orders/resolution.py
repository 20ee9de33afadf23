"""What may be concluded of an order from what the venue shows. Pure.

Not finding an order proves nothing: a request may still be in the network (venue.md 1.6). Doubt ends when the venue shows the
order or its trades, when the identical bytes are answered, or when the window has closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from bot.venue.types import VenueOrder
from ledger.schema import OrderState

# After the end of its window no order of it can be matched; the margin is for a venue clock that differs and for late trades.
CLOSED_MARGIN_MS = 5_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """state: the last row of the order, None when there is none. size: base units of shares.

    filled: shares in its recorded trades, failed ones included. matched: the most that the venue said was matched, None when
    it said nothing. shown: the order as the venue shows it now. closed: the window ended CLOSED_MARGIN_MS ago.
    """

    state: OrderState | None
    size: int
    filled: int
    matched: int | None
    shown: VenueOrder | None
    closed: bool


def conclude(evidence: Evidence) -> tuple[OrderState, str] | None:
    """The next state of an order and the reason in words, or None when nothing new can be said.

    Never DONE while the venue says that more was matched than its trades show.
    """
    shown, filled, state = evidence.shown, evidence.filled, evidence.state
    matched = max(evidence.matched or 0, shown.matched if shown is not None else 0)
    if filled >= matched and not (shown is not None and shown.open):
        if shown is not None:
            return OrderState.DONE, f"the venue shows it as {shown.status} with {shown.matched} matched"
        if filled >= evidence.size:
            return OrderState.DONE, "filled whole"
        if evidence.closed:
            return OrderState.DONE, f"the window has closed; the venue shows trades of {filled}"
        if state is OrderState.ACCEPTED and evidence.matched is not None:
            return OrderState.DONE, f"the venue answered with {matched} matched, and shows that much in trades"
    if evidence.closed and state is OrderState.ACCEPTED and filled < matched:
        return OrderState.IN_DOUBT, f"the window has closed; {matched} were matched, the venue shows trades of {filled}"
    if state is not OrderState.ACCEPTED and not evidence.closed and (shown is not None or filled > 0):
        return OrderState.ACCEPTED, "the venue shows the order" if shown is not None else "the venue shows its trades"
    return None
