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
    Book,
    Market,
    MarketProblem,
    ProblemCode,
    VenueError,
)
from ledger.values import Outcome

MOST_BYTES = 8 << 20
"""Of any answer that is read."""

MAX_UNITS = 2**63 - 1  # An unlimited allowance is 2^256 - 1, which no database takes.
MOST_ALLOWANCE = 2**256
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
        names = list(each(slugs[:20], "slug", as_name, odd))
        raise VenueError(f"{where}: expected a market of this slug, found {names}")
    row = as_object(rows[slugs.index(slug)], where)
    tokens = _json_list(row.get("clobTokenIds", []), f"{where}: clobTokenIds")
    if not tokens:
        return None
    market = GammaMarket(
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
    if sorted(market.outcomes) != ["Down", "Up"] or len(market.token_ids) != 2 or len(set(market.token_ids)) != 2:
        raise OddError(
            Code.SHAPE, where, "the outcomes Up and Down with a token each", ", ".join(market.outcomes) or "no outcomes"
        )
    return GammaWindow(market, _strike(event, where, odd))


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
    settings = as_object(config, f"{where}: cryptoMarketConfig")
    if not as_bool(settings.get("twapEnabled"), f"{where}: twapEnabled"):
        return 1_000
    return 1_000 * as_whole(settings.get("twapLookbackSeconds"), f"{where}: twapLookbackSeconds", 1, _MOST_AVERAGE_S)


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
    text = "v2" if version in ("v1", None, "") else describe(version)
    return MarketProblem(
        ProblemCode.PROTOCOL,
        f"the market {slug} is of protocol {text}, which this release does not sign: nothing of it is bought",
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
    delays = [delay for delay in (gamma.delay_ms, clob.delay_ms) if delay is not None]
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
        delay_ms=max(delays) if delays else (LONGEST_DELAY_MS if clob.held else 0),
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


def moment_ms(value: object, where: str) -> int:
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
    value = as_whole(payload, "time", 0, LAST_MS)
    return as_whole(value if value >= _MS_FROM else value * 1000 + 500, "time", _FIRST_MS, LAST_MS)


def page(payload: object, what: str) -> tuple[list[object], str | None]:
    """One page of a list of the CLOB, and the cursor of the next one; None where it is the last."""
    row = as_object(payload, what)
    cursor = row.get("next_cursor")
    following = None if cursor in (None, END_CURSOR) else as_name(cursor, f"{what}: next_cursor")
    return as_list(row.get("data"), f"{what}: data"), following
