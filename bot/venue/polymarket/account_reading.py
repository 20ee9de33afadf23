"""What the venue's JSON says of an account: its balance, holdings, orders and trades. Pure."""

from __future__ import annotations

from bot.venue.decoding import (
    Code,
    OddError,
    as_decimal,
    as_id,
    as_list,
    as_name,
    as_object,
    as_text,
    as_units,
    as_whole,
    each,
)
from bot.venue.polymarket.reading import MAX_UNITS, MOST_ALLOWANCE, FeeSchedule, Odd, moment_ms, nobody
from bot.venue.types import (
    Account,
    Holding,
    VenueOrder,
)
from ledger.values import Side, VenueTrade, trade_word


def account(
    payload: object, wallet: str, exchange: str, *, closed_only: bool = False, may_sell: bool | None = True
) -> Account:
    """Balance, and the allowance of the exchange that our markets trade on (0 where it has none)."""
    row = as_object(payload, "balance")
    allowances = as_object(row.get("allowances"), "allowances")
    allowed = {name.lower(): value for name, value in allowances.items()}.get(exchange.lower(), 0)
    allowance = min(as_whole(allowed, "allowance", 0, MOST_ALLOWANCE), MAX_UNITS)
    return Account(wallet, balance(payload), allowance, closed_only, may_sell)


def balance(payload: object) -> int:
    """The balance alone: base units of pUSD, or of a token."""
    row = as_object(payload, "balance")
    return min(as_whole(row.get("balance"), "balance", 0, MOST_ALLOWANCE), MAX_UNITS)


def holdings(payload: object, odd: Odd = nobody) -> list[Holding]:
    """GET /positions of the data API. Raises OddError: it is no list."""
    rows = each(as_list(payload, "positions"), "positions", _holding, odd)
    return [holding for holding in rows if holding.size > 0]


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
    at_ms = moment_ms(trade.get("match_time"), f"{where}.match_time")

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

    def is_ours(of: dict[str, object]) -> bool:
        return str(of.get("maker_address")).lower() == wallet.lower() or of.get("owner") == owner

    side = str(trade.get("trader_side")).upper()
    # No fill is lost for want of a word.
    is_taker = is_ours(trade) if side not in ("TAKER", "MAKER") else side == "TAKER"
    rows = [row(trade, "taker_order_id", "size", where, taker=True)] if is_taker else []
    for at, maker in makers:
        if is_ours(maker):
            rows.append(row(maker, "order_id", "matched_amount", at, taker=False))
    return [found for found in rows if found.size]  # a part of nothing says nothing


def _paid(
    trade: dict[str, object], makers: list[tuple[str, dict[str, object]]], shares: int, fees: FeeSchedule
) -> tuple[int, int] | None:
    """What the taker paid or got for its shares, and its fee, by the orders of the makers; None where they are not all of them.

    A maker of the other outcome pays what is missing of 1: the two mint or merge a set. Each amount may be a base unit short.
    """
    value = fee = matched = 0
    for at, maker in makers:
        size = as_units(maker.get("matched_amount"), f"{at}.matched_amount")
        price = as_decimal(maker.get("price"), f"{at}.price", 0, 1)
        if maker.get("asset_id") != trade.get("asset_id"):
            price = 1 - price
        matched, value, fee = matched + size, value + int(price * size), fee + fees.fee(price, size)
    return (value, fee) if makers and abs(matched - shares) <= len(makers) else None


def _side(row: dict[str, object], where: str) -> Side:
    value = row.get("side")
    if value not in ("BUY", "SELL"):
        raise OddError(Code.TEXT, f"{where}.side", "BUY or SELL", value)
    return Side(value)


def is_of(row: object, markets: set[str]) -> bool:
    """Whether a trade's market could be read."""
    return isinstance(row, dict) and isinstance(row.get("market"), str) and row["market"] in markets
