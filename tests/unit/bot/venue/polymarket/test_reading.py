"""The venue's JSON to our types."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venue.decoding import Code, OddError
from bot.venue.polymarket import account_reading, reading
from bot.venue.types import BASE_UNITS, LONGEST_DELAY_MS, ProblemCode, VenueError
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
        (event(outcomes="not json"), "outcomes: expected JSON"),
        ({}, "markets"),
        ([], SLUG),
    ],
)
def test_another_form_is_a_venue_error(payload: Any, message: str) -> None:
    """What is no Up/Down market of this slug raises with what was found."""
    with pytest.raises(VenueError, match=message):
        reading.gamma_window(SLUG, payload)


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


def trade(**changes: Any) -> dict[str, Any]:
    """A trade as the venue writes it."""
    return {
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


def maker(order_id: str, address: str, owner: str) -> dict[str, Any]:
    """One maker of a trade: it sold Down at 0.48."""
    row = {"order_id": order_id, "maker_address": address, "owner": owner, "asset_id": "1002", "side": "BUY"}
    return row | {"price": "0.48", "matched_amount": "2.5", "outcome": "Down", "fee_rate_bps": "0"}


def test_a_trade_gives_a_row_for_each_maker_order_of_ours() -> None:
    """As makers we have our own price, token and size, pay no fee, and others' orders in the trade are not ours."""
    rows = account_reading.trades(trade(), WALLET, "our-key", FEES)
    assert rows == [
        VenueTrade(
            "t1", order_id, "1002", CONDITION, Side.BUY, Decimal("0.48"), 2_500_000, 0, "CONFIRMED", 1_795_465_796_000
        )
        for order_id in ("0xb", "0xc")
    ]


def test_as_takers_we_pay_the_fee_of_the_schedule() -> None:
    """The taker's row has the trade's own price and size, and the computed fee, not the legacy rate's."""
    (row,) = account_reading.trades(trade(trader_side="TAKER", maker_orders=[]), WALLET, "our-key", FEES)
    assert (row.order_id, row.price, row.size, row.fee) == ("0xtaker", Decimal("0.52"), 10 * BASE_UNITS, 174_720)


def made(price: str, size: str, asset: str = "1001", side: str = "SELL") -> dict[str, Any]:
    """One maker of a trade of another's."""
    return maker("0xa", OTHER, "their-key") | {
        "price": price,
        "matched_amount": size,
        "asset_id": asset,
        "side": side,
    }


@pytest.mark.parametrize("word", ["taker", None, "", "PARTY"])
@pytest.mark.parametrize("ours", [{"owner": "our-key"}, {"maker_address": WALLET.lower()}, {}])
def test_an_odd_word_for_our_side_loses_no_fill(word: str | None, ours: dict[str, str]) -> None:
    """Where it does not say that we took or made, owner and wallet do. Failed before: the fill was left out, in silence."""
    rows = account_reading.trades(trade(trader_side=word, maker_orders=[], **ours), WALLET, "our-key", FEES)
    assert [found.order_id for found in rows] == (["0xtaker"] if ours or word == "taker" else [])


@pytest.mark.parametrize(
    ("makers", "size", "value", "fee"),
    [
        # Recorded: a taker at 0.401 whose makers sold at 0.363.
        ([made("0.363", "1070.54")], "1070.54", 388_606_020, FEES.fee(Decimal("0.363"), 1_070_540_000)),
        # Several makers at several prices; one bids for the other outcome: the two mint a set.
        (
            [made("0.50", "4"), made("0.52", "4"), made("0.45", "2", "1002", "BUY")],
            "10",
            2_000_000 + 2_080_000 + 1_100_000,
            FEES.fee(Decimal("0.50"), 4_000_000)
            + FEES.fee(Decimal("0.52"), 4_000_000)
            + FEES.fee(Decimal("0.55"), 2_000_000),
        ),
        # Amounts that were cut to base units: they may be one short each.
        (
            [made("0.30", "3.333333"), made("0.31", "6.666666")],
            "10",
            999_999 + 2_066_666,
            FEES.fee(Decimal("0.30"), 3_333_333) + FEES.fee(Decimal("0.31"), 6_666_666),
        ),
        # Makers that are not all of the trade: its own price is all that is known.
        ([made("0.50", "4")], "10", None, FEES.fee(Decimal("0.52"), 10_000_000)),
        ([], "10", None, FEES.fee(Decimal("0.52"), 10_000_000)),
    ],
)
def test_what_a_taker_paid_is_what_its_makers_say(
    makers: list[dict[str, Any]], size: str, value: int | None, fee: int
) -> None:
    """One trade may have several makers at several prices; the price of the trade is not what was paid."""
    (row,) = account_reading.trades(trade(trader_side="TAKER", size=size, maker_orders=makers), WALLET, "our-key", FEES)
    assert (row.value, row.fee) == (value, fee)
    assert row.worth == (value if value is not None else 5_200_000)


@pytest.mark.parametrize(
    ("changes", "void"),
    [
        ({"closed": True, "outcomePrices": '["0.5", "0.5"]'}, True),
        ({"closed": True, "outcomePrices": '["0.5", "0.5"]', "umaResolutionStatus": "resolved"}, True),
        ({"closed": True, "outcomePrices": '["0.5", "0.5"]', "umaResolutionStatus": "proposed"}, False),
        ({"closed": True, "outcomePrices": '["0.5", "0.5"]', "umaResolutionStatus": ""}, False),
        ({"closed": False, "outcomePrices": '["0.5", "0.5"]'}, False),
        ({"closed": True, "outcomePrices": '["0.51", "0.49"]'}, False),
        ({"closed": True, "outcomePrices": '["0.5"]'}, False),
        ({"closed": True, "outcomePrices": '["0", "1"]'}, False),
    ],
)
def test_a_void_market_has_no_winner_and_says_so(changes: dict[str, Any], void: bool) -> None:
    """Closed, resolved, and half a pUSD for each share; first and last prices of 0.5 prove nothing."""
    found = reading.market(window(**changes), clob())
    assert found.is_void is void
    if void:
        assert found.winner is None


def test_books_come_best_first() -> None:
    """The venue sends the best levels last; ours are first."""
    levels = {"bids": [("0.40", "5"), ("0.48", "47")], "asks": [("0.60", "1.25"), ("0.52", "48")]}
    payload = {side: [{"price": price, "size": size} for price, size in rows] for side, rows in levels.items()}
    payload |= {"market": CONDITION, "asset_id": "1001", "timestamp": "1795465796123", "hash": "", "neg_risk": False}  # type: ignore[dict-item]  # JSON.
    payload |= {"min_order_size": "5", "tick_size": "0.01"}  # type: ignore[dict-item]  # JSON.
    book = reading.book(json.loads(json.dumps(payload)))
    assert [level.price for level in book.bids] == [Decimal("0.48"), Decimal("0.40")]
    assert [(level.price, level.size) for level in book.asks] == [
        (Decimal("0.52"), 48_000_000),
        (Decimal("0.60"), 1_250_000),
    ]
    assert book.at_ms == 1_795_465_796_123


def test_an_unlimited_allowance_fits_a_database() -> None:
    """2^256 - 1 becomes the largest 64-bit number; an exchange without an allowance has none."""
    model = {"balance": "10000000", "allowances": {OTHER: str(2**256 - 1)}}
    assert account_reading.account(model, WALLET, OTHER.upper().replace("0X", "0x")).allowance == 2**63 - 1
    assert account_reading.account(model, WALLET, WALLET).allowance == 0


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


HUGE = "1e1000000"
DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "prices", [["", ""], '["", ""]', ["NaN", "0"], [HUGE, "0"], DEEP, "[" * 5000, {}, [None, None], "x"]
)
def test_prices_that_cannot_be_read_only_mean_that_nobody_won_yet(prices: Any) -> None:
    """Two empty texts in outcomePrices ended every bot, again and again: the market is known all the same."""
    told: list[OddError] = []
    found = reading.gamma_window(SLUG, event(closed=True, outcomePrices=prices), told.append)
    assert found is not None
    assert reading.market(found, clob()).winner is None
    assert len(told) == 1


@pytest.mark.parametrize("strike", [HUGE, "NaN", -1, 0, [], "x", 1e300])
def test_a_strike_that_cannot_be_read_is_not_there_yet(strike: Any) -> None:
    """Nothing is decided without one, and it is asked for again."""
    told: list[OddError] = []
    found = reading.gamma_window(SLUG, event() | {"eventMetadata": {"priceToBeat": strike}}, told.append)
    assert found is not None
    assert found.strike is None
    assert len(told) == 1


@pytest.mark.parametrize(
    ("gamma", "exchange"),
    [
        ({"conditionId": 7}, {}),
        ({"conditionId": "\ud800"}, {}),
        ({"clobTokenIds": ["1001", ["1002"]]}, {}),
        ({"clobTokenIds": ["1001", "1001"]}, {}),
        ({"outcomes": ["Up", "Up"]}, {}),
        ({"cryptoMarketConfig": {"twapEnabled": True, "twapLookbackSeconds": HUGE}}, {}),
        ({"cryptoMarketConfig": {"twapEnabled": "yes"}}, {}),
        ({"cryptoMarketConfig": []}, {}),
        ({}, {"mos": HUGE}),
        ({}, {"mos": None}),
        ({}, {"mts": 0.03}),
        ({}, {"mts": "NaN"}),
        ({}, {"ao": "true"}),
        ({}, {"fd": {"r": HUGE, "e": 1}}),
        ({}, {"fd": {"r": 0.07, "e": 1.5}}),
        ({}, {"fd": {"r": 0.07, "e": 10**9}}),
        ({}, {"fd": {"r": 0.07, "e": 1, "to": False}}),
        ({}, {"fd": []}),
    ],
)
def test_a_market_of_unknown_shape_is_an_odd_one_and_nothing_else(
    gamma: dict[str, Any], exchange: dict[str, Any]
) -> None:
    """What trading depends on is read or it is an OddError, which every caller expects; never a traceback."""
    with pytest.raises(OddError):
        reading.market(window(**gamma), clob(**exchange))


@pytest.mark.parametrize(
    ("gamma", "exchange", "code"),
    [
        ({}, {"fd": None}, ProblemCode.NO_FEES),
        ({"version": "v2"}, {}, ProblemCode.PROTOCOL),
        ({"version": ["v1"]}, {}, ProblemCode.PROTOCOL),
        ({"positionIds": ["7"]}, {}, ProblemCode.PROTOCOL),
        ({}, {"v": "v2"}, ProblemCode.PROTOCOL),
    ],
)
def test_what_this_release_cannot_trade_has_a_problem(
    gamma: dict[str, Any], exchange: dict[str, Any], code: ProblemCode
) -> None:
    """A market without a fee schedule, or of protocol V2, is read and says why nothing of it is bought."""
    found = reading.market(window(**gamma), clob(**exchange))
    assert found.problem is not None
    assert found.problem.code is code
    assert reading.market(window(version="v1"), clob(v="v1")).problem is None


@pytest.mark.parametrize(
    ("config", "average_ms"),
    [
        (None, None),
        ({"twapEnabled": True, "twapLookbackSeconds": 60}, 60_000),
        ({"twapEnabled": True, "twapLookbackSeconds": 30}, 30_000),
        ({"twapEnabled": False, "twapLookbackSeconds": 0}, 1_000),
    ],
)
def test_the_length_of_the_settlement_average_is_the_markets(config: object, average_ms: int | None) -> None:
    """Read, no constant: cryptoMarketConfig has it (60 s for 5m as recorded, 30 s seen)."""
    assert reading.market(window(cryptoMarketConfig=config), clob()).average_ms == average_ms


def test_the_delay_of_takers_is_the_markets() -> None:
    """In ms where the market says so; the longest that was recorded where it only says that there is one."""
    assert reading.market(window(), clob(itode=True)).delay_ms == LONGEST_DELAY_MS
    assert reading.market(window(), clob(itode=False)).delay_ms == 0
    assert reading.market(window(takerDelayMs=150), clob(itode=True)).delay_ms == 150


def test_one_odd_row_of_a_list_costs_itself() -> None:
    """Of positions and of books; what is odd is told."""
    told: list[OddError] = []
    row = {"asset": "1001", "conditionId": CONDITION, "size": 2.5, "slug": SLUG}
    rows = [row, row | {"size": HUGE}, None, row | {"asset": ["1001"]}, row | {"size": "0"}]
    assert [(holding.token_id, holding.size) for holding in account_reading.holdings(rows, told.append)] == [
        ("1001", 2_500_000)
    ]
    assert [error.code for error in told] == [Code.NUMBER, Code.SHAPE, Code.SHAPE]
    book = {"asset_id": "1", "timestamp": "1000", "bids": [{"price": "0.4", "size": "5"}], "asks": []}
    assert list(reading.books([book, book | {"asset_id": "2", "bids": None}, "x"], told.append)) == ["1"]
    assert len(told) == 5


@pytest.mark.parametrize(
    "changes",
    [{"size": HUGE}, {"price": "NaN"}, {"side": []}, {"match_time": {}}, {"maker_orders": [None]}, {"id": "\x00"}],
)
def test_an_odd_trade_is_an_odd_one(changes: dict[str, Any]) -> None:
    """The caller decides whether the others of the list are enough."""
    with pytest.raises(OddError):
        account_reading.trades(trade(trader_side="TAKER", **changes), WALLET, "our-key", FEES)


def test_an_order_is_read_with_what_the_venue_really_sends() -> None:
    """A status may be a sentence; times and lists beside are nobody's concern."""
    payload = {
        "id": "0x1",
        "asset_id": "1001",
        "market": CONDITION,
        "side": "BUY",
        "price": "0.52",
        "original_size": "10",
        "size_matched": "2.5",
        "status": "ORDER_STATUS_CANCELED_order couldn't be fully filled",
        "associate_trades": None,
        "created_at": "1782753357",
    }
    found = account_reading.order(payload)
    assert (found.size, found.matched, found.open) == (10_000_000, 2_500_000, False)
    odd_ones: list[dict[str, Any]] = [{"size_matched": HUGE}, {"status": []}, {"side": {}}, {"id": None}]
    for odd in odd_ones:
        with pytest.raises(OddError):
            account_reading.order(payload | odd)


@pytest.mark.parametrize(
    ("shares", "price", "paid"),
    [(112_359_545, "0.89", 769_990), (539_000_000, "0.99", 373_520), (5_149_310, "0.971", 10_140)],
)
def test_fees_are_cut_as_on_chain(shares: int, price: str, paid: int) -> None:
    """OrderFilled events of September and October 2026: the sixth decimal is cut, not rounded."""
    assert FEES.fee(Decimal(price), shares) == paid
