"""The account at the venue: API credentials, and how to derive them from the key."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from polymarket._internal.actions.auth import create_api_key, derive_api_key
from polymarket._internal.l1_auth import sign_api_key_auth
from polymarket.clients._transport import AsyncTransport
from polymarket.errors import PolymarketError, RequestRejectedError

from bot.venue.decoding import OddError, as_name
from bot.venue.polymarket.client import CONFIG, BoundedClient, signer_of
from bot.venue.types import VenueError

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
    client = BoundedClient(base_url=clob_url, timeout=time_limit_s)
    transport = AsyncTransport(base_url=clob_url, client=client)
    try:
        async with asyncio.timeout(time_limit_s):
            try:
                creds = await derive_api_key(transport, signature)
            except RequestRejectedError as error:
                if error.status not in _NO_KEY_YET:
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
