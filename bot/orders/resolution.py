"""What may be concluded of an order from what the venue shows. Pure.

An order ends by proof only: the venue shows it in a final state, or its trades reach what was signed, or the market's delay
has passed and then enough looks and a comparison of the whole account found nothing more (`watch`), or the same after its
window closed. Never by an answer without amounts, never by one look that finds nothing: a request may still be in the
network (venue.md 1.6), and an order that was answered `delayed` is filled afterwards (py-sdk 228).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bot.venue.types import BASE_UNITS, MATCHED, Fate, VenueOrder, fate_of, order_word
from bus.errors import Reason
from ledger import Ledger
from ledger.rows import OpenIntent
from ledger.schema import BY_HAND, OrderCode, OrderState
from ledger.values import Side, VenueTrade

# After the end of its window no order of it can be matched; the margin is for a venue clock that differs and for late trades.
CLOSED_MARGIN_MS = 5_000
# Base units of pUSD that the venue's rounding leaves of a purchase's money: no share can be had for them.
LEFT_OVER = 2
# The finest amount of shares that an order asks for, in base units: a fill is 0.01 shares at least.
FINEST_SHARES = BASE_UNITS // 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one order.

    Args:
        state: its last row, None when there is none.
        size: what was decided, in base units of shares.
        filled: shares in its recorded trades, failed ones included.
        matched: the most that the venue said was matched, None when it said nothing.
        shown: the order as the venue shows it now.
        closed: its window ended CLOSED_MARGIN_MS ago, and looks and a comparison since then found nothing new.
        give, ask: the signed amounts, in base units: a BUY gives money and asks for shares; None where they are not known.
        given: what its recorded trades took of `give`.
        trades: how many they are; each may be a base unit short, by rounding.
        quiet: the market's delay passed, and looks and a comparison since then found nothing new.
        is_stuck: the venue shows it as open for longer than a FAK can be, while nothing came of it.
    """

    state: OrderState | None
    size: int
    filled: int
    matched: int | None
    shown: VenueOrder | None
    closed: bool
    side: Side = Side.SELL
    give: int | None = None
    ask: int | None = None
    given: int = 0
    trades: int = 0
    quiet: bool = False
    is_stuck: bool = False


def is_whole(evidence: Evidence) -> bool:
    """Whether the trades reach what was signed: shares of a SELL, money of a BUY.

    A market BUY spends its money: at a better price it brings more shares than it asked for (recorded on chain: 100 at a limit
    of 0.90 brought 112.359545 shares at 0.89). Filled at its limit it may keep what less than FINEST_SHARES cost.
    """
    give, given, trades = evidence.give, evidence.given, evidence.trades
    if evidence.side is Side.SELL:
        return evidence.filled + trades >= (evidence.size if give is None else give)
    if give is None:
        return False
    left, ask = give - given, evidence.size if evidence.ask is None else evidence.ask
    if left <= LEFT_OVER + trades:
        return trades > 0
    return evidence.filled + trades >= ask and left * ask <= give * FINEST_SHARES


def conclude(evidence: Evidence) -> tuple[OrderState, Reason] | None:
    """The next state of an order and the reason in words, or None when nothing new can be said.

    Never DONE while the venue says that more was matched than its trades show, or that it is open, but for one that is stuck: its
    money stays reserved until its window closes, and what may come of it is heard.
    """
    shown, filled, state = evidence.shown, evidence.filled, evidence.state
    matched = max(evidence.matched or 0, shown.matched if shown is not None else 0)
    fate = None if shown is None else fate_of(shown.status)
    if shown is not None and fate is Fate.FINAL and order_word(shown.status) == MATCHED and not matched and not filled:
        fate = Fate.UNKNOWN  # matched with nothing: its amounts are not there yet
    is_complete = filled + evidence.trades >= matched
    if is_complete and (fate is not Fate.OPEN or evidence.is_stuck):
        if shown is not None and fate is Fate.FINAL:
            text = f"the venue shows it as {shown.status} with {shown.matched} matched"
            return OrderState.DONE, Reason(OrderCode.SHOWN, text)
        if is_whole(evidence):
            return OrderState.DONE, Reason(OrderCode.WHOLE, "filled whole")
        evidence_text = f"the venue shows trades of {filled}"
        evidence_text += "" if shown is None else f" and the order as {shown.status!r}"
        if evidence.closed:
            return OrderState.DONE, Reason(OrderCode.CLOSED, f"the window has closed; {evidence_text}")
        if evidence.quiet and state is OrderState.ACCEPTED:
            return OrderState.DONE, Reason(OrderCode.QUIET, f"nothing more came: {evidence_text}")
    if evidence.closed and state is OrderState.ACCEPTED and not is_complete:
        text = f"the window has closed; {matched} were matched, the venue shows trades of {filled}"
        return OrderState.IN_DOUBT, Reason(OrderCode.CLOSED, text)
    if state is not OrderState.ACCEPTED and not evidence.closed and (shown is not None or filled > 0):
        text = "the venue shows the order" if shown is not None else "the venue shows its trades"
        return OrderState.ACCEPTED, Reason(OrderCode.SHOWN, text)
    return None


# What a person may say of an order that the venue never resolved.


Verdict = Literal["filled", "refused"]


def vouched_trade(
    order: OpenIntent, verdict: Verdict, shares: int | None, *, known: int, now_ms: int
) -> VenueTrade | None:
    """The fill that a person vouches for, or None where nothing is to be added.

    It is at the order's limit price, with the worst fee: nobody knows better. Pure.

    Args:
        shares: filled in all, in base units; None takes what the venue said was matched, else the whole order.
        known: shares in the order's recorded trades, in base units.
        now_ms: the venue's time.

    Raises:
        ValueError: the window has not closed, or the verdict contradicts the recorded trades or the order's size.
    """
    intent = order.intent
    if now_ms <= intent.window_end_ms + CLOSED_MARGIN_MS:
        raise ValueError(
            f"the window {intent.window} has not closed: the venue may still show what became of the order"
        )
    if verdict == "refused":
        if known:
            raise ValueError(f"trades of {known / BASE_UNITS:g} shares of the order are recorded: it was not refused")
        return None
    # A purchase at a better price than its limit has more shares than it asked for.
    most = max(intent.size, order.matched or 0, known)
    total = shares if shares is not None else max(known, order.matched or intent.size)
    if not known <= total <= most:
        raise ValueError(
            f"expected between {known / BASE_UNITS:g} shares (recorded) and {most / BASE_UNITS:g} (the order), "
            f"found {total / BASE_UNITS:g}"
        )
    if total == known:
        return None
    worst_fee = max(0, intent.cost - int(intent.price * intent.size)) * (total - known) // intent.size
    return VenueTrade(
        trade_id=f"{BY_HAND}{intent.order_id}",
        order_id=intent.order_id,
        token_id=intent.token_id,
        condition_id=intent.condition_id,
        side=intent.side,
        price=intent.price,
        size=total - known,
        fee=worst_fee,
        status="BY_HAND",
        at_ms=now_ms,
    )


def add_settled_by_hand(
    ledger: Ledger, epoch: int, order_id: str, verdict: str, shares: int, who: str, note: str, wall_ms: int
) -> None:
    """Record who settled an order or a window, as what, and why. shares: base units that they vouch for."""
    ledger.execute(
        "INSERT INTO settled_by_hand(order_id, epoch, verdict, shares, who, note, wall_ms) VALUES (?,?,?,?,?,?,?) "
        "ON CONFLICT DO NOTHING",  # a crash came before the order's state was recorded, and somebody asked again
        (order_id, epoch, verdict, shares, who, note, wall_ms),
    )
