"""Why not: every refusal, closed entry and ill health of the bot has one of these codes beside its words.

Programs go by the code: metrics, status, ledger, page. The words are for people, may have numbers in them, and nothing reads
them back.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from bus import errors


class ReasonCode(StrEnum):
    """The values of the label `reason` of the bot's metrics: a closed list."""

    OFF = "off"  # the slot is switched off
    NO_MARKET = "no_market"  # not listed, not looked up, or it takes no orders
    MARKET_PROBLEM = "market_problem"  # this release cannot trade it
    NO_DATA = "no_data"  # no strike, lead price or volatility yet
    NO_OFFERS = "no_offers"
    BEFORE_SNIPE = "before_snipe"
    PRICE = "price"
    NOISE = "noise"  # too near to the strike for what is known of the basis
    EDGE = "edge"
    CONFIRMING = "confirming"
    SIZE = "size"  # below what can be bought or sold
    HOLDING = "holding"
    STANDBY = "standby"  # without the lease
    BUSY = "busy"  # an order of the slot or window is open
    TRADED = "traded"
    HALTED = "halted"
    PAUSED = "paused"
    CONTROL = "control"  # there is none, or it cannot be followed
    CLOCK = "clock"  # this machine's and the venue's differ
    VENUE_MODE = "venue_mode"
    DISK = "disk"
    LEDGER = "ledger"  # it cannot be read or written
    ACCOUNT = "account"  # it cannot trade, is not known, or somebody else uses it
    STRIKE_APART = "strike_apart"
    BASIS_UNKNOWN = "basis_unknown"
    BASIS_STALE = "basis_stale"
    BASIS_JUMPED = "basis_jumped"
    DOUBTED = "doubted"  # a price that nothing confirms yet
    STALE_DATA = "stale_data"  # no price or book, or an old one
    RATE = "rate"
    DAILY_LOSS = "daily_loss"
    HOURLY_LOSS = "hourly_loss"
    LOSSES_IN_A_ROW = "losses_in_a_row"
    FAILED_TRADES = "failed_trades"
    DIRECTION = "direction"
    BANKROLL = "bankroll"
    RISK = "risk"  # a limit on what is at stake
    UNSIGNED = "unsigned"
    BUDGET = "budget"  # our own rate of orders
    FAILED = "failed"  # the evaluation raised, or the strategy is left out
    UNSOUND = "unsound"  # the strategy decided what can be no order
    MANUAL = "manual"  # a person's wish, and what became of it
    STARTING = "starting"  # no poll yet
    OTHER = "other"  # a strategy's own words, or those of a release before


class Reason(errors.Reason):
    """One of the bot's."""

    __slots__ = ()
    code: ReasonCode

    def __new__(cls, code: ReasonCode, text: str) -> Self:
        """Code and words."""
        return super().__new__(cls, code, text)


MaybeReason = Reason | Literal[""]
"""Empty where there is none, as in the strategy's inputs."""


SWITCHED_OFF = Reason(ReasonCode.OFF, "switched off")
NO_ORDERS = Reason(ReasonCode.NO_MARKET, "the venue takes no orders in this window")
HALTED = Reason(ReasonCode.HALTED, "halted: the file halt is on the bus")
NOT_WANTED = Reason(ReasonCode.MANUAL, "a person wants nothing held in this window")


def code_of(words: str) -> ReasonCode:
    """The code that words carry; OTHER of plain ones, such as a strategy's own."""
    return words.code if isinstance(words, Reason) else ReasonCode.OTHER
