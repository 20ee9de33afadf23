"""The adapter: the Venue protocol over polymarket-client. A thin shell; what is decided is decided in its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from polymarket._internal.actions.account import build_balance_allowance_request, build_update_balance_allowance_request
from polymarket._internal.actions.order_heartbeats import build_send_order_heartbeat_request
from polymarket.clients._transport import AsyncTransport
from polymarket.errors import OrderHeartbeatMismatchError, PolymarketError
from polymarket.models.clob import AssetType

from bot.venue.decoding import Code, OddError, Origin, Skips, as_name, as_object, clean, decode, each
from bot.venue.pace import RequestPace
from bot.venue.polymarket import account_reading, reading
from bot.venue.polymarket.account_rights import AccountRights
from bot.venue.polymarket.answers import NOT_SENT, in_words, judge
from bot.venue.polymarket.channel import OrderRequests, OrdersChannel
from bot.venue.polymarket.client import (
    CONFIG,
    AddressAlone,
    Credentials,
    Hosts,
    ReadingClient,
    RelayerKey,
    TimeLimits,
    identify,
    known,
    order_signer,
    post_bytes,
    with_key,
)
from bot.venue.polymarket.clob_markets import ClobMarkets
from bot.venue.polymarket.http1 import Target
from bot.venue.polymarket.positions import read_holdings
from bot.venue.polymarket.signing import EOA
from bot.venue.polymarket.streams import follow_user
from bot.venue.types import (
    Account,
    Answer,
    Book,
    HeartbeatMismatchError,
    Holding,
    InDoubt,
    Market,
    OrderRequest,
    Refused,
    SignedOrder,
    TooManyError,
    UserEvent,
    VenueError,
    VenueMode,
    VenueOrder,
)
from bus import Log
from ledger.values import VenueTrade

Item = TypeVar("Item")

_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_MAX_ITEMS = 20_000
_LONGEST_ERROR = 600
_REDEEM_LIMIT_S = 30.0  # Several requests: market, wallet, nonce, submit.


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose funds are traded."""

    wallet: str | None = None
    """the key's own address when None (signature type 0 only)"""
    signature_type: int = 0
    """0 EOA, 1 proxy, 2 safe, 3 deposit wallet"""
    signer: str = ""
    """the signing key's address; only read where there is no key yet"""


class PolymarketVenue:
    """One wallet at one venue. Made without network; `open` and `open_orders_channel` make the connections.

    Args:
        hosts: where the exchange and its neighbours answer.
        private_key: the signing key, 32 bytes of hex; None where it comes later (`arm`), with the address that it will have.
        credentials: the API key that is used and that orders are posted with; never created here.
        relayer_key: for redemptions; without it none is made.
        pace: what every request is counted in, but for those for markets: who asks for them waits for room before.

    Raises:
        ValueError: the key, the credentials or the wallet is unreadable, or the wallet is not of that signature type.
    """

    def __init__(
        self,
        *,
        hosts: Hosts,
        private_key: str | None,
        credentials: Credentials,
        log: Log,
        owner: Owner | None = None,
        limits: TimeLimits | None = None,
        relayer_key: RelayerKey | None = None,
        pace: RequestPace | None = None,
    ) -> None:
        self._hosts = hosts
        self._credentials = credentials
        self._relayer_key = relayer_key
        self._rights = AccountRights(self._ban_status, self._token_balance, time.monotonic)
        self._log, self._pace = log, pace
        self.skips = Skips(log)
        """What the venue sent and could not be read."""

        self._limits = limits or TimeLimits()
        owner = owner or Owner()
        key = private_key or AddressAlone(owner.signer)
        self._identity = identify(key, credentials, owner.wallet, owner.signature_type)
        self._signer = None if private_key is None else order_signer(self._identity, private_key)
        self._ssl = httpx.create_ssl_context()
        self._orders = OrderRequests(Target.of(hosts.clob, self._ssl), self._identity)
        self._reading: ReadingClient | None = None
        self._channel: OrdersChannel | None = None
        self._markets = ClobMarkets(self._clob_market, time.monotonic)

    @property
    def wallet(self) -> str:
        """The address whose funds are traded (checksum form)."""
        return self._identity.wallet

    @property
    def is_armed(self) -> bool:
        """Whether the key is here: without it nothing can be signed."""
        return self._signer is not None

    def arm(self, private_key: str, relayer_key: RelayerKey | None) -> None:
        """Take the key. Makes no request. Raises ValueError: it is not the one of this account."""
        self._identity = with_key(self._identity, private_key)
        self._signer, self._relayer_key = order_signer(self._identity, private_key), relayer_key
        if self._reading is not None:
            self._reading.sign_for(self._identity, self._hosts, relayer_key)

    async def open(self) -> None:
        """Make the reading connections' pools. No request is sent."""
        if self._reading is None:
            self._reading = ReadingClient(self._identity, self._hosts, self._ssl, self._limits, self._relayer_key)

    async def close(self) -> None:
        """Close everything."""
        await self.close_orders_channel()
        if self._reading is not None:
            client, self._reading = self._reading, None
            await client.close()

    async def open_orders_channel(self) -> None:
        """Make the orders channel and warm one connection of it; a venue that does not answer only leaves it cold."""
        if self._channel is not None:
            return
        self._channel = channel = OrdersChannel(self._identity, self._orders, self._hosts.clob, self._ssl, self._limits)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await channel.warm()
        except (TimeoutError, httpx.HTTPError) as error:
            self._log.warning("orders_channel_cold", reason=repr(error))

    async def close_orders_channel(self) -> None:
        """Abort the orders channel: what was not delivered is discarded, and a request in flight ends in doubt."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def server_time_ms(self) -> int:
        """The venue's clock, right to 500 ms."""
        async with self._asking("time"):
            return reading.time_ms(await self._get(self._client.clob, "/time"))

    async def account(self) -> Account:
        """Balance and allowance of the collateral."""
        async with self._asking("balance"):
            payload = await self._balance("COLLATERAL")
            closed_only, exchange = await self._rights.closed_only(), CONFIG.standard_exchange
            may_sell = await self._rights.may_sell(self.wallet, exchange)
            return account_reading.account(payload, self.wallet, exchange, closed_only=closed_only, may_sell=may_sell)

    async def shares(self, token_id: str) -> int:
        """Shares of one token in base units."""
        async with self._asking("balance of a token"):
            return account_reading.balance(await self._token_balance(token_id))

    async def refresh_balance(self, token_id: str) -> None:
        """Have the venue read the balance of a token anew: it keeps one that may be of before the last trade (v1 287, 290)."""
        async with self._asking("refreshing a balance"):
            path, params = build_update_balance_allowance_request(
                asset_type="CONDITIONAL", asset_id=token_id, signature_type=self._identity.signature_type
            )
            await self._client.secure_clob.get_bytes(path, params=params)

    async def holdings(self) -> list[Holding]:
        """What the data API shows of the wallet (see `positions`)."""
        async with self._asking("positions", origin=Origin.DATA):
            data = self._client.data
            return await read_holdings(
                lambda path, query: self._get(data, path, query), self.wallet, self._odd(Origin.DATA)
            )

    @property
    def cannot_redeem(self) -> str | None:
        """Why won positions cannot be redeemed from here, or None (venue.md 2.2)."""
        if self._identity.signature_type == EOA:
            return "a wallet of signature type 0 redeems by a transaction of its own: claim on the venue's site"
        if self._relayer_key is None:
            return "the relayer wants a key of its own: set BOT_RELAYER_KEY_FILE, or claim on the venue's site"
        return None

    async def redeem(self, condition_id: str) -> str:
        """Send the redemption of a resolved market through the relayer; returns the transaction's id."""
        if (reason := self.cannot_redeem) is not None:
            raise VenueError(f"redeem: {reason}")
        async with self._asking("redeem", _REDEEM_LIMIT_S, origin=Origin.RELAYER):
            handle = await self._client.library.redeem_positions(condition_id=condition_id)
            return as_name(handle.transaction_id, "transaction")

    async def follow_user(self, on_open: Callable[[], None], on_event: Callable[[UserEvent], None]) -> None:
        """Listen on the user channel until it ends (see `user_stream`)."""
        await follow_user(self._hosts.user_ws, self._credentials, on_open, on_event, self.skips)

    async def market(self, slug: str) -> Market | None:
        """The market of a window; None where Gamma or the exchange does not know it (yet)."""
        async with self._asking(f"market {slug}", origin=Origin.GAMMA):
            payload = await known(self._get(self._client.gamma, f"/events/slug/{slug}"))
            window = None if payload is None else reading.gamma_window(slug, payload, self._odd(Origin.GAMMA))
            if window is None:
                return None
            clob = await self._markets.view(window.market.condition_id)
            self._rights.token_id = window.market.token_ids[0]
            return None if clob is None else reading.market(window, clob)

    async def books(self, token_ids: list[str]) -> dict[str, Book]:
        """The books of many tokens in one request."""
        if not token_ids:
            return {}
        async with self._asking("books"):
            answer = await post_bytes(self._client.clob, "/books", [{"token_id": token_id} for token_id in token_ids])
            return reading.books(decode(answer, reading.MOST_BYTES), self._odd(Origin.CLOB))

    def sign(self, request: OrderRequest, market: Market, salt: int, timestamp_ms: int) -> SignedOrder:
        """Build and sign an order (see `signing`). Raises ValueError on what breaks a rule, and without a key."""
        if self._signer is None:
            raise ValueError("the wallet's key is not here yet; no order can be signed")
        return self._signer.sign(request, market, salt, timestamp_ms)

    async def send(self, body: str) -> Answer:
        """POST these bytes once; `answers` says what each answer means.

        What certainly never left (no connection could be made, the channel is closed) is refused with code `not_sent`.
        """
        if self._channel is None:
            return Refused("the orders channel is closed, nothing was sent", NOT_SENT)
        try:
            async with asyncio.timeout(self._limits.send_s):
                response = await self._channel.post_order(body)
        except _NEVER_LEFT as error:
            return Refused(f"no connection to {self._hosts.clob}: {error!r}", NOT_SENT, VenueMode.UNREACHABLE)
        except (TimeoutError, httpx.HTTPError) as error:
            return self._in_doubt(error)
        return judge(response, body)

    def begin(self, body: str) -> Callable[[], Awaitable[Answer]] | None:
        """Send in this turn of the loop, over a connection that is warm; None where none is."""
        channel = self._channel
        connection = None if channel is None else channel.begin_order(body)
        if channel is None or connection is None:
            return None

        async def answer() -> Answer:
            try:
                async with asyncio.timeout(self._limits.send_s):
                    response = await channel.end(connection)
            except (TimeoutError, httpx.HTTPError) as error:
                return self._in_doubt(error)
            return judge(response, body)

        return answer

    def _in_doubt(self, error: Exception) -> InDoubt:
        if isinstance(error, TimeoutError):
            return InDoubt(f"no answer within {self._limits.send_s} s", VenueMode.UNREACHABLE)
        return InDoubt(f"the connection failed: {error!r}", VenueMode.UNREACHABLE)

    async def order(self, order_id: str) -> VenueOrder | None:
        """One order; None proves nothing: the venue forgets finished ones, by 404, null or an empty answer."""
        async with self._asking(f"order {order_id}"):
            answer = await known(self._client.secure_clob.get_bytes(f"/data/order/{order_id}"))
            if answer is None or answer.strip() in (b"", b"null", b"{}"):
                return None
            return account_reading.order(decode(answer, reading.MOST_BYTES))

    async def open_orders(self) -> list[VenueOrder]:
        """All open orders of this account that can be read."""
        async with self._asking("open orders"):
            rows = await self._pages("/data/orders", {}, "open orders")
            return list(each(rows, "open orders", account_reading.order, self._odd(Origin.CLOB)))

    async def trades(self, condition_id: str | None = None, after_ms: int | None = None) -> list[VenueTrade]:
        """Our fills, oldest first. The venue filters by whole seconds, so a few from before after_ms may be among them.

        Of all markets, a trade that cannot be read is left out, and counted. Of one market it raises VenueError: no order is
        to be ended upon a list in which one of its fills may be missing.
        """
        asked = {"market": condition_id, "after": None if after_ms is None else str(after_ms // 1000)}
        owner = self._identity.credentials.key
        async with self._asking("trades"):
            rows = await self._pages("/data/trades", {key: value for key, value in asked.items() if value}, "trades")
            odd = self._odd(Origin.CLOB) if condition_id is None else _raise
            markets = set(each(rows, "trades", account_reading.trade_market, odd))
            await self._markets.learn_fees(markets, odd)

            def read(row: object, where: str) -> list[VenueTrade]:
                fees = self._markets.fees(account_reading.trade_market(row, where))
                if fees is None:
                    raise OddError(Code.SHAPE, f"{where}.market", "a market whose fees are known", row)
                return account_reading.trades(row, self.wallet, owner, fees, where)

            readable = [row for row in rows if account_reading.is_of(row, markets)]
            found = [trade for trades in each(readable, "trades", read, odd) for trade in trades]
        return sorted(found, key=lambda row: (row.at_ms, row.trade_id, row.order_id))

    async def heartbeat(self, previous_id: str, *, recover: bool = True) -> str:
        """Send the dead-man heartbeat over the orders channel; a stale id is replaced once, where `recover` allows it."""
        try:
            return await self._beat(previous_id)
        except OrderHeartbeatMismatchError as error:
            expected = clean(error.heartbeat_id)
            if not recover:
                raise HeartbeatMismatchError(
                    f"heartbeat: sent {previous_id!r}, the venue expected {expected!r}"
                ) from error
        self._log.info("heartbeat_recovered", sent=previous_id, expected=expected)
        try:
            return await self._beat(expected)
        except OrderHeartbeatMismatchError as error:
            raise HeartbeatMismatchError(
                f"heartbeat: the venue expected {expected!r}, then {clean(error.heartbeat_id)!r}: another sender uses it"
            ) from error

    async def _beat(self, heartbeat_id: str) -> str:
        path, body = build_send_order_heartbeat_request(heartbeat_id=heartbeat_id)
        async with self._asking("heartbeat", self._limits.send_s, passing=OrderHeartbeatMismatchError):
            answer = await post_bytes(self._orders_channel.transport, path, body)
            return as_name(as_object(decode(answer, reading.MOST_BYTES), "answer").get("heartbeat_id"), "heartbeat_id")

    async def _ban_status(self) -> object | None:
        return await known(self._get(self._client.secure_clob, "/auth/ban-status/closed-only"))

    async def _token_balance(self, token_id: str) -> object:
        return await self._balance("CONDITIONAL", token_id)

    async def _clob_market(self, condition_id: str) -> object | None:
        return await known(self._get(self._client.clob, f"/clob-markets/{condition_id}"))

    async def _balance(self, asset_type: AssetType, token_id: str | None = None) -> object:
        path, params = build_balance_allowance_request(
            asset_type=asset_type, asset_id=token_id, signature_type=self._identity.signature_type
        )
        return await self._get(self._client.secure_clob, path, params)

    async def _get(self, transport: AsyncTransport, path: str, params: Mapping[str, Any] | None = None) -> object:
        """The answer to a GET, decoded within bounds. Raises OddError."""
        return decode(await transport.get_bytes(path, params=params), reading.MOST_BYTES)

    async def _pages(self, path: str, params: Mapping[str, str], what: str) -> list[object]:
        """The rows of every page, up to a bound that no account of ours reaches."""
        rows: list[object] = []
        asked: set[str] = set()
        cursor: str | None = None
        while True:
            query = {**params, **({} if cursor is None else {"next_cursor": cursor})}
            page, cursor = reading.page(await self._get(self._client.secure_clob, path, query), what)
            rows += page
            if len(rows) > _MAX_ITEMS:
                raise TooManyError(f"expected at most {_MAX_ITEMS} items, found more; ask for a shorter time")
            if cursor is None:
                return rows
            if cursor in asked:
                raise OddError(Code.SHAPE, f"{what}: next_cursor", "a page that was not asked for before", cursor)
            asked.add(cursor)

    def _odd(self, origin: Origin) -> Callable[[OddError], None]:
        return lambda error: self.skips.note(origin, error)

    @property
    def _client(self) -> ReadingClient:
        if self._reading is None:
            raise VenueError("the venue is not open; call open() first")
        return self._reading

    @property
    def _orders_channel(self) -> OrdersChannel:
        if self._channel is None:
            raise VenueError("the orders channel is closed, nothing was sent")
        return self._channel

    @asynccontextmanager
    async def _asking(
        self,
        what: str,
        limit_s: float | None = None,
        passing: type[PolymarketError] | None = None,
        origin: Origin = Origin.CLOB,
    ) -> AsyncIterator[None]:
        """Within the time limit, with every error of network, library and form as a VenueError (but for `passing`).

        What could not be read is counted for its origin.
        """
        limit = limit_s or self._limits.read_s
        if self._pace is not None and origin is not Origin.GAMMA:
            self._pace.spend()
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as error:
            raise VenueError(f"{what}: no answer within {limit} s") from error
        except PolymarketError as error:
            if passing is not None and isinstance(error, passing):
                raise
            raise VenueError(clean(f"{what}: {in_words(error)}", _LONGEST_ERROR)) from error
        except OddError as error:
            self.skips.note(origin, error.named(what))
            raise
        except VenueError:
            raise
        except httpx.HTTPError as error:
            raise VenueError(f"{what}: {error!r}") from error
        except Exception as error:
            # The library reads some answers itself, and raises whatever they make it raise.
            text = f"{type(error).__name__}: {error}"
            odd = OddError(Code.UNFORESEEN, what, "an answer that the client library can read", text)
            self.skips.note(origin, odd)
            raise odd from error


def _raise(error: OddError) -> None:
    """For lists of which everything must be read."""
    raise error
