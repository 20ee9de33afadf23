"""Books out of a stream and out of REST; what is told between polls, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

import pytest

from bot.market_data.books import ASKED_MS, QUIET_MS, STREAMED_MS, Books
from bot.market_data.debounce import MOST_REST_S, PriceTrigger
from bot.market_data.market_channel import Best, BookEvent, Change, Doubt, Resolved, TickChange, parse_books
from bot.venue.decoding import Origin, Skips
from bot.venue.types import Book, Level
from tests.unit.bot.making import SHARE, VirtualLoop, run

BOOK = Book("1", (Level(Decimal("0.58"), 4 * SHARE),), (Level(Decimal("0.60"), 3 * SHARE),), 1_000)


class Streamed:
    """Books on a clock of its own, with one book that the stream brought."""

    def __init__(self) -> None:
        self.now = 50_000
        self.renewed = 0
        self.books = Books(lambda: self.now, self.renew)
        self.books.take(BOOK)

    def renew(self) -> None:
        self.renewed += 1


def test_changes_make_the_book_that_the_venue_has() -> None:
    """Sizes are absolute, 0 removes, best levels come first, and what is older than the book changes nothing."""
    kept = Streamed()
    for is_bid, price, size, at_ms in (
        (True, "0.59", 7, 1_001),
        (False, "0.60", 0, 1_001),
        (False, "0.65", 2, 1_002),
        (False, "0.61", 9, 1_002),
        (True, "0.57", 1, 999),
    ):
        kept.books.change(Change("1", is_bid, Decimal(price), size, at_ms))
    assert kept.books["1"] == Book(
        "1",
        (Level(Decimal("0.59"), 7), Level(Decimal("0.58"), 4 * SHARE)),
        (Level(Decimal("0.61"), 9), Level(Decimal("0.65"), 2)),
        1_002,
    )
    assert not kept.books.change(Change("unknown", True, Decimal("0.5"), 1, 2_000))


def test_a_quiet_book_is_confirmed_and_not_stale() -> None:
    """After a silence REST is asked; the same book again means that it was quiet, and it stays the stream's."""
    kept = Streamed()
    assert kept.books.missing(["1", "2"]) == ["2"]
    kept.now += QUIET_MS + 1
    assert kept.books.missing(["1"]) == ["1"]
    kept.books.answer({"1": replace(BOOK, at_ms=9_000)})
    assert kept.books.missing(["1"]) == []
    assert kept.books.told_ms("1") == kept.now, "another witness told the same"
    kept.now += STREAMED_MS + 1
    assert "1" not in kept.books, "neither stream nor REST spoke of it for long"


def test_a_stream_that_lost_something_is_renewed() -> None:
    """REST shows another book twice in a row while the stream is silent: its connection is replaced, and a gap counted."""
    kept = Streamed()
    for at_ms, price in ((9_000, "0.70"), (19_000, "0.71")):
        kept.now += QUIET_MS + 1
        asks = (Level(Decimal(price), SHARE),)
        kept.books.answer({"1": replace(BOOK, asks=asks, at_ms=at_ms)})
        assert kept.books["1"].asks == asks
    assert (kept.renewed, kept.books.gaps) == (1, 1)


def test_after_a_break_nothing_of_the_stream_is_relied_upon() -> None:
    """Nothing is replayed: changes are dropped and REST is asked, until the stream sends a whole book again."""
    kept = Streamed()
    kept.books.lost()
    assert not kept.books.change(Change("1", True, Decimal("0.59"), 1, 2_000))
    assert kept.books.missing(["1"]) == ["1"]
    kept.books.answer({"1": BOOK})
    assert kept.books["1"] == BOOK
    kept.now += ASKED_MS + 1
    assert "1" not in kept.books
    kept.books.take(replace(BOOK, at_ms=3_000))
    assert kept.books.missing(["1"]) == []


def test_the_channels_messages_are_read() -> None:
    """Each kind of event, alone or in a list; trades and PONG are nothing."""
    book = {
        "event_type": "book",
        "asset_id": "1",
        "timestamp": "1000",
        "bids": [{"price": "0.58", "size": "4"}],
        "asks": [{"price": "0.60", "size": "3"}],
    }
    change = {"asset_id": "1", "price": "0.59", "size": "1.5", "side": "BUY"}
    events = [
        book,
        {"event_type": "price_change", "timestamp": "1001", "price_changes": [change]},
        {"event_type": "tick_size_change", "asset_id": "1", "new_tick_size": "0.001"},
        {"event_type": "market_resolved", "market": "0xc"},
        {"event_type": "last_trade_price"},
    ]
    assert parse_books(json.dumps(events)) == [
        BOOK,
        Change("1", True, Decimal("0.59"), 1_500_000, 1_001),
        TickChange("1", Decimal("0.001")),
        Resolved("0xc"),
    ]
    assert parse_books("PONG") == []


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "7",
        '{"event_type": "book"}',
        '{"event_type": "price_change", "timestamp": "1", "price_changes": {"asset_id": "1", "side": "BUY"}}',
        '{"event_type": "book", "bids": [], "asks": [], "timestamp": "1"}',
        '{"event_type": "tick_size_change", "asset_id": "1", "new_tick_size": "NaN"}',
        '{"event_type": "tick_size_change", "asset_id": "1", "new_tick_size": "0.03"}',
    ],
)
def test_a_malformed_message_is_an_error_in_words(bad: str) -> None:
    """What cannot be read raises ValueError and nothing else, so that one bad message costs one message."""
    with pytest.raises(ValueError, match=r"expected|Expecting|NaN|price"):
        parse_books(bad)


def level(price: object, size: object = "5") -> dict[str, object]:
    """A level as the channel writes it."""
    return {"price": price, "size": size}


def whole(token: str, **changes: object) -> dict[str, object]:
    """A book as live's first frame holds it."""
    return {
        "event_type": "book",
        "market": "0x",
        "asset_id": token,
        "timestamp": "1790877850652",
        "hash": "bc87",
        "bids": [level("0.5")],
        "asks": [level("0.99", "2856.23")],
        "tick_size": "0.01",
        "last_trade_price": "0.990",
        **changes,
    }


@pytest.mark.parametrize(
    ("odd", "rest"),
    [
        ("x", []),
        (None, []),
        ([whole("2")], []),
        (whole("2", bids=None), [Doubt("2")]),
        (whole("2", bids=[level("1.5")]), [Doubt("2")]),
        (whole("2", bids=[level("0.5", "1e1000000")]), [Doubt("2")]),
        (whole("2", bids=[level("NaN")]), [Doubt("2")]),
        (whole("2", bids=[level(["0.5"])]), [Doubt("2")]),
        (whole("2", timestamp=[]), [Doubt("2")]),
        (whole("2", timestamp="9" * 50), [Doubt("2")]),
        (whole("2", asset_id={}), []),
        (whole("2", asset_id="\ud800"), []),
        (whole("2", bids="DEEP"), [Doubt("2")]),
    ],
)
def test_one_odd_book_of_the_first_frame_costs_itself(odd: object, rest: list[BookEvent]) -> None:
    """Live's first frame is one list of all books: the others are read, and the token of the odd one is in doubt."""
    skips = Skips()
    frame = json.dumps([whole("1"), odd, whole("3")]).replace('"DEEP"', "[" * 500 + "]" * 500)
    first, *between, last = parse_books(frame, skips)
    assert between == rest
    assert isinstance(first, Book)
    assert isinstance(last, Book)
    assert (first.token_id, last.token_id) == ("1", "3")
    assert skips.total(Origin.MARKET) == 1


def test_a_level_that_nobody_can_trade_at_is_left_out() -> None:
    """A level at 0 or 1 is no reason to do without the book."""
    (book,) = parse_books(json.dumps([whole("1", bids=[level("0"), level("0.4")], asks=[level("1"), level("0.6")])]))
    assert isinstance(book, Book)
    assert [side[0].price for side in (book.bids, book.asks)] == [Decimal("0.4"), Decimal("0.6")]


def frame_of(*changes: Mapping[str, object]) -> str:
    """A frame of changes."""
    return json.dumps({"event_type": "price_change", "timestamp": "1001", "price_changes": list(changes)})


def test_one_odd_change_costs_itself_and_puts_its_token_in_doubt() -> None:
    """What the other changes of the frame say is taken."""
    good = {"asset_id": "1", "price": "0.59", "size": "1.5", "side": "BUY", "best_bid": "0.59", "best_ask": "1"}
    odd = {"asset_id": "2", "price": "0.59", "size": [], "side": "BUY"}
    assert parse_books(frame_of(odd, {"asset_id": 7}, good)) == [
        Doubt("2"),
        Change("1", True, Decimal("0.59"), 1_500_000, 1_001),
        Best("1", ((Decimal("0.59"), None),), 1_001),
    ]


def test_a_book_that_disagrees_with_its_frame_is_read_anew_and_not_traded_on_until_then() -> None:
    """A change was lost: the frame's own best prices say so, and REST is asked at once."""
    kept = Streamed()
    kept.books.change(Change("1", True, Decimal("0.57"), SHARE, 1_001))
    assert kept.books.check(Best("1", ((Decimal("0.58"), Decimal("0.60")),), 9_000))
    assert not kept.books.check(Best("1", ((Decimal("0.58"), Decimal("0.61")), (Decimal("0.58"), None)), 1_001))
    assert "1" not in kept.books
    assert kept.books.reread.is_set()
    assert kept.books.in_doubt() == kept.books.missing(["1"]) == ["1"]
    kept.books.change(Change("1", True, Decimal("0.59"), SHARE, 1_005))
    kept.books.answer({"1": replace(BOOK, at_ms=1_004)})
    assert "1" not in kept.books, "the answer is older than what the stream told since"
    kept.books.answer({"1": replace(BOOK, at_ms=1_005)})
    assert kept.books["1"].asks == BOOK.asks
    assert not kept.books.in_doubt()
    assert kept.books.change(Change("1", True, Decimal("0.59"), SHARE, 1_006)), "the stream goes on from the answer"


def test_a_frame_that_an_answer_overtook_says_nothing_of_the_book() -> None:
    """REST told of a later moment: what the frame says of its own is no contradiction."""
    kept = Streamed()
    assert kept.books.check(Best("1", ((Decimal("0.01"), Decimal("0.02")),), BOOK.at_ms - 1))
    assert "1" in kept.books


def test_a_doubt_ends_though_the_answers_never_catch_up() -> None:
    """REST's times may lag for good: the third answer is taken, as one of REST, and the connection is renewed."""
    kept = Streamed()
    kept.books.doubt("1")
    for _ in range(3):
        assert "1" not in kept.books
        kept.books.answer({"1": replace(BOOK, at_ms=1)})
    assert "1" in kept.books
    assert kept.renewed == 1


@pytest.mark.parametrize("streamed", [True, False])
def test_a_crossed_book_is_not_traded_on(streamed: bool) -> None:
    """Be it the stream's or an answer of REST: a bid at or above the ask is no market."""
    kept = Streamed()
    crossed = replace(BOOK, bids=(Level(Decimal("0.60"), 1),), at_ms=2_000)
    if streamed:
        kept.books.take(crossed)
    else:
        kept.books.lost()
        kept.books.answer({"1": crossed})
    assert "1" not in kept.books
    assert kept.books.reread.is_set()
    kept.books.answer({"1": replace(BOOK, at_ms=3_000)})
    assert kept.books["1"].bids == BOOK.bids


def test_best_prices_that_never_agree_are_not_believed_for_ever() -> None:
    """Six new books in a row disagree with the frames: then it is the frames' fields that mean something else."""
    kept = Streamed()
    odd = Best("1", ((Decimal("0.01"), Decimal("0.02")),), 9_000)
    for at_ms in range(2_000, 2_005):
        assert not kept.books.check(odd)
        kept.books.answer({"1": replace(BOOK, at_ms=at_ms)})
    assert kept.books.check(odd)
    assert "1" in kept.books
    assert kept.books.check(Best("1", ((Decimal("0.58"), Decimal("0.60")),), 9_000))
    assert not kept.books.check(odd), "once they agreed they are believed again"


def test_a_time_far_ahead_does_not_freeze_a_book() -> None:
    """One frame with an odd time made every later change and answer an old one."""
    kept = Streamed()
    kept.books.take(replace(BOOK, at_ms=10**14))
    kept.now += STREAMED_MS + 1
    assert "1" not in kept.books
    kept.books.answer({"1": replace(BOOK, at_ms=3_000)})
    assert "1" in kept.books


@pytest.mark.parametrize("flushed", [True, False])
def test_each_news_is_told_at_once_where_telling_takes_no_time(flushed: bool) -> None:
    """News is told by a flush or in the next turn, what one read brought together, and no telling makes the next one wait."""
    told: list[tuple[float, set[str]]] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        news = PriceTrigger()
        news.note("BTC")
        news.follow(lambda assets: told.append((loop.time(), set(assets))))
        for number in range(3):
            for asset in ("BTC", "ETH", "BTC"):
                news.note(asset)
            assert len(told) == number
            if flushed:
                news.flush()
            else:
                await asyncio.sleep(0)
            assert told[number:] == [(0.0, {"BTC", "ETH"})]
        news.flush()
        news.note("BTC")
        news.follow(None)
        await asyncio.sleep(1)
        assert len(told) == 3

    run(work())


def test_a_slow_telling_rests_as_long_as_it_took_and_loses_no_news() -> None:
    """Prices that come faster than they are evaluated wait together, as long as the last evaluation took, and never for long."""
    told: list[tuple[float, set[str]]] = []
    takes_s = 0.02

    async def work() -> None:
        nonlocal takes_s
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        news = PriceTrigger()

        def tell(assets: Iterable[str]) -> None:
            told.append((round(loop.time(), 4), set(assets)))
            loop.advance(takes_s)

        news.follow(tell)
        news.note("BTC")
        news.flush()
        for asset in ("BTC", "ETH", "BTC"):
            news.note(asset)
            news.flush()
            await asyncio.sleep(0.003)
        assert told == [(0.0, {"BTC"})]
        await asyncio.sleep(0.02)
        assert told[1:] == [(0.04, {"BTC", "ETH"})]
        news.note("ETH")
        await asyncio.sleep(1)
        news.note("BTC")
        news.flush()
        assert [assets for _, assets in told[2:]] == [{"ETH"}, {"BTC"}]
        takes_s = 4.0  # the disk hung
        await asyncio.sleep(1)
        began = loop.time()
        for _ in range(2):
            news.note("BTC")
            news.flush()
        await asyncio.sleep(1)
        assert [at for at, _ in told[4:]] == [round(began, 4), round(began + takes_s + MOST_REST_S, 4)]

    run(work())
