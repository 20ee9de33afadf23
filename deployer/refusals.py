"""Whether a candidate's orders are refused more than the former commit's were, beyond chance. Pure.

A worker may count, since it took the lease, the orders that it sent and those of them that the other side refused for what they
were (docs/contract.md). The candidate's are compared with the share that the former commit had: were its refusals as likely as
that, at least LEAST_SHARE, would so many come about less often than once in 500 times? Then it is the code. With three orders
that is three refusals of three; one or two tell nothing, and neither does a candidate that sends nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST = 3
LEAST_SHARE = 0.1
CHANCE = 1 / 500
MOST = 1_000


@dataclass(frozen=True, slots=True)
class Tally:
    """Orders sent since a take, and those of them that were refused."""

    sent: int
    refused: int


def why_refused_more(green: Tally, blue: Tally | None) -> str | None:
    """A sentence where the candidate's refusals are beyond chance. blue: None where the former commit's are not known."""
    if blue is None or green.refused < LEAST or green.refused > green.sent:
        return None
    # As if blue had one more of each: what sent little is known little of.
    share = max(LEAST_SHARE, (blue.refused + 1) / (blue.sent + 2))
    if share >= 1 or _at_least(green, share) > CHANCE:
        return None
    return (
        f"{green.refused} of its {green.sent} orders were refused, where the former commit had {blue.refused} of {blue.sent}: "
        "more than chance"
    )


def _at_least(tally: Tally, share: float) -> float:
    """How likely so many refusals or more are, each with this share: the upper tail of the binomial distribution."""
    sent = min(tally.sent, MOST)
    refused = tally.refused * sent // tally.sent
    return sum(math.comb(sent, k) * share**k * (1 - share) ** (sent - k) for k in range(refused, sent + 1))
