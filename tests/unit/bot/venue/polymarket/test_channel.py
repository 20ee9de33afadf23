"""The orders channel over real sockets: exact bytes, one sending, and nothing delivered after it was closed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import json
import resource
import socket
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import pytest
import structlog

from bot.venue.decoding import Code, Origin
from bot.venue.polymarket import NOT_SENT, Credentials, Hosts, PolymarketVenue, TimeLimits
from bot.venue.types import (
    BASE_UNITS,
    Accepted,
    Answer,
    HeartbeatMismatchError,
    InDoubt,
    Market,
    OrderRequest,
    Refused,
    SignedOrder,
    VenueError,
    VenueMode,
)
from ledger.values import Side

LIMIT_S = 20
SECRET = "c2VjcmV0"
ACCEPTED = b'{"errorMsg":"","orderID":"0x01","status":"live","success":true,"makingAmount":"","takingAmount":""}'
MARKET = Market(
    slug="btc-updown-5m-0",
    condition_id="0x" + "11" * 32,
    up_token=str(int("ab" * 32, 16)),
    down_token=str(int("cd" * 32, 16)),
    tick=Decimal("0.01"),
    min_size=5 * BASE_UNITS,
    fee_rate=Decimal("0.07"),
    fee_exponent=1,
    neg_risk=False,
    accepting=True,
    closed=False,
    strike=None,
    winner=None,
)


@dataclass(frozen=True)
class Request:
    """One HTTP request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes


Answerer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None when it is over."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *rows = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (row.split(": ", 1) for row in rows)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def http(status: int, body: bytes) -> bytes:
    """An HTTP answer."""
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Server:
    """A bare HTTP server whose `answer` does what a test wants with each request but GET /time."""

    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.connections = 0
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # At the end of a test its loop cancels what still waits; streams of Python 3.11 would log that as an error.
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while (request := await read_request(reader)) is not None:
                if request.line.startswith("GET /time"):
                    writer.write(http(200, b"1795465796"))
                    continue
                self.requests.put_nowait(request)
                await self.answer(request, writer)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(answer: Answerer, limits: TimeLimits | None = None) -> AsyncIterator[tuple[PolymarketVenue, Server]]:
    """A venue with its channel open, and the server that it speaks to."""
    server = Server(answer)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    venue = make_venue(server.url, limits)
    await venue.open()
    await venue.open_orders_channel()
    try:
        yield venue, server
    finally:
        await venue.close()
        listener.close()


async def read_to_the_end(connection: socket.socket) -> None:
    """Read until the other side is done."""
    while await asyncio.get_running_loop().sock_recv(connection, 65_536):
        pass


def make_venue(url: str, limits: TimeLimits | None = None) -> PolymarketVenue:
    """A venue at this address."""
    return PolymarketVenue(
        hosts=Hosts(url, url),
        private_key="42" * 32,
        credentials=Credentials("owner", SECRET, "pass"),
        log=structlog.get_logger(),
        limits=limits,
    )


def signed(venue: PolymarketVenue) -> SignedOrder:
    """Some order."""
    request = OrderRequest(MARKET.up_token, Side.BUY, Decimal("0.5"), 10 * BASE_UNITS)
    return venue.sign(request, MARKET, 1, 1_795_465_796_000)


async def accept(request: Request, writer: asyncio.StreamWriter) -> None:
    """Take every order."""
    writer.write(http(200, ACCEPTED))


async def never(request: Request, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.sleep(LIMIT_S)


Way = Callable[[PolymarketVenue, str], Coroutine[None, None, Answer]]


async def at_once(venue: PolymarketVenue, body: str) -> Answer:
    """Begun over the warm connection: the bytes are with the kernel before anything is waited for."""
    answer = venue.begin(body)
    assert answer is not None
    return await answer()


async def by_task(venue: PolymarketVenue, body: str) -> Answer:
    """As a task sends that may have to make a connection."""
    return await venue.send(body)


WAYS = pytest.mark.parametrize("way", [at_once, by_task])


@WAYS
async def test_exactly_the_signed_bytes_are_posted_and_authenticated(way: Way) -> None:
    """What arrives is the body that was made durable, byte for byte, under an HMAC of these bytes."""
    async with serving(accept) as (venue, server):
        order = signed(venue)
        assert await way(venue, order.body) == Accepted("0x01", "live", None)
        request = server.requests.get_nowait()
        assert request.line == "POST /order HTTP/1.1"
        assert request.body == order.body.encode()
        message = f"{request.headers['poly_timestamp']}POST/order{order.body}".encode()
        digest = hmac.new(urlsafe_b64decode(SECRET), message, hashlib.sha256).digest()
        assert request.headers["poly_signature"] == urlsafe_b64encode(digest).decode()
        assert (request.headers["poly_api_key"], request.headers["poly_passphrase"]) == ("owner", "pass")


async def test_the_first_order_finds_a_warm_connection() -> None:
    """Opening the channel makes the connection that the first order then uses."""
    async with serving(accept) as (venue, server):
        assert server.connections == 1
        await venue.send(signed(venue).body)
        assert server.connections == 1


async def test_sockets_discard_what_was_not_delivered() -> None:
    """Every socket of the channel has linger 0, and gives up on a stalled network before the request's time limit."""
    async with serving(accept, TimeLimits(send_s=3.0)) as (venue, _):
        assert venue._channel is not None
        response = await venue._channel._client.get("/time")  # what cancels and heartbeats travel on
        both = [*venue._channel.sockets(), response.extensions["network_stream"].get_extra_info("socket")]
        assert len(both) == 2
        for sock in both:
            assert struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert 0 < sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) < 3000


async def test_closing_the_channel_delivers_nothing_more() -> None:
    """An order that a stalled receiver had not taken in is gone after the channel was closed, not late."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        venue = make_venue(f"http://127.0.0.1:{listener.getsockname()[1]}", TimeLimits(connect_s=0.2))
        loop = asyncio.get_running_loop()
        await venue.open_orders_channel()  # Its warming is answered by nobody.
        order = signed(venue).body
        long_body = order[:-1] + ',"padding":"' + "x" * 20_000_000 + '"}'
        sending = asyncio.create_task(venue.send(long_body))
        stalled = None
        while stalled is None:
            connection, _ = await asyncio.wait_for(loop.sock_accept(listener), LIMIT_S)
            with contextlib.suppress(TimeoutError):
                start = await asyncio.wait_for(loop.sock_recv(connection, 10), 1)
                stalled = connection if start.startswith(b"POST") else None
        await venue.close_orders_channel()
        assert isinstance(await sending, InDoubt)
        with pytest.raises(ConnectionResetError):  # A plain close would deliver the rest and end in peace.
            await asyncio.wait_for(read_to_the_end(stalled), LIMIT_S)


@WAYS
async def test_closing_ends_a_request_in_flight_in_doubt(way: Way) -> None:
    """A yield waits for no answer: the order that was under way is in doubt at once."""
    async with serving(never) as (venue, server):
        sending = asyncio.create_task(way(venue, signed(venue).body))
        await asyncio.wait_for(server.requests.get(), LIMIT_S)
        await venue.close_orders_channel()
        answer = await asyncio.wait_for(sending, 2)
        assert isinstance(answer, InDoubt)
        assert answer.mode is VenueMode.UNREACHABLE


@WAYS
async def test_a_cancelled_order_task_ends_at_once_and_the_channel_still_works(way: Way) -> None:
    """Cancelling the task of one order drops its connection alone."""
    answers = iter((never, accept))

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await next(answers)(request, writer)

    async with serving(answer) as (venue, server):
        sending = asyncio.create_task(way(venue, signed(venue).body))
        await asyncio.wait_for(server.requests.get(), LIMIT_S)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert isinstance(await venue.send(signed(venue).body), Accepted)


@WAYS
async def test_no_answer_in_time_is_in_doubt(way: Way) -> None:
    """Every sending ends within its time limit, and silence is doubt."""
    async with serving(never, TimeLimits(send_s=0.2)) as (venue, server):
        answer = await asyncio.wait_for(way(venue, signed(venue).body), 2)
        assert isinstance(answer, InDoubt)
        assert server.requests.qsize() == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"garbage\r\n\r\n"])
@WAYS
async def test_a_broken_answer_is_in_doubt_and_never_sent_again(answer: bytes, way: Way) -> None:
    """A connection that breaks after the request left leaves a doubt; the channel does not retry."""

    async def break_off(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with serving(break_off) as (venue, server):
        assert isinstance(await way(venue, signed(venue).body), InDoubt)
        assert server.requests.qsize() == 1


async def test_what_never_left_is_no_doubt() -> None:
    """Without a connection, or with the channel closed, nothing was sent, and the answer says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        venue = make_venue(f"http://127.0.0.1:{probe.getsockname()[1]}")
    closed = await venue.send(signed(venue).body)
    await venue.open_orders_channel()
    unreachable = await venue.send(signed(venue).body)
    await venue.close()
    assert isinstance(closed, Refused)
    assert closed.code == NOT_SENT
    assert isinstance(unreachable, Refused)
    assert (unreachable.code, unreachable.mode) == (NOT_SENT, VenueMode.UNREACHABLE)


async def test_changes_need_the_orders_channel() -> None:
    """Heartbeats, as orders, travel on the orders channel alone, so that none leaves after a yield."""
    async with serving(accept) as (venue, server):
        await venue.close_orders_channel()
        with pytest.raises(VenueError, match="channel is closed"):
            await venue.heartbeat("")
        assert server.requests.empty()


async def test_a_heartbeat_that_is_refused_twice_means_another_sender() -> None:
    """A stale id is replaced once by the one that the venue names; a second refusal is another trader on the account."""
    expected = iter(("one", "two"))

    async def mismatch(request: Request, writer: asyncio.StreamWriter) -> None:
        answer = {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": next(expected)}
        writer.write(http(400, json.dumps(answer).encode()))

    async with serving(mismatch) as (venue, server):
        with pytest.raises(HeartbeatMismatchError, match="another sender"):
            await venue.heartbeat("stale")
        sent = [json.loads(server.requests.get_nowait().body)["heartbeat_id"] for _ in range(2)]
        assert sent == ["stale", "one"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"oops"), (200, b"not json"), (200, b"{}"), (429, b""), (401, b'{"error":"Unauthorized"}')],
)
async def test_reading_fails_with_one_plain_error(status: int, body: bytes) -> None:
    """Whatever is wrong with an answer, a reading call raises VenueError and names what was asked for."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, body))

    async with serving(answer) as (venue, _):
        for call, name in (
            (venue.account(), "balance"),
            (venue.market("btc-updown-5m-0"), "market btc-updown-5m-0"),
            (venue.books(["1"]), "books"),
            (venue.open_orders(), "open orders"),
            (venue.trades(), "trades"),
        ):
            with pytest.raises(VenueError, match=name):
                await call


def packed(plain: bytes) -> bytes:
    """An answer that is packed with gzip."""
    body = gzip.compress(plain)
    head = f"HTTP/1.1 200 x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b"[" * 100_000),
        http(400, b"[" * 100_000),
        http(429, b"[" * 100_000),
        http(200, b'{"data": [], "next_cursor": ' + b"7" * 10_000 + b"}"),
        http(200, b'{"heartbeat_id": "\\ud800", "data": 1e1000000, "balance": NaN, "markets": [[]]}'),
        http(200, b"\xff\xfe\x00"),
        packed(b" " * (1 << 27)),
        packed(b"{}")[:-4] + b"oops",
        http(200, b"x").replace(b"Content-Length: 1", b"Content-Encoding: br\r\nContent-Length: 1"),
        http(200, b"x" * (9 << 20)),
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3_000 + http(500, b""),
        b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=range(12),
)
async def test_no_answer_whatever_raises_anything_but_a_venue_error(answer: bytes) -> None:
    """Deep JSON, numbers without an end, gigabytes in a packet: each call ends with the one error that its caller expects."""

    async def give(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with serving(give) as (venue, _):
        calls = (
            venue.account,
            venue.holdings,
            venue.open_orders,
            venue.trades,
            partial(venue.shares, "1"),
            partial(venue.market, "btc-updown-5m-0"),
            partial(venue.books, ["1"]),
            partial(venue.order, "0x01"),
            partial(venue.trades, "0xc"),
            partial(venue.heartbeat, ""),
        )
        for call in calls:
            with pytest.raises(VenueError) as caught:
                await call()
            str(caught.value).encode()
            assert len(str(caught.value)) < 1_000
        order = await venue.send(json.dumps({"order": {"side": "BUY"}}))
        assert isinstance(order, InDoubt | Refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


async def test_one_odd_row_costs_itself_and_is_counted_for_its_service() -> None:
    """Of all our trades the others are there; of one market's, where a fill may be missing, none is taken for the whole."""
    trade = {
        "id": "t1",
        "market": "0xc",
        "asset_id": "1",
        "taker_order_id": "0x01",
        "side": "BUY",
        "trader_side": "TAKER",
        "price": "0.5",
        "size": "2",
        "status": "MATCHED",
        "match_time": "1795465796",
        "maker_orders": [],
    }
    elsewhere = [trade | {"market": "../auth/api-keys"}, trade | {"market": "0xodd"}, trade | {"market": "0xgone"}]
    rows = [trade, trade | {"id": "t2", "size": "1e1000000"}, None, trade | {"id": "t3"}, *elsewhere]
    asked: list[str] = []

    async def give(request: Request, writer: asyncio.StreamWriter) -> None:
        asked.append(request.line)
        rate = "NaN" if "0xodd" in request.line else 0.07
        clob = {"mos": "1e1000000", "fd": {"r": rate, "e": 1, "to": True}}
        page = {"data": rows, "next_cursor": "LTE="}
        status = 404 if "0xgone" in request.line else 200
        writer.write(http(status, json.dumps(clob if "clob-markets" in request.line else page).encode()))

    async with serving(give) as (venue, _):
        assert [found.trade_id for found in await venue.trades()] == ["t1", "t3"]
        assert set(venue.skips.counts) == {(Origin.CLOB, code) for code in (Code.NUMBER, Code.SHAPE, Code.TEXT)}
        assert not any("auth" in line for line in asked), "an id of the venue's never becomes another address"
        with pytest.raises(VenueError, match=r"trades\[2\]: expected an object"):
            await venue.trades("0xc")


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b" \n"])
async def test_an_empty_order_is_none(body: bytes) -> None:
    """The venue forgets finished orders by an empty answer of one kind or another; each of them is None."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, body))

    async with serving(answer) as (venue, _):
        assert await venue.order("0x" + "01" * 32) is None


async def test_reading_ends_within_its_time_limit() -> None:
    """A venue that accepts and says nothing costs a reading call its time limit and no more."""
    async with serving(never, TimeLimits(read_s=0.2)) as (venue, _):
        with pytest.raises(VenueError, match="no answer within"):
            await asyncio.wait_for(venue.account(), 2)
