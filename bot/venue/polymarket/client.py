"""The library's client, built for our hosts and time limits, without any network and without touching the account.

`AsyncSecureClient.create` may create credentials and deploy a wallet, knows no other host than production, and makes a
connection pool for each of eleven services (0.7 s of blocked loop). Here its context is put together by hand (private
parts of 0.14.0): the services that we read from use our pools, and every other one points at a host that cannot
exist, so that a paper bot never reaches the real venue by accident.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import ssl
import time
import zlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx
from eth_account import Account as EthAccount
from eth_utils.address import to_checksum_address
from polymarket._internal.actions.auth import create_api_key, derive_api_key
from polymarket._internal.actions.orders.cache import AsyncOrderMetadataCache
from polymarket._internal.actions.relayer.auth import make_relayer_header_resolver
from polymarket._internal.context import AsyncSecureClientContext
from polymarket._internal.environment import PRODUCTION_CONFIG, create_environment
from polymarket._internal.eoa.rpc import JsonRpcClient
from polymarket._internal.l1_auth import sign_api_key_auth
from polymarket._internal.wallet import (
    SignerType,
    WalletType,
    classify_account,
    derive_beacon_deposit_wallet_address,
    derive_proxy_wallet_address,
    derive_safe_wallet_address,
    derive_uups_deposit_wallet_address,
    signature_type_for,
)
from polymarket.auth import RelayerApiKey
from polymarket.clients._transport import AsyncTransport
from polymarket.clients.async_secure import _CREATE_TOKEN, AsyncSecureClient, _make_l2_header_resolver
from polymarket.errors import PolymarketError, RequestRejectedError
from polymarket.models import ApiKeyCreds
from polymarket.types import EvmAddress

from bot.venue.decoding import Code, OddError, as_name
from bot.venue.polymarket.answers import is_ambiguous
from bot.venue.polymarket.reading import MOST_BYTES
from bot.venue.polymarket.signing import Exchange, OrderSigner
from bot.venue.types import VenueError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

# Which addresses are of this machine or of the same network of containers: no proxy ever stands before them.

T = TypeVar("T")


def is_local(url: str) -> bool:
    """Whether no proxy is between: a loopback address, localhost, a name without a dot, as containers call each other.

    Or one that nobody ever asks (.invalid, RFC 2606): its client is made all the same.
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".invalid")) or "." not in host


# Where the venue answers. The official addresses are those of polymarket-client's own environment.


NOWHERE = "http://unused.invalid"
"""A host that cannot exist: what is not named is never reached by accident."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base URLs of the exchange (CLOB), the market catalogue (Gamma), the relayer, the data API, and of three streams."""

    clob: str
    gamma: str
    relayer: str = NOWHERE
    data: str = NOWHERE
    market_ws: str = NOWHERE.replace("http", "ws", 1)
    user_ws: str = NOWHERE.replace("http", "ws", 1)
    prices_ws: str = NOWHERE.replace("http", "ws", 1)


def official_hosts() -> Hosts:
    """The hosts that the library speaks to by default."""
    config = PRODUCTION_CONFIG
    return Hosts(
        clob=config.clob_url,
        gamma=config.gamma_url,
        relayer=config.relayer_url,
        data=config.data_url,
        market_ws=config.clob_market_ws_url,
        user_ws=config.clob_user_ws_url,
        prices_ws=config.rtds_ws_url,
    )


def paper_hosts(url: str) -> Hosts:
    """All of them at one paper exchange, http://HOST:PORT."""
    streams = url.replace("http", "ws", 1)
    return Hosts(
        clob=url,
        gamma=url,
        relayer=url,
        data=url,
        market_ws=f"{streams}/ws/market",
        user_ws=f"{streams}/ws/user",
        prices_ws=f"{streams}/rtds",
    )


# The account at the venue: API credentials, and how to derive them from the key.


_NO_KEY_YET = frozenset({400, 401, 404})


class NoCredentialsError(VenueError):
    """The venue has no API key of this wallet that could be derived, and none was to be created."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key of the venue (its "L2" credentials). The secret parts never show in a repr or a log."""

    key: str
    secret: str = field(repr=False)
    passphrase: str = field(repr=False)


async def derive_credentials(
    clob_url: str, private_key: str, *, may_create: bool = False, time_limit_s: float = 5.0
) -> Credentials:
    """The credentials of the key's account, which the venue derives from a signature.

    A wallet has one active API key, and creating another invalidates the first: under a running bot that would stop
    its trading (venue.md 1.7). So creating is for paper alone, and only where there is none to derive.

    Args:
        clob_url: where the exchange answers, for example http://127.0.0.1:8700.
        may_create: whether to create credentials where the venue has none.

    Raises:
        NoCredentialsError: there is nothing to derive, and may_create is not set.
        VenueError: the venue refused, or did not answer within the time limit.
        ValueError: the key is unreadable.
    """
    signer = signer_of(private_key)
    signature = sign_api_key_auth(signer, chain_id=CONFIG.chain_id, timestamp=int(time.time()))
    client = BoundedClient(base_url=clob_url, timeout=time_limit_s, trust_env=not is_local(clob_url))
    transport = AsyncTransport(base_url=clob_url, client=client)
    try:
        async with asyncio.timeout(time_limit_s):
            try:
                creds = await derive_api_key(transport, signature)
            except RequestRejectedError as error:
                if error.status not in _NO_KEY_YET or (error.status != 404 and is_ambiguous(str(error))):
                    raise
                if not may_create:
                    raise NoCredentialsError(f"credentials: {clob_url} said: {error}") from error
                creds = await create_api_key(transport, signature)
    except TimeoutError as error:
        raise VenueError(f"credentials: {clob_url} gave no answer within {time_limit_s} s") from error
    except PolymarketError as error:
        raise VenueError(f"credentials: {clob_url} said: {error}") from error
    except Exception as error:
        if isinstance(error, VenueError):
            raise
        raise VenueError(f"credentials: the answer of {clob_url} cannot be read ({type(error).__name__})") from None
    finally:
        await client.aclose()
    try:
        key, secret, passphrase = (as_name(part, "credentials") for part in (creds.key, creds.secret, creds.passphrase))
        return Credentials(key, secret, passphrase)
    except OddError:  # its text would hold a part of them
        raise VenueError(
            f"credentials: {clob_url} sent what is no key: three texts without blanks are expected"
        ) from None


# The library's client, built for our hosts and time limits, without any network and without touching the account.


CONFIG = PRODUCTION_CONFIG
"""The venue's contracts and chain id. Only hosts are replaced, so paper checks the same signatures."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds after which a call ends: of reading, of one order or heartbeat, of making a connection."""

    read_s: float = 5.0
    send_s: float = 5.0
    connect_s: float = 2.0


@dataclass(frozen=True, slots=True)
class RelayerKey:
    """A key of the venue's relayer, and the address that it was made for."""

    key: str = field(repr=False)
    address: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who trades: the key's account, its credentials, and the wallet with its type."""

    signer: LocalAccount
    credentials: ApiKeyCreds
    wallet: EvmAddress
    wallet_type: WalletType
    signer_type: SignerType

    @property
    def signature_type(self) -> int:
        """0 EOA, 1 proxy, 2 safe, 3 deposit wallet."""
        return signature_type_for(self.wallet_type)


@dataclass(frozen=True, slots=True)
class AddressAlone:
    """The account of a key that is not here: the library reads its address for requests, and can sign nothing with it."""

    address: str


def signer_of(private_key: str) -> LocalAccount:
    """The account of a key. Raises ValueError, without its cause, whose text may hold a part of the key."""
    try:
        signer: LocalAccount = EthAccount.from_key(private_key)
    except (ValueError, TypeError):
        raise ValueError("the private key is not 32 bytes of hex") from None
    return signer


def signer_address(private_key: str) -> str:
    """The address of a key. Raises ValueError."""
    return str(signer_of(private_key).address)


def trading_wallet(signer: str, wallet: str | None, signature_type: int) -> str:
    """The wallet that settings mean, in checksum form; without one it is the key's own address. signer: that address.

    Raises:
        ValueError: as `identify`; the text names the wallets that this key can sign for.
    """
    nobody = ApiKeyCreds(key="", secret="", passphrase="")
    try:
        return _identify(AddressAlone(signer), nobody, wallet, signature_type).wallet
    except ValueError as error:
        derivation = CONFIG.wallet_derivation
        raise ValueError(
            f"{error}. This key can sign for: 0 {signer}; 1 {derive_proxy_wallet_address(signer, derivation)}; "
            f"2 {derive_safe_wallet_address(signer, derivation)}; 3 {derive_beacon_deposit_wallet_address(signer, derivation)} "
            f"or {derive_uups_deposit_wallet_address(signer, derivation)}"
        ) from None


def identify(key: str | AddressAlone, credentials: Credentials, wallet: str | None, signature_type: int) -> Identity:
    """The identity of a key, or of the address alone that it will have, and a wallet; without one it is the key's own address.

    Raises:
        ValueError: the key or the wallet is unreadable, or the wallet is not of that type.
    """
    account = key if isinstance(key, AddressAlone) else signer_of(key)
    creds = ApiKeyCreds(key=credentials.key, secret=credentials.secret, passphrase=credentials.passphrase)
    return _identify(account, creds, wallet, signature_type)


def _identify(
    account: LocalAccount | AddressAlone, creds: ApiKeyCreds, wallet: str | None, signature_type: int
) -> Identity:
    signer = cast("LocalAccount", account)
    if wallet is None and signature_type != 0:
        raise ValueError(f"signature type {signature_type} trades a wallet of its own; give its address")
    try:
        address = EvmAddress(signer.address if wallet is None else to_checksum_address(wallet))
        kind = classify_account(signer=signer.address, wallet=address, config=CONFIG.wallet_derivation)
    except (ValueError, TypeError) as error:
        raise ValueError(f"wallet {wallet!r} is not an address (0x and 40 hex digits)") from error
    expected = signature_type_for(kind.wallet_type)
    if signature_type != expected:
        raise ValueError(
            f"wallet {address} of key {signer.address} has signature type {expected}, not {signature_type}"
        )
    return Identity(signer, creds, address, kind.wallet_type, kind.signer_type)


def with_key(identity: Identity, private_key: str) -> Identity:
    """The same identity, able to sign. Raises ValueError: the key is unreadable, or of another account."""
    account = signer_of(private_key)
    if account.address.lower() != identity.signer.address.lower():
        raise ValueError(
            f"the key is of {account.address}, the credentials are of {identity.signer.address}; "
            "name the right files in BOT_KEY_FILE and BOT_CREDENTIALS_FILE"
        )
    return dataclasses.replace(identity, signer=account)


def order_signer(identity: Identity, private_key: str) -> OrderSigner:
    """What signs the orders of an identity. Raises ValueError: the key is unreadable."""
    return OrderSigner(
        private_key=private_key,
        signer=identity.signer.address,
        wallet=identity.wallet,
        signature_type=identity.signature_type,
        signer_type=identity.signer_type,
        owner=identity.credentials.key,
        exchange=Exchange(CONFIG.chain_id, CONFIG.standard_exchange, CONFIG.neg_risk_exchange),
    )


async def known(request: Awaitable[T]) -> T | None:
    """The answer, or None where the venue answers 404. Raises PolymarketError."""
    try:
        return await request
    except RequestRejectedError as error:
        if error.status == 404:
            return None
        raise


class BoundedClient(httpx.AsyncClient):
    """A client whose answers have at most MOST_BYTES, unpacked: one that never ends, or unpacks to gigabytes, ends there."""

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """As the library's. Raises OddError, too."""
        request.headers["Accept-Encoding"] = "gzip"
        response = await super().send(request, stream=True, **options)
        if stream:
            return response
        try:
            body = await _read(response)
        finally:
            await response.aclose()
        packed = (b"content-encoding", b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in packed]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=body,
            request=response.request,
            extensions=response.extensions,
        )


async def _read(response: httpx.Response) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip"):
        raise OddError(Code.SHAPE, "answer", "gzip, or no encoding", encoding)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    body = bytearray()
    async for piece in response.aiter_raw():
        try:
            body += piece if unpacker is None else unpacker.decompress(piece, MOST_BYTES + 1 - len(body))
        except zlib.error as error:
            raise OddError(Code.SHAPE, "answer", "gzip", piece) from error
        if len(body) > MOST_BYTES:
            body.clear()  # not kept by whoever keeps the error
            raise OddError(Code.SIZE, "answer", f"at most {MOST_BYTES} bytes", "more")
    return bytes(body)


async def post_bytes(transport: AsyncTransport, path: str, body: object) -> bytes:
    """The answer to a POST as it came: the library only gives what its own decoder makes of it."""
    response = await transport._request("POST", path, json=body)
    return response.content


class ReadingClient:
    """The library's client (`library`) over two pools of ours, for requests that change nothing. Made without network."""

    def __init__(
        self,
        identity: Identity,
        hosts: Hosts,
        ssl_context: ssl.SSLContext,
        limits: TimeLimits,
        relayer_key: RelayerKey | None = None,
    ) -> None:
        timeout = httpx.Timeout(limits.read_s, connect=limits.connect_s)
        self._clob, self._gamma, self._data, self._relayer, self._nowhere = self._pools = tuple(
            BoundedClient(base_url=url, verify=ssl_context, http2=True, timeout=timeout, trust_env=not is_local(url))
            for url in (hosts.clob, hosts.gamma, hosts.data, hosts.relayer, NOWHERE)
        )
        self.data = AsyncTransport(base_url=hosts.data, client=self._data)
        resolver = _make_l2_header_resolver(identity.signer, identity.credentials)
        self.clob = AsyncTransport(base_url=hosts.clob, client=self._clob)
        self.gamma = AsyncTransport(base_url=hosts.gamma, client=self._gamma)
        self.secure_clob = AsyncTransport(base_url=hosts.clob, client=self._clob, header_resolver=resolver)
        self.sign_for(identity, hosts, relayer_key)

    def sign_for(self, identity: Identity, hosts: Hosts, relayer_key: RelayerKey | None) -> None:
        """Make the library's client of an account, over the same connections."""
        self._api_key = None if relayer_key is None else RelayerApiKey(key=relayer_key.key, address=relayer_key.address)
        self.library = AsyncSecureClient(ctx=self._context(identity, hosts), _create_token=_CREATE_TOKEN)

    async def close(self) -> None:
        """Close the library's client and the pools."""
        await self.library.close()
        for pool in self._pools:
            await pool.aclose()

    def _context(self, identity: Identity, hosts: Hosts) -> AsyncSecureClientContext:
        config = dataclasses.replace(CONFIG, clob_url=hosts.clob, gamma_url=hosts.gamma, relayer_url=hosts.relayer)
        unused = AsyncTransport(base_url=NOWHERE, client=self._nowhere)
        relayer = unused
        if self._api_key is not None:
            headers = make_relayer_header_resolver(self._api_key)
            relayer = AsyncTransport(base_url=hosts.relayer, client=self._relayer, header_resolver=headers)
        return AsyncSecureClientContext(
            environment=create_environment(name="never-sleeps", config=config),
            gamma=self.gamma,
            clob=self.clob,
            secure_clob=self.secure_clob,
            data=unused,
            rfq=unused,
            perps=unused,
            relayer=relayer,
            combos=unused,
            builder_gateway=unused,
            rpc=JsonRpcClient(unused),
            signer=identity.signer,
            credentials=identity.credentials,
            wallet=identity.wallet,
            wallet_type=identity.wallet_type,
            signer_type=identity.signer_type,
            api_key=self._api_key,
            order_metadata=AsyncOrderMetadataCache(),
        )
