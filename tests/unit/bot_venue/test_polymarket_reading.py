"""The venue's JSON to our types."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polymarket.models import BalanceAllowance, ClobTrade, OrderBook

from bot.venue.polymarket import reading
from bot.venue.types import BASE_UNITS, VenueError
from ledger.values import Outcome, Side, VenueTrade

WALLET = "0x17c5185167401eD00cF5F5b2fc97D9BBfDb7D025"
OTHER = "0x00000000000000000000000000000000DeaDBeef"
CONDITION = "0x" + "11" * 32
SLUG = "btc-updown-5m-1792638000"
FEES = reading.FeeSchedule(r=Decimal("0.07"), e=1)


def event(**changes: Any) -> dict[str, Any]:
    """Gamma's event of one window."""
    market = {
        "slug": SLUG,
        "conditionId": CONDITION,
        "outcomes": '["Up", "Down"]',
        "outcomePrices": '["0.5", "0.5"]',
        "clobTokenIds": '["1001", "1002"]',
        "active": True,
        "closed": False,
        "acceptingOrders": True,
        **changes,
    }
    return {"eventMetadata": {"priceToBeat": 86661.68756608}, "markets": [market], "unknown": {"field": 1}}


def clob(**changes: Any) -> reading.ClobMarket:
    """The exchange's view of it."""
    payload = {"mos": 5, "mts": 0.01, "nr": False, "ao": True, "fd": {"r": 0.07, "e": 1, "to": True}, **changes}
    return reading.clob_market(CONDITION, payload)


def window(**changes: Any) -> reading.GammaWindow:
    """Gamma's view of it, which has tokens."""
    found = reading.gamma_window(SLUG, event(**changes))
    assert found is not None
    return found


def test_a_window_is_read_from_both_views() -> None:
    """Tokens and strike are Gamma's; tick, minimum and fees the exchange's, exact as decimals."""
    market = reading.market(window(), clob())
    assert (market.up_token, market.down_token, market.strike) == ("1001", "1002", Decimal("86661.68756608"))
    assert (market.tick, market.min_size, market.fee_rate) == (Decimal("0.01"), 5 * BASE_UNITS, Decimal("0.07"))
    assert market.accepting
    assert market.winner is None


def test_tokens_follow_their_outcomes_in_any_order() -> None:
    """Where the venue names Down first, its token is the first one."""
    market = reading.market(window(outcomes='["Down", "Up"]'), clob())
    assert (market.token(Outcome.UP), market.token(Outcome.DOWN)) == ("1002", "1001")


@pytest.mark.parametrize(
    ("gamma", "exchange"),
    [({"closed": True}, {}), ({"active": False}, {}), ({"acceptingOrders": False}, {}), ({}, {"ao": False})],
)
def test_orders_are_accepted_only_where_everything_says_so(gamma: dict[str, Any], exchange: dict[str, Any]) -> None:
    """One view that says no is enough."""
    assert not reading.market(window(**gamma), clob(**exchange)).accepting


@pytest.mark.parametrize(
    ("closed", "prices", "winner"),
    [
        (True, '["1", "0"]', Outcome.UP),
        (True, '["0", "1"]', Outcome.DOWN),
        (False, '["1", "0"]', None),
        (True, '["0.9995", "0.0005"]', None),
        (True, '["0.5", "0.5"]', None),
        (True, "[]", None),
    ],
)
def test_a_winner_needs_a_closed_market_and_exact_prices(closed: bool, prices: str, winner: Outcome | None) -> None:
    """A last price near 1 is no resolution."""
    assert reading.market(window(closed=closed, outcomePrices=prices), clob()).winner is winner


def test_a_market_without_tokens_is_not_there_yet() -> None:
    """Gamma may show a market before the exchange made its tokens."""
    assert reading.gamma_window(SLUG, event(clobTokenIds="[]")) is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (event(outcomes='["Yes", "No"]'), "Up and Down"),
        (event(slug="another"), "found \\['another'\\]"),
        (event(outcomes="not json"), "markets"),
        ({}, "markets"),
        ([], SLUG),
    ],
)
def test_another_form_is_a_venue_error(payload: Any, message: str) -> None:
    """What is no Up/Down market of this slug raises with what was found."""
    with pytest.raises(VenueError, match=message):
        reading.gamma_window(SLUG, payload)


def test_no_fee_schedule_means_no_fee() -> None:
    """A market without fd is free."""
    assert clob(fd=None).fees.fee(Decimal("0.5"), 100 * BASE_UNITS) == 0


def test_the_fee_at_even_odds_is_the_documented_one() -> None:
    """At a price of 0.5 a share costs 1.75 cents (venue.md 2.3)."""
    assert FEES.fee(Decimal("0.5"), BASE_UNITS) == 17_500


@given(st.integers(1, 99), st.integers(0, 10**12))
def test_fees_are_symmetric_bounded_and_have_5_decimals(cents: int, size: int) -> None:
    """A fee is the same at p and 1 - p, at most 1.75 % of the shares, and a multiple of 0.00001 pUSD."""
    price = Decimal(cents) / 100
    fee = FEES.fee(price, size)
    assert fee == FEES.fee(1 - price, size)
    assert fee % 10 == 0
    assert 0 <= fee <= size * Decimal("0.0175") + 5


def trade(**changes: Any) -> ClobTrade:
    """A trade as the venue writes it."""
    return ClobTrade.parse_response(
        {
            "id": "t1",
            "market": CONDITION,
            "asset_id": "1001",
            "owner": "their-key",
            "maker_address": OTHER,
            "taker_order_id": "0xtaker",
            "side": "BUY",
            "trader_side": "MAKER",
            "price": "0.52",
            "size": "10",
            "outcome": "Up",
            "status": "TRADE_STATUS_CONFIRMED",
            "fee_rate_bps": "1000",
            "bucket_index": 0,
            "maker_orders": [
                maker("0xa", OTHER, "their-key"),
                maker("0xb", WALLET.lower(), "x"),
                maker("0xc", OTHER, "our-key"),
            ],
            "match_time": "1795465796",
            "last_update": "1795465796",
            **changes,
        }
    )


def maker(order_id: str, address: str, owner: str) -> dict[str, Any]:
    """One maker of a trade: it sold Down at 0.48."""
    row = {"order_id": order_id, "maker_address": address, "owner": owner, "asset_id": "1002", "side": "BUY"}
    return row | {"price": "0.48", "matched_amount": "2.5", "outcome": "Down", "fee_rate_bps": "0"}


def test_a_trade_gives_a_row_for_each_maker_order_of_ours() -> None:
    """As makers we have our own price, token and size, pay no fee, and others' orders in the trade are not ours."""
    rows = reading.trades(trade(), WALLET, "our-key", FEES)
    assert rows == [
        VenueTrade(
            "t1", order_id, "1002", CONDITION, Side.BUY, Decimal("0.48"), 2_500_000, 0, "CONFIRMED", 1_795_465_796_000
        )
        for order_id in ("0xb", "0xc")
    ]


def test_as_takers_we_pay_the_fee_of_the_schedule() -> None:
    """The taker's row has the trade's own price and size, and the computed fee, not the legacy rate's."""
    (row,) = reading.trades(trade(trader_side="TAKER", maker_orders=[]), WALLET, "our-key", FEES)
    assert (row.order_id, row.price, row.size, row.fee) == ("0xtaker", Decimal("0.52"), 10 * BASE_UNITS, 174_720)


def test_books_come_best_first() -> None:
    """The venue sends the best levels last; ours are first."""
    levels = {"bids": [("0.40", "5"), ("0.48", "47")], "asks": [("0.60", "1.25"), ("0.52", "48")]}
    payload = {side: [{"price": price, "size": size} for price, size in rows] for side, rows in levels.items()}
    payload |= {"market": CONDITION, "asset_id": "1001", "timestamp": "1795465796123", "hash": "", "neg_risk": False}  # type: ignore[dict-item]  # JSON.
    payload |= {"min_order_size": "5", "tick_size": "0.01"}  # type: ignore[dict-item]  # JSON.
    book = reading.book(OrderBook.parse_response(json.loads(json.dumps(payload))))
    assert [level.price for level in book.bids] == [Decimal("0.48"), Decimal("0.40")]
    assert [(level.price, level.size) for level in book.asks] == [
        (Decimal("0.52"), 48_000_000),
        (Decimal("0.60"), 1_250_000),
    ]
    assert book.at_ms == 1_795_465_796_123


def test_an_unlimited_allowance_fits_a_database() -> None:
    """2^256 - 1 becomes the largest 64-bit number; an exchange without an allowance has none."""
    model = BalanceAllowance.parse_response({"balance": "10000000", "allowances": {OTHER: str(2**256 - 1)}})
    assert reading.account(model, WALLET, OTHER.upper().replace("0X", "0x")).allowance == 2**63 - 1
    assert reading.account(model, WALLET, WALLET).allowance == 0


@pytest.mark.parametrize(
    ("payload", "ms"), [(1_795_465_796, 1_795_465_796_500), (1_795_465_796_123, 1_795_465_796_123)]
)
def test_whole_seconds_are_taken_in_their_middle(payload: int, ms: int) -> None:
    """The venue's clock has seconds: the middle is right to 500 ms either way."""
    assert reading.time_ms(payload) == ms


@pytest.mark.parametrize("payload", ["1795465796", None, True, 1.5])
def test_a_clock_of_another_form_is_a_venue_error(payload: Any) -> None:
    """No number, no time."""
    with pytest.raises(VenueError, match="whole number"):
        reading.time_ms(payload)
