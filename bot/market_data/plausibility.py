"""Which prices of a stream are believed: a jump is doubted until a second witness saw it. Pure, bounded, no clock of its own.

A price that stands within a limit of the last believed one is believed. One beyond it is a *jump*. It is kept out of everything
until a later message of the same stream, or the other stream, saw about the same move. An odd message has no second witness, so
it changes nothing. A real jump has one: the other stream's at once, its own stream's next one after `confirm_ms`.

Recorded (../shared/data/market, 81,946 prices of BTC, ETH, SOL and XRP, January and February 2026): one-second moves were 0.06 to
0.4 bp in the median, 2 to 5 bp at p99 and at most 22 bp, which was 24 deviations of the moment. The least limit is twice that.
Minutes of April 2018 and January 2022, wild days among them, moved by at most 196 bp. So no second is given more than the most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LEAST_LIMIT = 0.005
MOST_LIMIT = 0.02
DEVIATIONS = 10.0  # by so many of the moment's deviations a price may move between two messages

LONE = 5e-4
"""A lead price that moved so far, and less than its limit, is believed, and orders wait for the next one (p99.9 of a second).
A settlement price stays in its average for a minute: one that moved farther than that, or ten deviations, is doubted."""

LEAD_CONFIRM_MS = 1_200  # a wick lasts for about a second
SETTLEMENT_CONFIRM_MS = 500  # the stream brings a price a second
RESENT_MS = 5_000  # what two connections bring twice comes twice within that; later, numbers may have begun anew
WITNESS_MS = 3_000  # an older price of the other stream confirms nothing
CONTRADICTION_MS = 60_000  # silence unlocks nothing for so long

# The streams differ by their basis, recorded at 16 bp and less (venue-recorded.md 2), and by the 1.1 to 1.8 s that settlement
# prices come late.
APART = 0.005
APART_DEVIATIONS = 6.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A price. at_ms: its arrival, CLOCK_BOOTTIME. number: rises from message to message of its stream; 0: not known."""

    price: float
    at_ms: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A jump that nothing confirms yet. since_ms: its first message's arrival. seen: its messages, the newest last."""

    since_ms: int
    seen: tuple[Seen, ...]

    @property
    def newest(self) -> Seen:
        """The newest message that bears it out."""
        return self.seen[-1]


MOST_SEEN = 4  # messages of one doubt that are kept


class Plausible:
    """One stream of one asset.

    Args:
        confirm_ms: so much later than a jump's first message the message must arrive that confirms it.
        least: no move is a jump that is not larger.

    Attributes:
        believed: the last price that was believed; None before the first.
        doubt: the jump that is in doubt now, or None.
    """

    def __init__(self, confirm_ms: int, least: float = LEAST_LIMIT) -> None:
        self._confirm_ms, self._least = confirm_ms, least
        self.believed: Seen | None = None
        self.doubt: Doubt | None = None

    def is_near(self, price: float) -> bool:
        """Whether a price needs no second look: no doubt is open, and it is within the least limit."""
        believed = self.believed
        return (
            self.doubt is None and believed is not None and abs(price - believed.price) <= self._least * believed.price
        )

    def believe(self, seen: Seen) -> None:
        """Take it as true."""
        self.believed, self.doubt = seen, None

    def take(
        self, seen: Seen, volatility: float | None = None, other: Plausible | None = None, *, may_veto: bool = False
    ) -> tuple[Seen, ...]:
        """Take a message; what is believed now because of it, oldest first. Nothing where it is in doubt.

        Args:
            volatility: of the log price per sqrt(second), where it is known.
            other: the other stream of this asset.
            may_veto: whether the other stream, standing where this one stood, keeps this one from confirming itself.
        """
        before = self.doubt
        if before is not None and self._is_old(seen, before):
            return ()
        again = before is None or seen.number == 0 or seen.number > before.newest.number
        if again and self._is_within(seen, volatility):
            self.believe(seen)
            return (seen,)
        if other is not None and self._sees(other, seen):
            self.believe(seen)
            return (seen,)
        if before is None or not again or not self._bears_out(seen, before):
            self.doubt = Doubt(seen.at_ms, (seen,))
            return ()
        chain = (*before.seen, seen)
        if seen.at_ms - before.since_ms < self._confirm_ms or (
            may_veto and other is not None and self._contradicts(other, seen)
        ):
            self.doubt = Doubt(before.since_ms, chain[-MOST_SEEN:])
            return ()
        self.believe(seen)
        return chain

    def _is_old(self, seen: Seen, doubt: Doubt) -> bool:
        """Whether a message was sent before the one in doubt, or is that one again: it neither confirms nor refutes."""
        if seen.number == 0:
            return False
        since = seen.at_ms - doubt.newest.at_ms
        return seen.number == doubt.newest.number or (seen.number < doubt.newest.number and since < RESENT_MS)

    def _is_within(self, seen: Seen, volatility: float | None) -> bool:
        believed = self.believed
        return believed is not None and abs(math.log(seen.price / believed.price)) <= limit(
            volatility, seen.at_ms - believed.at_ms, self._least
        )

    def _bears_out(self, seen: Seen, doubt: Doubt) -> bool:
        """Whether a message of the same stream saw the jump, too. A clock that went back counts as no time at all."""
        return seen.at_ms >= doubt.newest.at_ms and _same_move(self.believed, doubt.newest.price, seen.price)

    def _sees(self, other: Plausible, seen: Seen) -> bool:
        """Whether the other stream saw the jump, and that just now; its own doubt of it is a witness as good."""
        witness = other.believed if other.doubt is None else other.doubt.newest
        return (
            witness is not None
            and 0 <= seen.at_ms - witness.at_ms <= WITNESS_MS
            and (self.believed is None or self._is_beyond_basis(seen))
            and _same_move(self.believed, seen.price, witness.price)
        )

    def _is_beyond_basis(self, seen: Seen) -> bool:
        """Whether a move is so large that the streams' basis says nothing about it."""
        return self.believed is not None and abs(math.log(seen.price / self.believed.price)) > LEAST_LIMIT

    def _contradicts(self, other: Plausible, seen: Seen) -> bool:
        """Whether the other stream stands, just now and without a doubt, where this one stood."""
        witness = other.believed
        return (
            other.doubt is None
            and witness is not None
            and self.believed is not None
            and self._is_beyond_basis(seen)
            and 0 <= seen.at_ms - witness.at_ms <= WITNESS_MS
            and abs(math.log(witness.price / self.believed.price)) <= APART
        )


def limit(volatility: float | None, elapsed_ms: int, least: float = LEAST_LIMIT) -> float:
    """The largest move, as a logarithm, that is no jump so long after the last believed price."""
    if volatility is None:
        return least
    return min(MOST_LIMIT, max(least, DEVIATIONS * volatility * math.sqrt(max(1_000, elapsed_ms) / 1_000)))


def are_apart(lead: Plausible, settlement: Plausible, volatility: Callable[[], float | None]) -> bool:
    """Whether both streams are believed and cannot both be right. One that fell silent goes on contradicting for a while."""
    one, two = lead.believed, settlement.believed
    if one is None or two is None or abs(one.price - two.price) <= APART * min(one.price, two.price):
        return False
    between = abs(one.at_ms - two.at_ms)
    if between > CONTRADICTION_MS:
        return False
    allowed = max(APART, APART_DEVIATIONS * (volatility() or 0.0) * math.sqrt(between / 1_000))
    return abs(math.log(one.price / two.price)) > allowed


def _same_move(base: Seen | None, price: float, witness: float) -> bool:
    """Whether a witness saw at least half and at most twice of the move from `base` to `price`; without a base, the price."""
    if base is None:
        return abs(math.log(witness / price)) <= LEAST_LIMIT
    move, seen = math.log(price / base.price), math.log(witness / base.price)
    if abs(move) <= LONE:  # numbers began anew: no jump at all
        return abs(seen - move) <= LONE
    return 0.5 <= seen / move <= 2.0
