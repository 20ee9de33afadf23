"""Status: the observed state, written by the lease holder for people and the panel. Nobody takes over from it.

Money is given as decimal strings of pUSD, times as UTC ms, ages as ms.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from pydantic import Field

from bus import documents
from bus.documents import Document, Part, Read, Stamp
from bus.layout import Bus


class PositionStatus(Part):
    """Shares held of one outcome of one window, what they cost with their fees, and what they would fetch at the best bid."""

    window: str
    outcome: str
    shares: Decimal
    cost: Decimal
    value: Decimal | None = None
    average: Decimal | None = None
    """What a share cost, fees included; None in a status of a release before."""
    pnl: Decimal | None = None
    """value less cost, of this position alone; None where there is no bid, and in a status of a release before."""


class SlotStatus(Part):
    """One slot at the last poll. in_snipe: the snipe window is open. decision, reason: what the strategy said and why.

    settlement_price: the part of the settlement average that is known already, as a price in USDT.
    """

    slot: str
    asset: str
    timeframe: str
    enabled: bool
    window: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    in_snipe: bool = False
    strike: float | None = None
    lead_price: float | None = None
    probability_up: float | None = None
    edge: float | None = None
    best_ask_up: Decimal | None = None
    best_ask_down: Decimal | None = None
    best_bid_up: Decimal | None = None
    best_bid_down: Decimal | None = None
    settlement_price: float | None = None
    decision: str = "none"
    reason: str = ""
    code: str = ""
    """The reason's code, as the metrics' label `reason`; empty in a status of a release before."""
    position: PositionStatus | None = None
    in_doubt: int = 0
    orders: int = 0
    pnl: Decimal = Decimal(0)


class OutcomeStatus(Part):
    """One resolved window in which we traded."""

    window: str
    slot: str
    winner: str
    pnl: Decimal
    fees: Decimal
    resolved_ms: int


class FeedStatus(Part):
    """One stream of one asset. age_ms: age of the newest data; None when there was none yet."""

    name: str
    connected: bool
    age_ms: int | None = None
    fresh: bool = False
    reconnects: int = 0
    gaps: int = 0


class ManualStatus(Part):
    """How far a manual action of control has come. state: waiting, ordered, done or refused; text: what or why."""

    id: str
    state: str
    text: str = ""
    code: str = ""
    """Of the reason for it; empty where there is none."""


class ControlStatus(Part):
    """Which control generation was seen and applied, and why parts were refused. manual: those that stand in control."""

    seen: int | None = None
    applied: int | None = None
    problem: str | None = None
    refused: tuple[str, ...] = ()
    manual: tuple[ManualStatus, ...] = ()


class ParameterStatus(Part):
    """What a parameter of the strategy may be."""

    default: str | int | float | bool
    least: float | None = None
    """Of a number; None where nothing bounds it."""
    most: float | None = None
    unit: str = ""
    """In a word or two; empty where the strategy names none."""


class StrategyStatus(Part):
    """What decides, as BOT_STRATEGY names it, and the values of all its parameters that are in force."""

    name: str = ""
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    about: dict[str, ParameterStatus] = Field(default_factory=dict)
    """What each may be; empty in a status of a release before."""


class UsageStatus(Part):
    """What the risk limits are compared with, in pUSD: at stake by slot and asset (none left out but zeros), and in all."""

    slots: dict[str, Decimal] = Field(default_factory=dict)
    assets: dict[str, Decimal] = Field(default_factory=dict)
    total: Decimal = Decimal(0)
    loss_today: Decimal = Decimal(0)
    orders_last_minute: int = 0
    loss_last_hour: Decimal = Decimal(0)
    """As loss_today, of the last 60 minutes."""
    losses_in_a_row: int = 0
    """Windows that ended with a loss, one after the other up to the newest."""
    cooling_until_ms: int | None = None
    """UTC ms until which entries wait because of them; None where they do not."""
    directions: dict[str, Decimal] = Field(default_factory=dict)
    """What is at stake on Up and on Down over the correlated assets, less what is held of the other."""
    failed_trades_last_hour: int = 0
    """Trades of the last hour's orders that failed on the chain."""
    bankroll: Decimal | None = None
    """What may be spent: the balance less what rests or is open; None until it is known."""


class Totals(Part):
    """Lifetime numbers from the ledger. Money in pUSD."""

    polls_completed: int = 0
    polls_missed: int = 0
    orders: int = 0
    fills: int = 0
    in_doubt: int = 0
    exposure: Decimal = Decimal(0)
    pnl: Decimal = Decimal(0)
    pnl_today: Decimal = Decimal(0)
    """Since midnight UTC: of resolved windows, and of what was sold in the others."""
    fees: Decimal = Decimal(0)
    wins: int = 0
    losses: int = 0
    failed_trades: int = 0
    """Trades that failed on the chain."""


class Status(Document):
    """The view of the active instance."""

    KIND: ClassVar[str] = "status"
    MINOR: ClassVar[int] = 1

    epoch: int
    instance: str
    sha: str
    color: str
    since_ms: int
    tick: int | None = None
    interval_ms: int
    entries: str = "open"  # or why they are closed
    entries_code: str = ""
    """The code of why they are closed, `open` where they are not; empty in a status of a release before."""
    venue: str = ""
    venue_mode: str = "normal"
    wallet: str = ""
    balance: Decimal | None = None
    clock_offset_ms: int | None = None
    control: ControlStatus = Field(default_factory=ControlStatus)
    slots: tuple[SlotStatus, ...] = ()
    feeds: tuple[FeedStatus, ...] = ()
    positions: tuple[PositionStatus, ...] = ()
    outcomes: tuple[OutcomeStatus, ...] = ()
    totals: Totals = Field(default_factory=Totals)
    strategy: StrategyStatus | None = None
    usage: UsageStatus | None = None

    @property
    def is_open(self) -> bool:
        """Whether entries are allowed."""
        return (self.entries_code or self.entries) == "open"


def read_status(bus: Bus) -> Read[Status]:
    """The status document with its stamp. Raises a DocumentError."""
    return documents.read(bus.status, Status)


def write_status(bus: Bus, status: Status, sequence: int, time_ms: int) -> None:
    """Write the status without waiting for the disk. Raises OSError."""
    documents.write(bus.status, status, Stamp(status.instance, sequence, time_ms, status.epoch), durable=False)
