"""The adapter against the paper exchange, over real sockets and with a real process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
import structlog
from polymarket._internal.wallet import derive_beacon_deposit_wallet_address

from bot.venue.polymarket import (
    DUPLICATE,
    NO_MATCH,
    Credentials,
    Owner,
    PolymarketVenue,
    TimeLimits,
    derive_credentials,
    paper_hosts,
)
from bot.venue.polymarket.client import CONFIG, identify
from bot.venue.polymarket.streams import follow_user
from bot.venue.types import (
    BASE_UNITS,
    Accepted,
    InDoubt,
    Market,
    OrderRequest,
    Refused,
    SignedOrder,
    UserEvent,
    VenueError,
    VenueMode,
)
from ledger.values import Outcome, Side
from tests import patience
from tests.resting import resting
from tests.wire.conftest import StartPaper

START_LIMIT_S = 60
SIZE = 10 * BASE_UNITS
_keys = itertools.count(int(time.time() * 1000))
_salts = itertools.count(1)


def now_ms() -> int:
    """UTC ms."""
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def paper(start_paper: StartPaper) -> str:
    """The URL of a paper exchange of its own."""
    return start_paper(timeframes="5s,5m", resolution_delay=0.1, resolution_spread=0).url


def new_key() -> str:
    """A key that no test used before, so that each has an account of its own."""
    return f"0x{next(_keys):064x}"


@contextlib.asynccontextmanager
async def trading(
    url: str, *, deposit_wallet: bool = False, limits: TimeLimits | None = None
) -> AsyncIterator[PolymarketVenue]:
    """A venue with a new account, everything open."""
    key = new_key()
    credentials = await derive_credentials(url, key, may_create=True)
    wallet = None
    if deposit_wallet:
        signer = identify(key, credentials, None, 0).signer.address
        wallet = derive_beacon_deposit_wallet_address(signer, CONFIG.wallet_derivation)
    venue = PolymarketVenue(
        hosts=paper_hosts(url),
        private_key=key,
        credentials=credentials,
        log=structlog.get_logger(),
        owner=Owner(wallet, 3 if deposit_wallet else 0),
        limits=limits,
    )
    await venue.open()
    await venue.open_orders_channel()
    try:
        yield venue
    finally:
        await venue.close()


async def quoted_market(venue: PolymarketVenue) -> tuple[Market, Decimal]:
    """The next 5m window of BTC, and a price that buys its Up token there also after a small move."""
    start = int(time.time()) // 300 * 300 + 300
    async with patience.timeout(START_LIMIT_S):
        while True:
            market = await venue.market(f"btc-updown-5m-{start}")
            assert market is not None
            books = await venue.books([market.up_token, market.down_token])
            if books[market.up_token].asks and books[market.up_token].bids:
                return market, min(books[market.up_token].asks[0].price + Decimal("0.05"), Decimal("0.99"))
            await asyncio.sleep(0.1)


def sign(
    venue: PolymarketVenue,
    market: Market,
    price: Decimal,
    *,
    side: Side = Side.BUY,
    size: int = SIZE,
) -> SignedOrder:
    """An order for Up."""
    return venue.sign(OrderRequest(market.up_token, side, price, size), market, next(_salts), now_ms())


async def arm(url: str, **fault: Any) -> None:
    """Make the paper exchange fail."""
    async with aiohttp.ClientSession() as session, session.post(f"{url}/paper/faults", json=fault) as response:
        assert response.status == 200, await response.text()


@pytest.fixture
async def no_faults(paper: str) -> AsyncIterator[None]:
    """Whatever a test armed is gone afterwards."""
    yield
    async with aiohttp.ClientSession() as session, session.delete(f"{paper}/paper/faults") as response:
        assert response.status < 300


@pytest.mark.parametrize("deposit_wallet", [False, True], ids=["eoa", "deposit-wallet"])
async def test_a_round_trip_moves_exactly_the_money_it_says(paper: str, deposit_wallet: bool) -> None:
    """Buy and sell: the id is the one known before sending, and balance, trades and fees agree to the base unit."""
    async with trading(paper, deposit_wallet=deposit_wallet) as venue:
        market, price = await quoted_market(venue)
        before = await venue.account()
        assert before.wallet == venue.wallet

        buy = sign(venue, market, price)
        bought = await venue.send(buy.body)
        assert isinstance(bought, Accepted)
        assert (bought.order_id, bought.status) == (buy.order_id, "matched")
        fills = await venue.trades(market.condition_id)
        assert {fill.order_id for fill in fills} == {buy.order_id}
        shares = sum(fill.size for fill in fills)
        assert shares == bought.matched
        spent = sum(int(fill.price * fill.size) + fill.fee for fill in fills)
        assert spent > 0
        assert (await venue.account()).balance == before.balance - spent

        sell = sign(venue, market, market.tick, side=Side.SELL, size=shares)
        sold = await venue.send(sell.body)
        assert isinstance(sold, Accepted)
        assert sold.matched == sell.maker_amount
        proceeds = sum(
            int(fill.price * fill.size) - fill.fee for fill in await venue.trades() if fill.order_id == sell.order_id
        )
        assert (await venue.account()).balance == before.balance - spent + proceeds


async def test_the_user_channel_tells_of_an_order_and_its_trade(paper: str, no_faults: None) -> None:
    """What happens to an order of ours is told by its id; a channel that the venue drops ends with the reason."""
    async with trading(paper) as venue:
        opened = asyncio.Event()
        told: asyncio.Queue[UserEvent] = asyncio.Queue()
        listening = asyncio.create_task(venue.follow_user(opened.set, told.put_nowait))
        try:
            async with patience.timeout(START_LIMIT_S):
                await opened.wait()
                market, price = await quoted_market(venue)
                order = sign(venue, market, price)
                assert isinstance(await venue.send(order.body), Accepted)
                event = await told.get()
                while order.order_id not in event.order_ids or not event.trade_id:
                    event = await told.get()
            fills = await venue.trades()
            assert event.trade_id in {fill.trade_id for fill in fills}
            assert event.condition_id == market.condition_id
            assert await venue.shares(market.up_token) == sum(fill.size for fill in fills)
            await arm(paper, kind="drop_streams", path="/ws/user")
            with pytest.raises(VenueError, match="user channel"):
                await patience.wait_for(listening, START_LIMIT_S)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_the_user_channel_is_not_open_to_strangers(paper: str) -> None:
    """Credentials that the venue does not know: it never counts as open."""
    opened: list[None] = []
    with pytest.raises(VenueError, match="user channel"):
        await follow_user(
            paper_hosts(paper).user_ws,
            Credentials("no", "bm8=", "no"),
            lambda: opened.append(None),
            lambda _event: None,
        )
    assert opened == []


async def test_the_same_bytes_fill_once(paper: str) -> None:
    """Sending an order again is safe: the venue calls it a duplicate, which is an acceptance, and fills once."""
    async with trading(paper) as venue:
        market, price = await quoted_market(venue)
        order = sign(venue, market, price)
        assert isinstance(await venue.send(order.body), Accepted)
        first = await venue.trades()
        again = await venue.send(order.body)
        assert isinstance(again, Accepted)
        assert again.status == DUPLICATE
        assert await venue.trades() == first


async def test_an_order_that_meets_nothing_is_a_clean_no(paper: str) -> None:
    """A FAK below the book is refused with the code for it, and leaves nothing behind."""
    async with trading(paper) as venue:
        market, _ = await quoted_market(venue)
        answer = await venue.send(sign(venue, market, market.tick).body)
        assert isinstance(answer, Refused)
        assert answer.code == NO_MATCH
        assert (await venue.trades(), await venue.open_orders()) == ([], [])


async def test_a_resting_order_is_seen_by_its_id_and_not_once_it_is_gone(paper: str) -> None:
    """An order that rests, as an owner's may, shows with its size and price; a finished one shows as None."""
    async with trading(paper) as venue:
        market, _ = await quoted_market(venue)
        order = sign(venue, market, market.tick)
        assert await venue.send(resting(order.body)) == Accepted(order.order_id, "live", None)
        shown = await venue.order(order.order_id)
        assert shown is not None
        assert (shown.price, shown.size, shown.matched, shown.open) == (market.tick, SIZE, 0, True)
        assert await venue.open_orders() == [shown]
        await venue._client.library.cancel_order(order_id=order.order_id)
        assert await venue.open_orders() == []
        gone = await venue.order(order.order_id)
        assert gone is None or not gone.open


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("kind", "status"), [("lost_after", DUPLICATE), ("lost_before", "matched")])
async def test_a_lost_reply_is_a_doubt_that_the_same_bytes_settle(paper: str, kind: str, status: str) -> None:
    """Whether a lost order had taken effect or not, sending its bytes again ends with exactly one order filled."""
    async with trading(paper) as venue:
        market, price = await quoted_market(venue)
        order = sign(venue, market, price)
        await arm(paper, kind=kind, path="/order", method="POST")
        assert isinstance(await venue.send(order.body), InDoubt)
        answer = await venue.send(order.body)
        assert isinstance(answer, Accepted)
        assert answer.status == status
        fills = await venue.trades()
        assert {fill.order_id for fill in fills} == {order.order_id}
        assert sum(fill.size for fill in fills) <= SIZE


@pytest.mark.usefixtures("no_faults")
async def test_errors_slowness_and_restarts_are_told_apart(paper: str) -> None:
    """A 500 and a late answer are doubts; a restarting engine is a refusal that says so."""
    async with trading(paper, limits=TimeLimits(send_s=0.5)) as venue:
        market, price = await quoted_market(venue)
        await arm(paper, kind="error", path="/order", method="POST")
        assert isinstance(await venue.send(sign(venue, market, price).body), InDoubt)
        await arm(paper, kind="slow", path="/order", method="POST", seconds=5)
        late = await venue.send(sign(venue, market, price).body)
        assert isinstance(late, InDoubt)
        assert "0.5 s" in late.reason
        await arm(paper, kind="restarting", path="/order", method="POST")
        refused = await venue.send(sign(venue, market, price).body)
        assert isinstance(refused, Refused)
        assert refused.mode is VenueMode.RESTARTING


async def test_the_heartbeat_chain_is_carried_on_and_recovered(paper: str) -> None:
    """Each id comes from the answer before; a stale one, as a new holder has, is recovered from the venue's answer."""
    async with trading(paper) as venue:
        first = await venue.heartbeat("")
        second = await venue.heartbeat(first)
        assert len({first, second, ""}) == 3
        assert await venue.heartbeat("stale") not in ("stale", second)


async def test_a_window_shows_its_strike_and_then_its_winner(paper: str) -> None:
    """A window has no strike before it starts; it gets one, closes, and names one winner."""
    async with trading(paper) as venue:
        slug = f"eth-updown-5s-{int(time.time() + 1.5) // 5 * 5 + 5}"
        market = await venue.market(slug)
        assert market is not None
        assert (market.strike, market.winner, market.closed) == (None, None, False)
        assert (market.fee_rate, market.fee_exponent, market.min_size) == (Decimal("0.07"), 1, 5 * BASE_UNITS)
        async with patience.timeout(START_LIMIT_S):
            while market.winner is None:
                await asyncio.sleep(0.2)
                market = await venue.market(slug)
                assert market is not None
        assert market.strike is not None
        assert market.strike > 0
        assert (market.closed, market.accepting) == (True, False)
        assert market.winner in Outcome


async def test_what_the_venue_does_not_know_is_none(paper: str) -> None:
    """An unknown slug, order and token are answers and no errors."""
    async with trading(paper) as venue:
        market, _ = await quoted_market(venue)
        assert await venue.market("btc-updown-5m-1") is None
        assert await venue.order("0x" + "01" * 32) is None
        assert set(await venue.books([market.up_token, "1" * 70])) == {market.up_token}
        assert abs(await venue.server_time_ms() - now_ms()) < 2_000


async def test_credentials_are_derived_and_created_only_when_allowed(paper: str) -> None:
    """A key without credentials is an error unless creating is allowed; afterwards deriving gives the same ones."""
    key = new_key()
    with pytest.raises(VenueError, match="credentials"):
        await derive_credentials(paper, key)
    created = await derive_credentials(paper, key, may_create=True)
    assert await derive_credentials(paper, key) == created
    assert await derive_credentials(paper, key, may_create=True) == created


async def test_foreign_credentials_are_refused_in_words(paper: str) -> None:
    """With credentials that the venue does not know, reading raises and an order is refused as unauthorized."""
    venue = PolymarketVenue(
        hosts=paper_hosts(paper),
        private_key=new_key(),
        credentials=Credentials("unknown", "c2VjcmV0", "pass"),
        log=structlog.get_logger(),
    )
    await venue.open()
    await venue.open_orders_channel()
    with pytest.raises(VenueError, match="balance"):
        await venue.account()
    market, price = await quoted_market(venue)
    answer = await venue.send(sign(venue, market, price).body)
    await venue.close()
    assert isinstance(answer, Refused)
    assert answer.code == "unauthorized"


async def test_a_void_window_is_read_as_one(start_paper: StartPaper) -> None:
    """Closed, resolved, 0.5 and 0.5: no winner, and void; not before it has closed."""
    url = start_paper(timeframes="5s", resolution_delay=0.1, resolution_spread=0, void_windows=1).url
    async with trading(url) as venue:
        start_s = int(time.time()) // 5 * 5 + 5
        slug, seen = f"btc-updown-5s-{start_s}", set[bool]()
        async with patience.timeout(START_LIMIT_S):
            while True:
                market = await venue.market(slug)
                if market is not None:
                    seen.add(market.is_void)
                    assert market.winner is None
                    if market.is_void:
                        break
                await asyncio.sleep(0.2)
        assert market.closed
        assert seen == {False, True}
