"""The short names of reasons, for metrics: a closed list, so that no text and no number ever becomes a label. Pure."""

from __future__ import annotations

import re

# The first pattern that the reason begins with (after "exit waits: ") names it.
_PATTERNS = (
    ("off", r"switched off"),
    ("no_market", r"the venue does not list|this window was not looked up|the venue takes no orders"),
    ("market_problem", r"the market "),
    ("no_data", r"no (strike|lead price|volatility|books?)\b"),
    ("no_offers", r"no offers"),
    ("before_snipe", r"before the snipe window"),
    ("price", r"\S+ costs "),
    ("edge", r"edge .* is below"),
    ("confirming", r"confirmation "),
    ("size", r"size .* is below"),
    ("holding", r"holding"),
    ("standby", r"standby"),
    ("busy", r"an order of this slot is open|open: "),
    ("traded", r"this window was traded"),
    ("halted", r"halted|control says halt"),
    ("paused", r"control says pause"),
    ("control", r"control\b|no control was|an entry needs the newest control"),
    ("clock", r"the wall clock"),
    ("venue_mode", r"the venue (is|was) "),
    ("disk", r"no room left|expected \d+ MB free|the disk of the bus"),
    (
        "account",
        r"the account|another sender|the heartbeat|the venue did not answer|the venue was not asked|wallet 0x|the exchange may"
        r"|the venue (has|lets|refuses|wants|does not accept)",
    ),
    ("stale_data", r"the price of|no price of|the books?\b|the stream"),
    ("rate", r"risk: .*orders in the last minute"),
    ("daily_loss", r"risk: today's loss"),
    ("risk", r"risk"),
    ("unsigned", r"cannot be signed"),
    ("budget", r"our own budget"),
    ("failed", r"the evaluation failed|the strategy|left out for"),
    ("unsound", r"expected an? |an order needs|price \S+ is not on|nothing is offered|an exit of"),
    ("manual", r"manual "),
)
_RULES = tuple((name, re.compile(pattern)) for name, pattern in _PATTERNS)
REASONS = (*(name for name, _ in _PATTERNS), "other")


def reason_name(text: str) -> str:
    """The name of a reason in REASONS; `other` for one that is not known here."""
    text = text.removeprefix("exit waits: ")
    return next((name for name, rule in _RULES if rule.match(text)), "other")
