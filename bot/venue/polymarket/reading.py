"""The venue's JSON to our types. Pure.

Every field goes through `decoding`: the library's models fail as a whole on any odd field among hundreds, and their numbers
have no bounds. Of a list, what cannot be read is told to `odd` and left out; a single answer that cannot be read is an OddError.

A market that can be read and that this release does not know how to trade has a `problem`: it is shown, looked at, and what is
held of it may be sold; nothing of it is bought.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from bot.venue.decoding import (
    LAST_MS,
    MAX_TEXT,
    Code,
    OddError,
    as_bool,
    as_decimal,
    as_id,
    as_levels,
    as_list,
    as_ms,
    as_name,
    as_object,
    as_text,
    as_tick,
    as_units,
    as_whole,
    decode,
    describe,
    each,
)
from bot.venue.types import (
    BASE_UNITS,
    LONGEST_DELAY_MS,
    Account,
    Book,
    Holding,
    Market,
    MarketProblem,
    ProblemCode,
    VenueError,
    VenueOrder,
)
from ledger.values import Outcome, Side, VenueTrade, trade_word

MOST_BYTES = 8 << 20
"""Of any answer that is read."""

_MAX_UNITS = 2**63 - 1  # An unlimited allowance is 2^256 - 1, which no database takes.
_MOST_ALLOWANCE = 2**256
_FEE_STEP = BASE_UNITS // 100_000
_MS_FROM = 10**11  # A time above this is in milliseconds, below in seconds.
_FIRST_MS = 10**12  # UTC ms of 2001: the venue's clock was never there
_MOST_USD = Decimal(10) ** 9
_MOST_EXPONENT = 8
_HALF = Decimal("0.5")
_MOST_DELAY_S = 60
_MOST_AVERAGE_S = 3_600
_DELAYS = ("takerDelayMs", "takerOrderDelayMs", "taker_delay_ms", "taker_order_delay_ms")

END_CURSOR = "LTE="  # py-clob-client, constants.py

Odd = Callable[[OddError], None]


def nobody(_: OddError) -> None:
    """For callers that count nothing."""


def _json_list(value: object, where: str, most: int = 16) -> list[object]:
    """A list, which Gamma writes as a JSON string."""
    return as_list(decode(value, MAX_TEXT * most, where) if isinstance(value, str) else value, where, most)


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """Taker fee = shares * r * (p * (1 - p)) ** e, in pUSD (venue.md 2.3)."""

    r: Decimal = Decimal(0)
    e: int = 0

    def fee(self, price: Decimal, size: int) -> int:
        """The taker's fee in base units, cut to 5 decimals of pUSD as on chain (recorded: 539 shares at 0.99 paid 0.37352)."""
        exact = size * self.r * (price * (1 - price)) ** self.e
        return int(exact / _FEE_STEP) * _FEE_STEP


@dataclass(frozen=True, slots=True)
class ClobMarket:
    """GET /clob-markets/{condition}: what the exchange says of a market. min_size: base units. held: a taker's order is held.

    fd: None where none is told; problem: why nothing of it is to be bought, as far as the exchange's view tells.
    """

    min_size: int
    tick: Decimal
    neg_risk: bool
    accepting: bool
    held: bool
    delay_ms: int | None
    fd: FeeSchedule | None
    problem: MarketProblem | None

    @property
    def fees(self) -> FeeSchedule:
        """The fee schedule; none given means no fee is known."""
        return self.fd or FeeSchedule()


@dataclass(frozen=True, slots=True)
class GammaMarket:
    """One market as Gamma shows it. prices: of the outcomes, () where they cannot be read. average_ms: see Market.

    resolved: the oracle's status says so, or is not told.
    """

    slug: str
    condition_id: str
    outcomes: tuple[str, ...]
    prices: tuple[Decimal, ...]
    token_ids: tuple[str, ...]
    active: bool
    closed: bool
    accepting: bool
    average_ms: int | None
    delay_ms: int | None
    problem: MarketProblem | None
    resolved: bool = True


@dataclass(frozen=True, slots=True)
class GammaWindow:
    """What Gamma says of one window: its market, and the opening reference once it is known."""

    market: GammaMarket
    strike: Decimal | None


def gamma_window(slug: str, payload: object, odd: Odd = nobody) -> GammaWindow | None:
    """The market of a slug out of GET /events/slug/{slug}; None where it has no tokens yet.

    Raises:
        OddError: the answer has another form.
        VenueError: it is of another window.
    """
    where = f"market {slug}"
    event = as_object(payload, where)
    rows = as_list(event.get("markets"), f"{where}: markets")
    slugs = [row.get("slug") if isinstance(row, dict) else None for row in rows]
    if slug not in slugs:
        known = list(each(slugs[:20], "slug", as_name, odd))
        raise VenueError(f"{where}: expected a market of this slug, found {known}")
    row = as_object(rows[slugs.index(slug)], where)
    tokens = _json_list(row.get("clobTokenIds", []), f"{where}: clobTokenIds")
    if not tokens:
        return None
    found = GammaMarket(
        slug=slug,
        condition_id=as_id(row.get("conditionId"), f"{where}: conditionId"),
        outcomes=tuple(
            as_name(value, f"{where}: outcomes") for value in _json_list(row.get("outcomes"), f"{where}: outcomes")
        ),
        prices=_prices(row, where, odd),
        token_ids=tuple(as_name(value, f"{where}: clobTokenIds") for value in tokens),
        active=row.get("active") is True,
        closed=row.get("closed") is True,
        accepting=row.get("acceptingOrders") is True,
        average_ms=_average_ms(row, where),
        delay_ms=_delay_ms(row, where),
        problem=_protocol(slug, row),
        resolved=row.get("umaResolutionStatus", "resolved") == "resolved",
    )
    if sorted(found.outcomes) != ["Down", "Up"] or len(found.token_ids) != 2 or len(set(found.token_ids)) != 2:
        raise OddError(
            Code.SHAPE, where, "the outcomes Up and Down with a token each", ", ".join(found.outcomes) or "no outcomes"
        )
    return GammaWindow(found, _strike(event, where, odd))


def _prices(row: dict[str, object], where: str, odd: Odd) -> tuple[Decimal, ...]:
    """The prices of the outcomes. They only say who won, so a market without readable ones is one that is not resolved yet."""
    try:
        values = _json_list(row.get("outcomePrices", []), f"{where}: outcomePrices")
        return tuple(as_decimal(value, f"{where}: outcomePrices", 0, 1) for value in values)
    except OddError as error:
        odd(error)
        return ()


def _strike(event: dict[str, object], where: str, odd: Odd) -> Decimal | None:
    """The opening reference. Without a readable one the window has none yet: nothing is decided in it, and it is asked again."""
    metadata = event.get("eventMetadata")
    value = metadata.get("priceToBeat") if isinstance(metadata, dict) else None
    if value is None:
        return None
    try:
        return as_decimal(value, f"{where}: priceToBeat", Decimal("1e-9"), _MOST_USD)
    except OddError as error:
        odd(error)
        return None


def _average_ms(row: dict[str, object], where: str) -> int | None:
    """How long the settlement average is: cryptoMarketConfig of Gamma (recorded 2026-09-28); 1 s where there is no average.

    None where the market does not say. Raises OddError where it says something else: a wrong length is a wrong decision.
    """
    config = row.get("cryptoMarketConfig")
    if config is None:
        return None
    found = as_object(config, f"{where}: cryptoMarketConfig")
    if not as_bool(found.get("twapEnabled"), f"{where}: twapEnabled"):
        return 1_000
    return 1_000 * as_whole(found.get("twapLookbackSeconds"), f"{where}: twapLookbackSeconds", 1, _MOST_AVERAGE_S)


def _delay_ms(row: dict[str, object], where: str) -> int | None:
    """How long a taker's order is held, where a market says so in ms (py-sdk 0.15 reads such a field; its name was not seen)."""
    for name in _DELAYS:
        if row.get(name) is not None:
            return as_whole(row[name], f"{where}: {name}", 0, _MOST_DELAY_S * 1_000)
    return None


def _protocol(slug: str, row: dict[str, object]) -> MarketProblem | None:
    """Markets of protocol V2 are signed otherwise: version "v2", positionIds (polymarket-client 0.14)."""
    version = row.get("version", row.get("v", "v1"))
    if version in ("v1", None, "") and not row.get("positionIds"):
        return None
    said = "v2" if version in ("v1", None, "") else describe(version)
    return MarketProblem(
        ProblemCode.PROTOCOL,
        f"the market {slug} is of protocol {said}, which this release does not sign: nothing of it is bought",
    )


def clob_market(condition_id: str, payload: object) -> ClobMarket:
    """GET /clob-markets/{condition} checked. Raises OddError."""
    where = f"market {condition_id}"
    row = as_object(payload, where)
    tick = as_tick(row.get("mts"), f"{where}: mts")
    problem = _protocol(condition_id, row)
    schedule = row.get("fd")
    fees = None if schedule is None else _fees(as_object(schedule, f"{where}: fd"), where)
    if problem is None and fees is None:
        problem = MarketProblem(
            ProblemCode.NO_FEES, f"the market {condition_id} has no fee schedule (fd): what a trade costs is not known"
        )
    return ClobMarket(
        min_size=as_units(row.get("mos"), f"{where}: mos"),
        tick=tick,
        neg_risk=_flag(row, "nr", where, default=False),
        accepting=_flag(row, "ao", where, default=True),
        held=_flag(row, "itode", where, default=True),
        delay_ms=_delay_ms(row, where),
        fd=fees,
        problem=problem,
    )


def market_fees(condition_id: str, payload: object) -> FeeSchedule:
    """The fee schedule alone out of GET /clob-markets/{condition}: a trade of a market that is odd in all else has its fee.

    Raises OddError.
    """
    schedule = as_object(payload, f"market {condition_id}").get("fd")
    where = f"market {condition_id}: fd"
    return FeeSchedule() if schedule is None else _fees(as_object(schedule, where), f"market {condition_id}")


def _fees(row: dict[str, object], where: str) -> FeeSchedule:
    exponent = as_decimal(row.get("e"), f"{where}: fd.e", 0, _MOST_EXPONENT)
    if exponent != int(exponent):
        raise OddError(Code.RANGE, f"{where}: fd.e", "a whole exponent", exponent)
    if row.get("to", True) is not True:  # makers would pay, too, and whoever reads `fee` counts none for them
        raise OddError(Code.RANGE, f"{where}: fd.to", "fees for takers only", row.get("to"))
    return FeeSchedule(as_decimal(row.get("r"), f"{where}: fd.r", 0, 1), int(exponent))


def _flag(row: dict[str, object], name: str, where: str, *, default: bool) -> bool:
    value = row.get(name)
    return default if value is None else as_bool(value, f"{where}: {name}")


def market(window: GammaWindow, clob: ClobMarket) -> Market:
    """Gamma's and the exchange's view of one window together. Tradeable only where both say so."""
    gamma = window.market
    up = gamma.outcomes.index(Outcome.UP)
    told = [delay for delay in (gamma.delay_ms, clob.delay_ms) if delay is not None]
    return Market(
        slug=gamma.slug,
        condition_id=gamma.condition_id,
        up_token=gamma.token_ids[up],
        down_token=gamma.token_ids[1 - up],
        tick=clob.tick,
        min_size=clob.min_size,
        fee_rate=clob.fees.r,
        fee_exponent=clob.fees.e,
        neg_risk=clob.neg_risk,
        accepting=gamma.active and gamma.accepting and clob.accepting and not gamma.closed,
        closed=gamma.closed,
        strike=window.strike,
        winner=_winner(gamma),
        is_void=gamma.closed and gamma.resolved and list(gamma.prices) == [_HALF, _HALF],
        delay_ms=max(told) if told else (LONGEST_DELAY_MS if clob.held else 0),
        average_ms=gamma.average_ms,
        problem=gamma.problem or clob.problem,
    )


def _winner(gamma: GammaMarket) -> Outcome | None:
    """Resolved is: closed, and one outcome is worth exactly 1, the other 0. Last prices near 1 prove nothing."""
    if not gamma.closed or sorted(gamma.prices) != [0, 1]:
        return None
    return Outcome(gamma.outcomes[gamma.prices.index(Decimal(1))])


def books(payload: object, odd: Odd = nobody) -> dict[str, Book]:
    """POST /books: the books that can be read, by token."""
    rows = as_list(payload, "books")
    return {found.token_id: found for found in each(rows, "books", lambda row, where: book(row, where, odd), odd)}


def book(payload: object, where: str = "book", odd: Odd = nobody) -> Book:
    """A book with its best levels first (the venue sends them last). at_ms is 0 where the venue gives no time."""
    row = as_object(payload, where)
    at = row.get("timestamp")
    return Book(
        token_id=as_name(row.get("asset_id"), f"{where}.asset_id"),
        bids=tuple(sorted(as_levels(row.get("bids"), f"{where}.bids", odd), key=lambda level: -level.price)),
        asks=tuple(sorted(as_levels(row.get("asks"), f"{where}.asks", odd), key=lambda level: level.price)),
        at_ms=0 if at in (None, "") else as_ms(at, f"{where}.timestamp"),
    )


def account(payload: object, wallet: str, exchange: str, *, closed_only: bool = False) -> Account:
    """Balance, and the allowance of the exchange that our markets trade on (0 where it has none)."""
    row = as_object(payload, "balance")
    allowances = as_object(row.get("allowances"), "allowances")
    allowed = {name.lower(): value for name, value in allowances.items()}.get(exchange.lower(), 0)
    allowance = min(as_whole(allowed, "allowance", 0, _MOST_ALLOWANCE), _MAX_UNITS)
    return Account(wallet, balance(payload), allowance, closed_only)


def balance(payload: object) -> int:
    """The balance alone: base units of pUSD, or of a token."""
    row = as_object(payload, "balance")
    return min(as_whole(row.get("balance"), "balance", 0, _MOST_ALLOWANCE), _MAX_UNITS)


def holdings(payload: object, odd: Odd = nobody) -> list[Holding]:
    """GET /positions of the data API. Raises OddError: it is no list."""
    found = each(as_list(payload, "positions"), "positions", _holding, odd)
    return [holding for holding in found if holding.size > 0]


def _holding(value: object, where: str) -> Holding:
    row = as_object(value, where)
    slug = row.get("slug")
    return Holding(
        as_name(row.get("asset"), f"{where}.asset"),
        as_name(row.get("conditionId"), f"{where}.conditionId"),
        "" if slug in (None, "") else as_name(slug, f"{where}.slug"),
        as_units(row.get("size"), f"{where}.size"),
    )


def order(payload: object, where: str = "order") -> VenueOrder:
    """One order. Raises OddError."""
    row = as_object(payload, where)
    return VenueOrder(
        order_id=as_name(row.get("id"), f"{where}.id"),
        token_id=as_name(row.get("asset_id"), f"{where}.asset_id"),
        condition_id=as_name(row.get("market"), f"{where}.market"),
        side=_side(row, where),
        price=as_decimal(row.get("price"), f"{where}.price", 0, 1),
        size=as_units(row.get("original_size"), f"{where}.original_size"),
        matched=as_units(row.get("size_matched"), f"{where}.size_matched"),
        status=as_text(row.get("status"), f"{where}.status").removeprefix("ORDER_STATUS_"),
    )


def trade_market(payload: object, where: str = "trade") -> str:
    """The condition id of a trade's market. Raises OddError."""
    return as_id(as_object(payload, where).get("market"), f"{where}.market")


def trades(payload: object, wallet: str, owner: str, fees: FeeSchedule, where: str = "trade") -> list[VenueTrade]:
    """Our orders in one trade: the taker's, and each maker's that is ours by wallet or by API key. Raises OddError.

    The venue gives no amount of the fee (its fee_rate_bps is the market's legacy rate), so it is computed by the
    market's schedule: the taker pays, makers do not. What the taker paid is what the makers' orders say, each at its own
    price; what the trade's `price` is where they differ is not known (recorded: taker at 0.401, makers at 0.363).
    """
    trade = as_object(payload, where)
    trade_id, market_id = as_name(trade.get("id"), f"{where}.id"), trade_market(payload, where)
    status = trade_word(as_text(trade.get("status"), f"{where}.status"))
    at_ms = _moment_ms(trade.get("match_time"), f"{where}.match_time")

    makers = [
        (f"{where}.maker_orders[{index}]", as_object(value, f"{where}.maker_orders[{index}]"))
        for index, value in enumerate(as_list(trade.get("maker_orders"), f"{where}.maker_orders"))
    ]

    def row(of: dict[str, object], order_id: str, size: str, at: str, *, taker: bool) -> VenueTrade:
        shares, price = as_units(of.get(size), f"{at}.{size}"), as_decimal(of.get("price"), f"{at}.price", 0, 1)
        paid = _paid(trade, makers, shares, fees) if taker else None
        return VenueTrade(
            trade_id=trade_id,
            order_id=as_name(of.get(order_id), f"{at}.{order_id}"),
            token_id=as_name(of.get("asset_id"), f"{at}.asset_id"),
            condition_id=market_id,
            side=_side(of, at),
            price=price,
            size=shares,
            fee=(fees.fee(price, shares) if paid is None else paid[1]) if taker else 0,
            status=status,
            at_ms=at_ms,
            value=None if paid is None else paid[0],
        )

    rows = [row(trade, "taker_order_id", "size", where, taker=True)] if trade.get("trader_side") == "TAKER" else []
    for at, maker in makers:
        if str(maker.get("maker_address")).lower() == wallet.lower() or maker.get("owner") == owner:
            rows.append(row(maker, "order_id", "matched_amount", at, taker=False))
    return [found for found in rows if found.size]  # a part of nothing says nothing


def _paid(
    trade: dict[str, object], makers: list[tuple[str, dict[str, object]]], shares: int, fees: FeeSchedule
) -> tuple[int, int] | None:
    """What the taker paid or got for its shares, and its fee, by the orders of the makers; None where they are not all of them.

    A maker of the other outcome pays what is missing of 1: the two mint or merge a set.
    """
    value = fee = known = 0
    for at, maker in makers:
        size = as_units(maker.get("matched_amount"), f"{at}.matched_amount")
        price = as_decimal(maker.get("price"), f"{at}.price", 0, 1)
        if maker.get("asset_id") != trade.get("asset_id"):
            price = 1 - price
        known, value, fee = known + size, value + int(price * size), fee + fees.fee(price, size)
    return (value, fee) if known == shares else None


def _side(row: dict[str, object], where: str) -> Side:
    value = row.get("side")
    if value not in ("BUY", "SELL"):
        raise OddError(Code.TEXT, f"{where}.side", "BUY or SELL", value)
    return Side(value)


def _moment_ms(value: object, where: str) -> int:
    """A time in seconds or in ms, as digits, or as a text of ISO 8601."""
    try:
        at = as_whole(value, where, 1, LAST_MS)
    except OddError:
        text = as_name(value, where)
        try:
            at = round(datetime.fromisoformat(text).timestamp() * 1000)
        except (ValueError, OverflowError, OSError) as error:
            raise OddError(Code.NUMBER, where, "a time in seconds, ms or ISO 8601", value) from error
    return at if at >= _MS_FROM else at * 1000


def time_ms(payload: object) -> int:
    """GET /time. The venue counts whole seconds, so the middle of the second is taken: right to 500 ms."""
    if isinstance(payload, str):
        raise OddError(Code.SHAPE, "time", "a whole number", payload)
    told = as_whole(payload, "time", 0, LAST_MS)
    return as_whole(told if told >= _MS_FROM else told * 1000 + 500, "time", _FIRST_MS, LAST_MS)


def page(payload: object, what: str) -> tuple[list[object], str | None]:
    """One page of a list of the CLOB, and the cursor of the next one; None where it is the last."""
    row = as_object(payload, what)
    cursor = row.get("next_cursor")
    following = None if cursor in (None, END_CURSOR) else as_name(cursor, f"{what}: next_cursor")
    return as_list(row.get("data"), f"{what}: data"), following
