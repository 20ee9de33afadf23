"""What the bot knows of a venue: values and the protocol that an adapter fulfils.

Units: prices are `Decimal` in pUSD a share, 0 < price < 1; sizes and amounts are integers in base units
(1 share = 1 pUSD = 1_000_000 base units); times are UTC milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol

from bot.reasons import Reason, ReasonCode
from ledger.values import FAILED, Outcome, Side, VenueTrade

# The venue's words for what became of an order or a trade, made plain. Pure.


MATCHED = "MATCHED"
FINAL_STATUSES = (MATCHED, "UNMATCHED", "CANCELED", "CANCELLED", "INVALID", "EXPIRED", "REJECTED")
LIVE = "LIVE"
OPEN_STATUSES = (LIVE, "DELAYED", "OPEN")
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


# What a body signs: the amounts that an order gives and asks for. Pure.


def signed_amounts(body: str) -> tuple[int, int] | None:
    """(maker amount, taker amount) of a SignedOrder's body in base units, or None where it does not say."""
    try:
        order = json.loads(body)["order"]
        give, ask = int(order["makerAmount"]), int(order["takerAmount"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (give, ask) if give > 0 and ask > 0 else None


BASE_UNITS = 1_000_000
OFF_SCALE = 10_000
"""An amount is read in other units where it is so many times what was signed: no price is better than a limit by as much."""
ORDER_TYPE: Final = "FAK"
"""Of every order that is sent: it takes what is there, and the rest is killed (venue.md 1.6, 2.3). No order of ours rests."""
LONGEST_DELAY_MS = 250
"""The longest that these markets were recorded to hold a taker's order (June 2026; 50 and 150 ms since)."""


class VenueMode(StrEnum):
    """What the venue allows at present (venue.md 4.2)."""

    NORMAL = "normal"
    POST_ONLY = "post-only"
    CANCEL_ONLY = "cancel-only"
    DISABLED = "disabled"
    RESTARTING = "restarting"
    UNREACHABLE = "unreachable"


class VenueError(Exception):
    """A reading request failed: the venue did not answer, or its answer could not be read."""


class TooManyError(VenueError):
    """The account has more of something than can be read at once."""


class ProblemCode(StrEnum):
    """Why a market that is there is not traded."""

    PROTOCOL = "protocol"
    NO_FEES = "no_fees"
    SHAPE = "shape"


@dataclass(frozen=True, slots=True)
class MarketProblem:
    """Why nothing of a market is bought: what this release does not know how to trade, or could not read. text: for people."""

    code: ProblemCode
    text: str

    @property
    def reason(self) -> Reason:
        """The same as what keeps entries back."""
        return Reason(ReasonCode.MARKET_PROBLEM, self.text)


@dataclass(frozen=True, slots=True)
class Market:
    """One window at the venue, as the venue describes it now.

    strike: the opening reference, None until the venue shows it. winner: None until resolved. is_void: it is shown as resolved
    with half a pUSD for each share; believed when it is shown so for a while.
    fee_rate, fee_exponent: taker fee = size * rate * (price * (1 - price)) ** exponent. delay_ms: how long a taker's order is
    held before it is matched. average_ms: how long the settlement average is; None where the market does not say. problem: why
    nothing of it is bought.
    """

    slug: str
    condition_id: str
    up_token: str
    down_token: str
    tick: Decimal
    min_size: int
    fee_rate: Decimal
    fee_exponent: int
    neg_risk: bool
    accepting: bool
    closed: bool
    strike: Decimal | None
    winner: Outcome | None
    delay_ms: int = LONGEST_DELAY_MS
    average_ms: int | None = None
    problem: MarketProblem | None = None
    is_void: bool = False

    def token(self, outcome: Outcome) -> str:
        """The token id of one outcome."""
        return self.up_token if outcome is Outcome.UP else self.down_token


@dataclass(frozen=True, slots=True)
class Level:
    """One price of a book: price, and size in base units."""

    price: Decimal
    size: int


@dataclass(frozen=True, slots=True)
class Book:
    """The book of one token: best levels first on both sides; at_ms is the venue's time of it."""

    token_id: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Account:
    """The account that orders are placed for. balance, allowance: base units of pUSD.

    closed_only: the venue lets it sell what it holds, and buy nothing. may_sell: the exchange may take its outcome tokens, which
    is an allowance of its own; None while that is not known.
    """

    wallet: str
    balance: int
    allowance: int
    closed_only: bool = False
    may_sell: bool | None = True


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """An order to be built, of ORDER_TYPE: a limit price (on the market's tick) and a size in base units of shares.

    A BUY never spends more than price * size; at a better price the venue may give more shares than size.
    """

    token_id: str
    side: Side
    price: Decimal
    size: int


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order that may be sent: its id (EIP-712 hash, 0x...) and the exact body that is sent and may be sent again.

    maker_amount, taker_amount: base units as signed (what is given, what is asked for).
    """

    order_id: str
    body: str
    maker_amount: int
    taker_amount: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The venue took the order. status is its word (live, matched, delayed, duplicate ...).

    matched: shares matched so far in base units, as the answer says; None where it does not say. An amount of zero says
    nothing: the fill may come after the market's delay (py-sdk 228, clob-client 317). value: what was paid or got for them, in
    base units of pUSD, to the unit; None as before.
    """

    order_id: str
    status: str
    matched: int | None = None
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue refused the order; it does not exist there. code may be empty. mode: what the refusal says of the venue.

    trouble: what it says of every further order of this account, and what to do; None where it says nothing.
    """

    reason: str
    code: str = ""
    mode: VenueMode = VenueMode.NORMAL
    trouble: Reason | None = None


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The request may have been sent and its outcome is not known (timeout, reset, 5xx, unreadable)."""

    reason: str
    mode: VenueMode = VenueMode.NORMAL


Answer = Accepted | Refused | InDoubt


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as the venue shows it. status: LIVE, MATCHED, CANCELED, ... size, matched: base units."""

    order_id: str
    token_id: str
    condition_id: str
    side: Side
    price: Decimal
    size: int
    matched: int
    status: str

    @property
    def open(self) -> bool:
        """Whether it may still be filled. A status that is not known to be final (such as delayed) is open."""
        return fate_of(self.status) is not Fate.FINAL


@dataclass(frozen=True, slots=True)
class Holding:
    """Shares of one outcome that the account holds, as the venue's data API shows them. size: base units."""

    token_id: str
    condition_id: str
    slug: str
    size: int


@dataclass(frozen=True, slots=True)
class UserEvent:
    """The user channel said something about these orders (ours and, in a trade, the other side's).

    trade_id, status: of the trade, as in VenueTrade; empty where it was about an order alone.
    """

    order_ids: tuple[str, ...]
    condition_id: str
    trade_id: str = ""
    status: str = ""


class Venue(Protocol):
    """An adapter to one venue for one wallet. Reading calls raise VenueError; every call ends within its time limit."""

    @property
    def wallet(self) -> str:
        """The address whose funds are traded (0x..., checksum form)."""

    async def open(self) -> None:
        """Open the reading connections. Never changes the account."""

    async def close(self) -> None:
        """Close everything."""

    async def open_orders_channel(self) -> None:
        """Open the connections that orders travel on (linger 0, TCP_USER_TIMEOUT below the request's time limit)."""

    async def close_orders_channel(self) -> None:
        """Abort them: what was not delivered is discarded."""

    async def server_time_ms(self) -> int:
        """The venue's clock, right to 500 ms: it tells whole seconds."""

    async def account(self) -> Account:
        """Balance and allowance."""

    async def market(self, slug: str) -> Market | None:
        """The market of a window, or None where the venue does not know it (yet)."""

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        """The books of many tokens in as few requests as may be; tokens that the venue does not know are left out."""

    def sign(self, request: OrderRequest, market: Market, salt: int, timestamp_ms: int) -> SignedOrder:
        """Build and sign, without any I/O. Equal arguments give equal bytes.

        Raises ValueError on a price or size that breaks a rule.
        """

    async def send(self, body: str) -> Answer:
        """POST the body of a SignedOrder. Never raises for what the network or the venue does: that is the Answer."""

    def begin(self, body: str) -> Callable[[], Awaitable[Answer]] | None:
        """The same, sent before this returns; what it returns waits for the answer, once, and never raises either.

        None: no connection is ready, and nothing was sent; `send` makes one.
        """

    async def order(self, order_id: str) -> VenueOrder | None:
        """One order; None proves nothing (venue.md 1.6)."""

    async def open_orders(self) -> list[VenueOrder]:
        """All open orders of this account."""

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:
        """Our fills, oldest first, one row an order of ours in a trade (as taker, or as one of its makers)."""

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        """Send the dead-man heartbeat with the id of the previous answer ('' at first); returns the next id.

        recover: a stale id is replaced once by the one that the venue's answer names. Raises HeartbeatMismatchError where that
        is refused too, or is not wanted.
        """

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        """Listen on the user channel until the connection ends, which raises VenueError. on_open: it listens now.

        What happened before `on_open`, or between two connections, is never told: ask for it.
        """

    async def holdings(self) -> list[Holding]:
        """What the account holds by the data API, in no order; empty where the venue has none (paper)."""

    async def shares(self, token_id: str) -> int:
        """How many shares of one token the account holds, in base units."""

    async def refresh_balance(self, token_id: str) -> None:
        """Have the venue read the balance of a token anew: what it keeps may be of before the last trade."""

    @property
    def cannot_redeem(self) -> str | None:
        """Why won positions of this wallet cannot be redeemed from here, or None."""

    async def redeem(self, condition_id: str) -> str:
        """Have the positions of a resolved market paid; returns the transaction's id, which says nothing of its end.

        Raises VenueError: it may or may not have been sent. Doing it twice pays once: what is paid is what is held.
        """


class HeartbeatMismatchError(VenueError):
    """The chain moved without us: another sender uses this account."""
