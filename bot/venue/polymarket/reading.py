"""The venue's JSON to our types. Pure.

Markets are read from raw JSON by small models of our own: of the library's, the event's model fails as a whole on any
odd field among hundreds, and the market's drops the minimum size and whether orders are accepted. Books, orders and
trades come in the library's models.
"""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, TypeVar

from polymarket.models import BalanceAllowance, ClobTrade, OpenOrder, OrderBook
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bot.venue.types import BASE_UNITS, Account, Book, Holding, Level, Market, VenueError, VenueOrder
from ledger.values import Outcome, Side, VenueTrade

_MAX_UNITS = 2**63 - 1  # An unlimited allowance is 2^256 - 1, which no database takes.
_FEE_STEP = BASE_UNITS // 100_000
_MS_FROM = 10**11  # A time above this is in milliseconds, below in seconds.


def _json_text(value: object) -> object:
    """Gamma writes lists as JSON strings."""
    return json.loads(value) if isinstance(value, str) else value


Model = TypeVar("Model", bound=BaseModel)
JsonList = Annotated[list[str], BeforeValidator(_json_text)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class FeeSchedule(_Wire):
    """Taker fee = shares * r * (p * (1 - p)) ** e, in pUSD (venue.md 2.3)."""

    r: Decimal = Decimal(0)
    e: int = 0

    def fee(self, price: Decimal, size: int) -> int:
        """The taker's fee in base units, rounded to 5 decimals of pUSD."""
        exact = size * self.r * (price * (1 - price)) ** self.e
        return int((exact / _FEE_STEP).quantize(Decimal(1), ROUND_HALF_UP)) * _FEE_STEP


class ClobMarket(_Wire):
    """GET /clob-markets/{condition}: what the exchange says of a market."""

    mos: Decimal
    mts: Decimal
    nr: bool = False
    ao: bool = True
    fd: FeeSchedule | None = None

    @property
    def fees(self) -> FeeSchedule:
        """The fee schedule; none given means no fee."""
        return self.fd or FeeSchedule()


class _GammaMarket(_Wire):
    slug: str
    condition_id: str = Field(alias="conditionId")
    outcomes: JsonList
    prices: JsonList = Field(alias="outcomePrices", default_factory=list)
    token_ids: JsonList = Field(alias="clobTokenIds", default_factory=list)
    active: bool = False
    closed: bool = False
    accepting: bool = Field(alias="acceptingOrders", default=False)


class _GammaMetadata(_Wire):
    strike: Decimal | None = Field(alias="priceToBeat", default=None)


class _GammaEvent(_Wire):
    metadata: _GammaMetadata | None = Field(alias="eventMetadata", default=None)
    markets: list[_GammaMarket]


class GammaWindow(_Wire):
    """What Gamma says of one window: its market, and the opening reference once it is known."""

    market: _GammaMarket
    strike: Decimal | None


def gamma_window(slug: str, payload: Any) -> GammaWindow | None:
    """The market of a slug out of GET /events/slug/{slug}; None where it has no tokens yet.

    Raises:
        VenueError: the answer has another form.
    """
    event = _parse(_GammaEvent, payload, f"market {slug}")
    found = next((market for market in event.markets if market.slug == slug), None)
    if found is None:
        raise VenueError(
            f"market {slug}: expected a market of this slug, found {[found.slug for found in event.markets]}"
        )
    if not found.token_ids:
        return None
    if sorted(found.outcomes) != ["Down", "Up"] or len(found.token_ids) != 2:
        raise VenueError(f"market {slug}: expected the outcomes Up and Down with a token each, found {found.outcomes}")
    return GammaWindow(market=found, strike=event.metadata.strike if event.metadata else None)


def clob_market(condition_id: str, payload: Any) -> ClobMarket:
    """GET /clob-markets/{condition} checked. Raises VenueError."""
    return _parse(ClobMarket, payload, f"market {condition_id}")


def market(window: GammaWindow, clob: ClobMarket) -> Market:
    """Gamma's and the exchange's view of one window together. Tradeable only where both say so."""
    gamma = window.market
    up = gamma.outcomes.index(Outcome.UP)
    return Market(
        slug=gamma.slug,
        condition_id=gamma.condition_id,
        up_token=gamma.token_ids[up],
        down_token=gamma.token_ids[1 - up],
        tick=clob.mts,
        min_size=units(clob.mos),
        fee_rate=clob.fees.r,
        fee_exponent=clob.fees.e,
        neg_risk=clob.nr,
        accepting=gamma.active and gamma.accepting and clob.ao and not gamma.closed,
        closed=gamma.closed,
        strike=window.strike,
        winner=_winner(gamma),
    )


def _winner(gamma: _GammaMarket) -> Outcome | None:
    """Resolved is: closed, and one outcome is worth exactly 1, the other 0. Last prices near 1 prove nothing."""
    prices = [Decimal(price) for price in gamma.prices]
    if not gamma.closed or sorted(prices) != [0, 1]:
        return None
    return Outcome(gamma.outcomes[prices.index(Decimal(1))])


def book(model: OrderBook) -> Book:
    """A book with its best levels first (the venue sends them last). at_ms is 0 where the venue gives no time."""
    return Book(
        token_id=model.asset_id,
        bids=tuple(
            Level(level.price, units(level.size))
            for level in sorted(model.bids, key=lambda level: level.price, reverse=True)
        ),
        asks=tuple(
            Level(level.price, units(level.size)) for level in sorted(model.asks, key=lambda level: level.price)
        ),
        at_ms=round(model.timestamp.timestamp() * 1000) if model.timestamp else 0,
    )


def account(model: BalanceAllowance, wallet: str, exchange: str, *, closed_only: bool = False) -> Account:
    """Balance, and the allowance of the exchange that our markets trade on (0 where it has none)."""
    allowances = {address.lower(): value for address, value in model.allowances.items()}
    allowance = min(allowances.get(exchange.lower(), 0), _MAX_UNITS)
    return Account(wallet, min(model.balance, _MAX_UNITS), allowance, closed_only)


class _Position(_Wire):
    asset: str
    condition_id: str = Field(alias="conditionId")
    size: Decimal
    slug: str = ""


def holdings(payload: Any) -> list[Holding]:
    """GET /positions of the data API. Raises VenueError."""
    if not isinstance(payload, list):
        raise VenueError(f"positions: expected a list, found {type(payload).__name__}")
    found = [_parse(_Position, row, "positions") for row in payload]
    return [Holding(row.asset, row.condition_id, row.slug, units(row.size)) for row in found if row.size > 0]


def order(model: OpenOrder) -> VenueOrder:
    """One order."""
    return VenueOrder(
        order_id=model.id,
        token_id=model.asset_id,
        condition_id=model.condition_id,
        side=Side(model.side),
        price=model.price,
        size=units(model.original_size),
        matched=units(model.size_matched),
        status=model.status.removeprefix("ORDER_STATUS_"),
    )


def trades(model: ClobTrade, wallet: str, owner: str, fees: FeeSchedule) -> list[VenueTrade]:
    """Our orders in one trade: the taker's, and each maker's that is ours by wallet or by API key.

    The venue gives no amount of the fee (its fee_rate_bps is the market's legacy rate), so it is computed by the
    market's schedule: the taker pays, makers do not.
    """
    at_ms = round(model.matched_at.timestamp() * 1000)

    def row(order_id: str, token_id: str, side: str, price: Decimal, size: Decimal, fee: int) -> VenueTrade:
        return VenueTrade(
            trade_id=model.id,
            order_id=order_id,
            token_id=token_id,
            condition_id=model.condition_id,
            side=Side(side),
            price=price,
            size=units(size),
            fee=fee,
            status=model.status,
            at_ms=at_ms,
        )

    rows = []
    if model.trader_side == "TAKER":
        fee = fees.fee(model.price, units(model.size))
        rows.append(row(model.taker_order_id, model.asset_id, model.side, model.price, model.size, fee))
    for maker in model.maker_orders:
        if maker.maker_address.lower() == wallet.lower() or maker.owner == owner:
            rows.append(row(maker.order_id, maker.asset_id, maker.side, maker.price, maker.matched_amount, 0))
    return rows


def time_ms(payload: Any) -> int:
    """GET /time. The venue counts whole seconds, so the middle of the second is taken: right to 500 ms."""
    if isinstance(payload, bool) or not isinstance(payload, int):
        raise VenueError(f"time: expected a whole number, found {payload!r}")
    return payload if payload >= _MS_FROM else payload * 1000 + 500


def units(amount: Decimal) -> int:
    """Shares or pUSD to base units, rounded down."""
    return int(amount * BASE_UNITS)


def _parse(model: type[Model], payload: Any, what: str) -> Model:
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VenueError(f"{what}: {where or 'answer'}: {first['msg']}") from error
