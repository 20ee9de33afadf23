"""A market that cannot be traded or read costs itself: it is named, nothing of it is bought, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.market_data.markets import PROBLEM_RETRY_MS, RETRY_MS, retry_after_ms
from bot.slots import parse_slug
from bot.strategy.api import Decision, Inputs
from bot.venue.decoding import Code, OddError
from bot.venue.types import Book, Level, Market, MarketProblem, ProblemCode, VenueError
from bus import Role, read_status
from tests.unit.bot.making import END_MS, MARKET, SHARE, START_MS, WINDOW, run
from tests.unit.bot.running import Running

V2 = MarketProblem(ProblemCode.PROTOCOL, "the market x is of protocol v2, which this release does not sign")
ENTRIES = "SELECT count(*) FROM intents WHERE side = 'BUY'"
EXITS = "SELECT count(*) FROM intents WHERE side = 'SELL'"
STRATEGY = {"min_volatility": 0.001, "kelly": 1, "market_weight": 0}  # Up is worth 0.56


async def until(what: str, look: Callable[[], object], limit_s: float = 60) -> None:
    """Wait in virtual time until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while not look():
        assert loop.time() < deadline, f"waited {limit_s:g} s for: {what}"
        await asyncio.sleep(0.1)


def of_protocol_v2(slug: str) -> Market:
    """As the venue may describe a window soon."""
    return replace(MARKET, slug=slug, problem=V2)


def unreadable(slug: str) -> Market:
    """An answer about a window that cannot be read."""
    raise OddError(Code.SHAPE, f"market {slug}: fd.to", "fees for takers only", False)


@pytest.mark.parametrize(("describe", "text"), [(of_protocol_v2, "protocol v2"), (unreadable, "fees for takers only")])
def test_an_odd_market_is_named_and_not_bought_and_the_others_are(
    tmp_path: Path, describe: Callable[[str], Market], text: str
) -> None:
    """The slot says why, the poll is unhealthy and waits for the venue; once the market is an ordinary one it is bought."""
    running = Running(tmp_path, strategy=STRATEGY)
    running.venue.bids, running.venue.asks = (), (Level(Decimal("0.50"), 400 * SHARE),)
    running.venue.describe = lambda slug: describe(slug) if slug.startswith("btc") else replace(MARKET, slug=slug)

    async def work() -> None:
        async with running.instance() as me:
            await until("ETH is bought", lambda: running.count(ENTRIES) == 1)
            await asyncio.sleep(12)
            assert running.count(ENTRIES) == 1, "and BTC is not"
            status = read_status(running.bus).body
            assert text in next(slot.reason for slot in status.slots if slot.slot == "BTC-5m")
            document = running.document(me)
            assert document.role is Role.ACTIVE
            assert text in (document.why_not or "")
            assert not document.healthy
            assert document.active_healthy > 1, "a candidate's code is not to blame: it is confirmed"
            running.venue.describe = lambda slug: replace(MARKET, slug=slug)
            await until("BTC is bought", lambda: running.count(ENTRIES) == 2)
            await until("healthy", lambda: running.document(me).healthy)

    run(work())
    assert running.failures == []


@pytest.mark.parametrize("describe", [of_protocol_v2, unreadable])
def test_what_is_held_of_an_odd_market_is_sold(tmp_path: Path, describe: Callable[[str], Market]) -> None:
    """A market that was bought and became an odd one: an exit is still an exit."""
    running = Running(tmp_path, strategy=STRATEGY)
    running.venue.bids, running.venue.asks = (), (Level(Decimal("0.50"), 400 * SHARE),)

    async def work() -> None:
        async with running.instance():
            await until("bought", lambda: running.count("SELECT count(*) FROM fills") == 2)
            running.venue.describe = describe
            assert running.world.markets.get(parse_slug(WINDOW)) is not None
            running.world.markets.look_soon(MARKET.condition_id)
            await until("the problem is known", lambda: running.world.markets.problem(parse_slug(WINDOW)) is not None)
            running.venue.bids, running.venue.asks = (Level(Decimal("0.99"), 400 * SHARE),), ()
            await until("sold", lambda: running.count(EXITS) == 2)

    run(work())
    assert running.failures == []


def test_what_is_held_of_a_market_that_is_not_found_any_more_is_sold(tmp_path: Path) -> None:
    """The venue answers 404 for any error whose text has "not found": a market that was listed goes on being known.

    Failed before: it was forgotten, and nothing of it could be sold until the venue showed it again.
    """
    running = Running(tmp_path, strategy=STRATEGY)
    running.venue.bids, running.venue.asks = (), (Level(Decimal("0.50"), 400 * SHARE),)

    async def work() -> None:
        async with running.instance():
            await until("bought", lambda: running.count("SELECT count(*) FROM fills") == 2)
            asked: list[str] = []
            running.venue.describe = asked.append  # type: ignore[assignment]  # None: it is not found
            running.world.markets.look_soon(MARKET.condition_id)
            await until("it was asked for", lambda: WINDOW in asked)
            await asyncio.sleep(1)
            running.venue.bids, running.venue.asks = (Level(Decimal("0.99"), 400 * SHARE),), ()
            await until("sold", lambda: running.count(EXITS) == 2, 16)

    run(work())
    assert running.failures == []


def test_an_odd_market_is_asked_for_again_though_seldom() -> None:
    """What cannot be read may be a passing fault; what cannot be traded seldom becomes another thing."""
    window = parse_slug(WINDOW)
    assert retry_after_ms(window, of_protocol_v2(WINDOW), START_MS) == PROBLEM_RETRY_MS
    shape = replace(MARKET, problem=MarketProblem(ProblemCode.SHAPE, ""))
    assert retry_after_ms(window, shape, START_MS) == RETRY_MS
    assert retry_after_ms(window, shape, END_MS) < RETRY_MS, "its resolution is awaited all the same"


def test_the_average_is_as_long_as_the_market_says(tmp_path: Path) -> None:
    """A window whose market settles by 30 s is decided upon by 30 s."""
    running = Running(tmp_path)
    running.venue.describe = lambda slug: replace(MARKET, slug=slug, average_ms=30_000)
    lengths: set[int] = set()

    async def work() -> None:
        async with running.instance():
            inner = running.world.strategy.decide

            def decide(inputs: Inputs, parameters: Any) -> Decision:
                lengths.add(inputs.average_ms)
                return inner(inputs, parameters)

            running.world.strategy.decide = decide  # type: ignore[method-assign]
            await until("a decision", lambda: lengths)

    run(work())
    assert lengths == {30_000}
    assert running.failures == []


def test_a_book_in_doubt_is_asked_for_at_once_and_its_asset_is_looked_at(tmp_path: Path) -> None:
    """Not at the next poll: the answer is there within moments, and a slot that waits for a price is told of it."""
    running = Running(tmp_path)
    asked: list[list[str]] = []
    told: list[str] = []

    async def work() -> None:
        async with running.instance():
            world, books = running.world, running.venue.books
            await until("the market is known", lambda: world.markets.asset_of("1") is not None)

            async def answer(token_ids: list[str]) -> dict[str, Book]:
                asked.append(token_ids)
                if len(asked) == 1:
                    raise VenueError("the venue is busy")
                return {token: replace(book, at_ms=2_000) for token, book in (await books(token_ids)).items()}

            running.venue.books = answer  # type: ignore[method-assign]
            world.news.note = told.append  # type: ignore[method-assign, assignment]
            crossed = (Level(Decimal("0.60"), SHARE),)
            world.books.take(Book("1", crossed, crossed, 1_000))
            assert "1" not in world.books
            began = asyncio.get_running_loop().time()
            await until("the book is out of doubt", lambda: "1" in world.books)
            assert asyncio.get_running_loop().time() - began < 1, "the second answer, half a second after the first"
            assert all("1" in tokens for tokens in asked[:2])
            await until("whoever evaluates is told", lambda: told)

    run(work())
    assert running.failures == []
