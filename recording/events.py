"""What frames mean, as typed events. Prices and sizes are integers of base units (1 share = 1 pUSD = 1,000,000)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ONE = 1_000_000
VOID = 2
"""A winner that is none: each share pays a half."""

Level = tuple[int, int]
"""Price and size in base units."""


class Feed(StrEnum):
    """Where the price of an asset comes from."""

    BINANCE = "binance"
    """Middle of Binance's best bid and ask, in USDT."""
    BINANCE_TRADE = "binance_trade"
    """Price of a trade at Binance, in USDT."""
    RTDS_BINANCE = "rtds_binance"
    """Binance's price as RTDS sends it once a second."""
    CHAINLINK = "chainlink"
    """The settlement price, in USD."""
    TWAP_30 = "twap_30"
    """Its mean of the last 30 s."""
    TWAP_60 = "twap_60"
    """Its mean of the last 60 s."""


@dataclass(frozen=True, slots=True)
class BookEvent:
    """All offers of one token."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    token_id: str
    bids: tuple[Level, ...]
    """Best first."""
    asks: tuple[Level, ...]
    """Best first."""
    tick: int | None = None
    last_price: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """One level of one token is of another size now."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    token_id: str
    is_bid: bool
    price: int
    size: int
    """Shares that are offered there now; 0: none."""
    best_bid: int | None = None
    """As the frame says; 0 for none, None where it says nothing."""
    best_ask: int | None = None
    """As the frame says; ONE for none, None where it says nothing."""


@dataclass(frozen=True, slots=True)
class BestEvent:
    """The best prices of one token, where the venue sends them by themselves (``best_bid_ask``)."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    token_id: str
    best_bid: int
    best_ask: int


@dataclass(frozen=True, slots=True)
class TradeEvent:
    """A trade: its taker's token, side, price and shares."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    token_id: str
    is_buy: bool
    price: int
    size: int
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class TickEvent:
    """The price step of one token's market is another one now."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    token_id: str
    tick: int


@dataclass(frozen=True, slots=True)
class ResolvedEvent:
    """The market channel says that a market resolved; Gamma's answer says for certain how."""

    recv_ms: int
    venue_ms: int
    condition_id: str
    winning_token: str


@dataclass(frozen=True, slots=True)
class PriceEvent:
    """A price of an asset."""

    recv_ms: int
    time_ms: int
    """The feed's own time; that of reception where the feed has none (Binance's best prices)."""
    feed: Feed
    asset: str
    """Upper case, such as BTC."""
    price: float


@dataclass(frozen=True, slots=True)
class MarketEvent:
    """What Gamma, or an archive in Gamma's place, says of one window's market. None where it says nothing."""

    recv_ms: int
    slug: str
    condition_id: str
    token_ids: tuple[str, str]
    """Of Up and of Down."""
    start_ms: int
    end_ms: int
    tick: int | None = None
    min_size: int | None = None
    average_ms: int | None = None
    """Length of the settlement average; 0: one price decides."""
    delay_ms: int | None = None
    """How long a taker's order is held."""
    fee_rate: float | None = None
    strike: float | None = None
    final: float | None = None
    winner: int | None = None
    """0 for Up, 1 for Down, VOID for a half each, None while it is not resolved."""
    closed: bool = False
    accepting: bool = True
    protocol: str = "v1"

    @property
    def asset(self) -> str:
        """Upper case, such as BTC."""
        return self.slug.partition("-")[0].upper()

    @property
    def timeframe(self) -> str:
        """As the slug has it, such as 5m."""
        return self.slug.split("-")[2]


@dataclass(frozen=True, slots=True)
class RulesEvent:
    """What the exchange says of a market (``/clob-markets/{condition}``). None where it says nothing."""

    recv_ms: int
    condition_id: str
    tick: int | None = None
    min_size: int | None = None
    held: bool = True
    """Whether a taker's order is held (``itode``)."""
    delay_ms: int | None = None
    fee_rate: float | None = None
    accepting: bool = True


@dataclass(frozen=True, slots=True)
class CandlesEvent:
    """Candles of the lead price: (start UTC ms, open, high, low, close), oldest first."""

    recv_ms: int
    asset: str
    interval_ms: int
    rows: tuple[tuple[int, float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class OddFrame:
    """A frame, or a part of one, that could not be read: what it may have changed is not known."""

    recv_ms: int
    source: str
    reason: str
    token_id: str = ""
    """Whose book is in doubt, where that can be told."""


Event = (
    BookEvent
    | ChangeEvent
    | BestEvent
    | TradeEvent
    | TickEvent
    | ResolvedEvent
    | PriceEvent
    | MarketEvent
    | RulesEvent
    | CandlesEvent
    | OddFrame
)
