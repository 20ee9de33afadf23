"""Frames to events. Pure; no frame, however odd, raises: what cannot be read is an OddFrame.

Forms: Polymarket's market channel, RTDS and Gamma as recorded in September and October 2026 (tests/unit/recording has one of
each), Binance's spot streams as documented.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from recording.events import (
    ONE,
    VOID,
    BestEvent,
    BookEvent,
    CandlesEvent,
    ChangeEvent,
    Event,
    Feed,
    Level,
    MarketEvent,
    OddFrame,
    PriceEvent,
    ResolvedEvent,
    RulesEvent,
    TickEvent,
    TradeEvent,
)
from recording.format import Frame, Origin

_SILENT = frozenset({"", "PONG", "pong", "PING", "[]", "{}"})
_MOST_UNITS = 10**18
_MOST_LEVELS = 20_000
_MOST_EVENTS = 20_000
_LAST_MS = 4_102_444_800_000  # 2100
_SLUG = re.compile(r"([a-z]{1,12})-updown-([1-9][0-9]{0,4})([smh])-([1-9][0-9]{0,11})")
_UNITS_S = {"s": 1, "m": 60, "h": 3_600}
_RTDS = {
    "crypto_prices": Feed.RTDS_BINANCE,
    "crypto_prices_chainlink": Feed.CHAINLINK,
    "crypto_prices_twap_thirty": Feed.TWAP_30,
    "crypto_prices_twap_sixty": Feed.TWAP_60,
}
# How polymarket-client 0.15 and others name the field; which name the venue uses, nobody recorded.
_DELAYS = ("takerDelayMs", "takerOrderDelayMs", "taker_delay_ms", "taker_order_delay_ms")
_MOST_DELAY_MS = 60_000
_INTERVALS = {"1s": 1_000, "1m": 60_000}


class _OddError(Exception):
    """A part of a frame is not what it should be."""


def decode(frame: Frame) -> list[Event]:
    """What a frame says; nothing where it is of no interest (PONG, new markets, answers to requests)."""
    if frame.text in _SILENT:
        return []
    read = _READERS.get(frame.source)
    if read is None:
        return []
    try:
        payload = json.loads(frame.text)
    except (ValueError, RecursionError):
        return [OddFrame(frame.recv_ms, frame.source, "it is no JSON")]
    events: list[Event] = []
    for item in payload[:_MOST_EVENTS] if isinstance(payload, list) else [payload]:
        try:
            events.extend(read(item, frame.recv_ms))
        except _OddError as error:
            token = item.get("asset_id") if isinstance(item, dict) else None
            events.append(OddFrame(frame.recv_ms, frame.source, str(error), token if isinstance(token, str) else ""))
    return events


def parse_slug(slug: str) -> tuple[str, str, int, int]:
    """Asset, timeframe, start and end (UTC ms) of a window's name.

    Raises:
        ValueError: it names no Up/Down window.
    """
    match = _SLUG.fullmatch(slug)
    if match is None:
        raise ValueError(f"expected a slug such as btc-updown-5m-1790877600, found {slug!r}")
    start_ms = int(match[4]) * 1000
    return match[1].upper(), match[2] + match[3], start_ms, start_ms + int(match[2]) * _UNITS_S[match[3]] * 1000


# Polymarket's market channel.


def _clob(event: Any, recv_ms: int) -> Iterator[Event]:
    row = _object(event)
    kind = row.get("event_type")
    if kind == "book":
        tick, last = row.get("tick_size"), row.get("last_trade_price")
        yield BookEvent(
            recv_ms,
            _ms(row, recv_ms),
            _name(row, "market"),
            _name(row, "asset_id"),
            _levels(row.get("bids"), -1),
            _levels(row.get("asks"), 1),
            _units(tick, "tick_size") if tick not in (None, "") else None,
            _units(last, "last_trade_price") if last not in (None, "") else None,
        )
    elif kind == "price_change":
        changes = row.get("price_changes")
        if not isinstance(changes, list):
            raise _OddError("price_changes: expected a list")
        for change in changes[:_MOST_EVENTS]:
            try:
                yield _change(row, change, recv_ms)
            except _OddError as error:
                token = change.get("asset_id") if isinstance(change, dict) else None
                yield OddFrame(recv_ms, Origin.CLOB, str(error), token if isinstance(token, str) else "")
    elif kind == "last_trade_price":
        yield TradeEvent(
            recv_ms,
            _ms(row, recv_ms),
            _name(row, "market"),
            _name(row, "asset_id"),
            _side(row),
            _price(row.get("price"), "price"),
            _units(row.get("size"), "size"),
            str(row.get("transaction_hash") or ""),
        )
    elif kind == "best_bid_ask":
        names = _name(row, "market"), _name(row, "asset_id")
        bid, ask = _units(row.get("best_bid"), "best_bid"), _units(row.get("best_ask"), "best_ask")
        yield BestEvent(recv_ms, _ms(row, recv_ms), *names, bid, ask)
    elif kind == "tick_size_change":
        names = _name(row, "market"), _name(row, "asset_id")
        yield TickEvent(recv_ms, _ms(row, recv_ms), *names, _price(row.get("new_tick_size"), "new_tick_size"))
    elif kind == "market_resolved":
        winner = row.get("winning_asset_id")
        yield ResolvedEvent(recv_ms, _ms(row, recv_ms), _name(row, "market"), winner if isinstance(winner, str) else "")


def _change(row: dict[str, Any], change: Any, recv_ms: int) -> ChangeEvent:
    item = _object(change)
    best = [None if item.get(name) in (None, "") else _units(item[name], name) for name in ("best_bid", "best_ask")]
    return ChangeEvent(
        recv_ms,
        _ms(row, recv_ms),
        _name(row, "market"),
        _name(item, "asset_id"),
        _side(item),
        _price(item.get("price"), "price"),
        _units(item.get("size"), "size"),
        *best,
    )


def _levels(value: object, sign: int) -> tuple[Level, ...]:
    """Levels best first, whatever the order in which they came; the channel sends the best ones last."""
    if not isinstance(value, list) or len(value) > _MOST_LEVELS:
        raise _OddError("bids, asks: expected lists of levels")
    levels: list[Level] = []
    for level in value:
        row = _object(level)
        size = _units(row.get("size"), "size")
        if size:
            levels.append((_price(row.get("price"), "price"), size))
    return tuple(sorted(levels, key=lambda one: sign * one[0]))


# RTDS and Binance.


def _rtds(event: Any, recv_ms: int) -> Iterator[Event]:
    row = _object(event)
    feed = _RTDS.get(row["topic"]) if isinstance(row.get("topic"), str) else None
    if feed is None or row.get("type") != "update":
        return
    payload = _object(row.get("payload"))
    symbol = _name(payload, "symbol").upper()
    asset = symbol.removesuffix("USDT") if feed is Feed.RTDS_BINANCE else symbol.removesuffix("/USD")
    if asset == symbol:
        raise _OddError(f"symbol: expected a pair of USD, found {symbol[:40]!r}")
    yield PriceEvent(recv_ms, _ms(payload, None), feed, asset, _positive(payload.get("value"), "value"))


def _binance(event: Any, recv_ms: int) -> Iterator[Event]:
    row = _object(event)
    data = _object(row.get("data", row))
    symbol = data.get("s")
    if not isinstance(symbol, str) or not symbol.endswith("USDT"):
        return
    asset = symbol.removesuffix("USDT")
    if data.get("e") in ("trade", "aggTrade"):
        yield PriceEvent(recv_ms, _ms(data, None, "T"), Feed.BINANCE_TRADE, asset, _positive(data.get("p"), "p"))
    elif "u" in data and "e" not in data:
        middle = (_positive(data.get("b"), "b") + _positive(data.get("a"), "a")) / 2
        yield PriceEvent(recv_ms, recv_ms, Feed.BINANCE, asset, middle)


def _archive(event: Any, recv_ms: int) -> Iterator[Event]:
    """A price of an archive: ``{"event_type": "price", "feed": .., "asset": .., "time_ms": .., "price": ..}``."""
    row = _object(event)
    if row.get("event_type") != "price":
        raise _OddError("expected an event of the type price")
    try:
        feed = Feed(str(row.get("feed")))
    except ValueError as error:
        raise _OddError("feed: expected a known one") from error
    yield PriceEvent(
        recv_ms, _ms(row, recv_ms, "time_ms"), feed, _name(row, "asset"), _positive(row.get("price"), "price")
    )


# Gamma.


def _gamma(event: Any, recv_ms: int) -> Iterator[Event]:
    """The market of an event of ``/events/slug/{slug}`` that is an Up/Down window."""
    row = _object(event)
    slug = row.get("slug")
    markets = row.get("markets")
    if not isinstance(slug, str) or _SLUG.fullmatch(slug) is None or not isinstance(markets, list):
        return
    market = next((one for one in markets if isinstance(one, dict) and one.get("slug") == slug), None)
    if market is None:
        return
    outcomes, tokens = _texts(market.get("outcomes")), _texts(market.get("clobTokenIds"))
    if not tokens:
        return  # no market yet
    if sorted(outcomes) != ["Down", "Up"] or len(tokens) != 2:
        raise _OddError(f"{slug}: expected the outcomes Up and Down with a token each")
    order = [outcomes.index("Up"), outcomes.index("Down")]
    _, _, start_ms, end_ms = parse_slug(slug)
    metadata = row.get("eventMetadata")
    known = metadata if isinstance(metadata, dict) else {}
    schedule = market.get("feeSchedule")
    yield MarketEvent(
        recv_ms,
        slug,
        _name(market, "conditionId"),
        (tokens[order[0]], tokens[order[1]]),
        start_ms,
        _time(market.get("endDate")) or end_ms,
        tick=_optional(market, "orderPriceMinTickSize", _units),
        min_size=_optional(market, "orderMinSize", _units),
        average_ms=_average_ms(market),
        delay_ms=_delay_ms(market),
        fee_rate=_optional(schedule, "rate", _number) if isinstance(schedule, dict) else None,
        strike=_optional(known, "priceToBeat", _positive),
        final=_optional(known, "finalPrice", _positive),
        winner=_winner(market, order),
        closed=market.get("closed") is True,
        accepting=market.get("acceptingOrders") is not False,
        protocol=str(market.get("version") or "v1") if not market.get("positionIds") else "v2",
    )


def _winner(market: dict[str, Any], order: list[int]) -> int | None:
    """Who won: prices of 0 and 1, or two halves, of a market that is closed and whose oracle is done."""
    if market.get("closed") is not True or market.get("umaResolutionStatus", "resolved") != "resolved":
        return None
    prices = _texts(market.get("outcomePrices"))
    if len(prices) != 2:
        return None
    up, down = (_units(prices[place], "outcomePrices") for place in order)
    return {(ONE, 0): 0, (0, ONE): 1, (ONE // 2, ONE // 2): VOID}.get((up, down))


def _average_ms(market: dict[str, Any]) -> int | None:
    config = market.get("cryptoMarketConfig")
    if not isinstance(config, dict):
        return None
    if config.get("twapEnabled") is not True:
        return 0
    seconds = config.get("twapLookbackSeconds")
    if not isinstance(seconds, int) or not 1 <= seconds <= 3_600:
        raise _OddError(f"twapLookbackSeconds: expected 1 to 3600, found {seconds!r}")
    return seconds * 1000


def _delay_ms(market: dict[str, Any]) -> int | None:
    for name in _DELAYS:
        value = market.get(name)
        if isinstance(value, int) and 0 <= value <= _MOST_DELAY_MS:
            return value
    return None


def _time(value: object) -> int | None:
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000) if isinstance(value, str) else None
    except ValueError:
        return None


def _texts(value: object) -> list[str]:
    """A list, which Gamma writes as a JSON string."""
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise _OddError("expected a list of texts")
    return [str(item) for item in items]


def _clob_market(event: Any, recv_ms: int) -> Iterator[Event]:
    """``/clob-markets/{condition}`` (recorded 2026-10-02: c, mos, mts, ao, itode, fd)."""
    row = _object(event)
    schedule = row.get("fd")
    yield RulesEvent(
        recv_ms,
        _name(row, "c"),
        tick=_optional(row, "mts", _units),
        min_size=_optional(row, "mos", _units),
        held=row.get("itode") is not False,
        delay_ms=_delay_ms(row),
        fee_rate=_optional(schedule, "r", _number) if isinstance(schedule, dict) else None,
        accepting=row.get("ao") is not False,
    )


def _klines(event: Any, recv_ms: int) -> Iterator[Event]:
    row = _object(event)
    length, rows = _INTERVALS.get(str(row.get("interval"))), row.get("rows")
    symbol = _name(row, "symbol")
    if length is None or not isinstance(rows, list) or not symbol.endswith("USDT"):
        raise _OddError("expected candles of 1s or 1m of a pair with USDT")
    candles = []
    for candle in rows[:_MOST_LEVELS]:
        if not isinstance(candle, list) or len(candle) < 5 or not isinstance(candle[0], int):
            raise _OddError("expected candles as Binance writes them")
        prices = [_positive(price, "candle") for price in candle[1:5]]
        candles.append((candle[0], prices[0], prices[1], prices[2], prices[3]))
    yield CandlesEvent(recv_ms, symbol.removesuffix("USDT"), length, tuple(candles))


# Values within bounds.


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _OddError("expected an object")
    return value


def _name(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 100:
        raise _OddError(f"{name}: expected a short text")
    return value


def _side(row: dict[str, Any]) -> bool:
    if row.get("side") not in ("BUY", "SELL"):
        raise _OddError("side: expected BUY or SELL")
    return bool(row["side"] == "BUY")


def _ms(row: dict[str, Any], default: int | None, name: str = "timestamp") -> int:
    value = row.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LAST_MS:
        raise _OddError(f"{name}: expected UTC milliseconds, found {str(value)[:40]!r}")
    return value


def _units(value: object, name: str) -> int:
    """A decimal number of 0 or more as base units; more than six decimals are cut."""
    try:
        units = int(Decimal(str(value)) * ONE) if isinstance(value, (str, int, float)) else -1
    except (InvalidOperation, ValueError, OverflowError):
        units = -1
    if not 0 <= units <= _MOST_UNITS or isinstance(value, bool):
        raise _OddError(f"{name}: expected a decimal number, found {str(value)[:40]!r}")
    return units


def _price(value: object, name: str) -> int:
    units = _units(value, name)
    if not 0 < units < ONE:
        raise _OddError(f"{name}: expected a price between 0 and 1, found {str(value)[:40]!r}")
    return units


def _number(value: object, name: str) -> float:
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _OddError(f"{name}: expected a number, found {str(value)[:40]!r}")
    return number


def _positive(value: object, name: str) -> float:
    number = _number(value, name)
    if not 0 < number < 1e12:
        raise _OddError(f"{name}: expected a price above 0, found {str(value)[:40]!r}")
    return number


def _optional(row: dict[str, Any], name: str, read: Callable[[object, str], Any]) -> Any:
    """A value that may be missing; one that cannot be read counts as missing, as it does to the bot."""
    try:
        return None if row.get(name) is None else read(row[name], name)
    except _OddError:
        return None


_READERS: dict[str, Callable[[Any, int], Iterator[Event]]] = {
    Origin.CLOB: _clob,
    Origin.RTDS: _rtds,
    Origin.BINANCE: _binance,
    Origin.GAMMA: _gamma,
    Origin.CLOB_MARKET: _clob_market,
    Origin.KLINES: _klines,
    Origin.ARCHIVE: _archive,
}
