"""Strategies: what one is, the guard around it, the one that is shipped, and the evaluation of all slots.

A strategy of one's own needs what is exported here, and nothing else (docs/how-to/strategy.md).
"""

from bot.reasons import Reason, ReasonCode
from bot.strategy.api import Decision, Inputs, Strategy, number
from bot.venue.types import BASE_UNITS
from ledger.values import Outcome

__all__ = ["BASE_UNITS", "Decision", "Inputs", "Outcome", "Reason", "ReasonCode", "Strategy", "number"]
