"""What the page and ``python -m paper show`` show: prices, books, flow, users' orders, faults."""

from __future__ import annotations

from collections.abc import Iterable

from paper.engine.exchange import Exchange
from paper.engine.market_maker import HOUSE
from paper.engine.markets import Market
from paper.engine.prices import DECIMALS
from paper.money import format_units
from paper.windows import ASSETS, OUTCOMES

__all__ = ["view"]

_BOOKS, _LEVELS, _ORDERS, _REQUESTS = 60, 3, 100, 15


def view(exchange: Exchange) -> dict[str, object]:
    """Return the state as people want to see it; amounts and prices as decimal texts."""
    now = exchange.clock()
    exchange.faults.drop_ended(now)
    markets = sorted(exchange.markets.by_condition.values(), key=lambda one: (one.window.end_ms, one.window.slug))
    open_now = [one for one in markets if one.winner is None and one.window.start_ms <= now]
    return {
        "now_ms": now,
        "shown_ms": exchange.shown_ms(),
        "seed": exchange.settings.seed,
        "tape": list(exchange.settings.tape),
        "prices": [
            {
                "asset": asset,
                "lead": f"{exchange.feed.lead[asset]:.{DECIMALS[asset]}f}",
                "settlement": f"{exchange.feed.settlement[asset]:.{DECIMALS[asset] + 2}f}",
            }
            for asset in ASSETS
        ],
        "books": [_book(exchange, one, now) for one in open_now[:_BOOKS]],
        "flow": _aged(exchange.orders.flow, now),
        "users_flow": _aged(exchange.orders.users_flow, now),
        "orders": _orders(exchange),
        "requests": exchange.record.query_dicts(
            "SELECT time_ms, method, path, status, order_id FROM requests ORDER BY seq DESC LIMIT ?", [_REQUESTS]
        ),
        "balances": [
            {
                "wallet": wallet,
                "pUSD": format_units(held.get("pUSD", 0)),
                "tokens": sum(1 for n in held.values() if n) - 1,
            }
            for wallet, held in exchange.engine.balances.items()
            if wallet not in HOUSE
        ],
        "faults": [fault.body for fault in exchange.faults.armed],
    }


def _aged(flow: Iterable[dict[str, object]], now: int) -> list[dict[str, object]]:
    return [one | {"age_s": (now - int(str(one["time_ms"]))) // 1000} for one in flow]


def _book(exchange: Exchange, market: Market, now: int) -> dict[str, object]:
    window, book = market.window, exchange.book(market)
    bids, asks = book.levels(0)
    return {
        "slug": window.slug,
        "left_s": round((window.end_ms - now) / 1000, 1),
        "reference": market.reference,
        "bids": _levels(bids),
        "asks": _levels(asks),
        "last": "" if book.last_price is None else format_units(book.last_price),
        "tick": format_units(book.tick),
        "users": sum(order.wallet not in HOUSE for order in book.orders()),
    }


def _levels(levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(format_units(price), format_units(size)) for price, size in [*levels][:_LEVELS]]


def _orders(exchange: Exchange) -> list[dict[str, object]]:
    mine = [order for order in exchange.engine.orders.values() if order.wallet not in HOUSE]
    found: list[dict[str, object]] = []
    for order in mine[-_ORDERS:]:
        market = exchange.markets.by_condition.get(order.condition_id)
        found.append(
            {
                "order_id": order.order_id,
                "wallet": order.wallet,
                "slug": market.window.slug if market is not None else "",
                "outcome": OUTCOMES[order.outcome],
                "side": order.side,
                "type": order.order_type,
                "price": format_units(order.price),
                "size": format_units(order.size),
                "filled": format_units(order.filled),
            }
        )
    return found
