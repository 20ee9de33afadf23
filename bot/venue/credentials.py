"""The venue's API credentials on disk: derived once by `./ns credentials`, then only read.

A wallet has one active API key, and creating another invalidates the first (venue.md 1.7): a running system loads what is
stored and never creates. On paper, where nothing is at stake, credentials come by themselves and are not stored.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from bot.settings import BotSettings, read_secret
from bot.venue.polymarket import (
    Credentials,
    Hosts,
    NoCredentialsError,
    RelayerKey,
    derive_credentials,
    official_hosts,
    paper_hosts,
    signer_address,
)
from bot.venue.types import VenueError
from bus import SettingsError

# Where this instance asks: the official hosts on live, one paper exchange on paper, and what settings put in their place.


# Binance is the lead (venue.md 0); its addresses are its own documentation's (venue.md 3).
_BINANCE_URL, _BINANCE_WS_URL = "https://api.binance.com", "wss://stream.binance.com:9443"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """venue: the exchange and its neighbours. binance_url, binance_ws_url: history and streams of the lead price."""

    venue: Hosts
    binance_url: str
    binance_ws_url: str


def endpoints(settings: BotSettings) -> Endpoints:
    """The hosts that settings mean."""
    paper = settings.venue == "paper"
    venue = paper_hosts(settings.paper_url) if paper else official_hosts()
    chosen = {
        "clob": settings.clob_url,
        "gamma": settings.gamma_url,
        "relayer": settings.relayer_url,
        "data": settings.data_url,
        "market_ws": settings.market_ws_url,
        "user_ws": settings.user_ws_url,
        "prices_ws": settings.prices_ws_url,
    }
    return Endpoints(
        venue=dataclasses.replace(venue, **{name: url for name, url in chosen.items() if url is not None}),
        binance_url=settings.binance_url or (settings.paper_url if paper else _BINANCE_URL),
        binance_ws_url=settings.binance_ws_url
        or (settings.paper_url.replace("http", "ws", 1) if paper else _BINANCE_WS_URL),
    )


# The venue's API credentials on disk: derived once by `./ns credentials`, then only read.


_SCHEMA = "1.0"


def credentials_path(settings: BotSettings) -> Path:
    """BOT_CREDENTIALS_FILE, else beside the key file. Raises SettingsError where neither is set."""
    if settings.credentials_file is not None:
        return settings.credentials_file
    if settings.key_file is None:
        raise SettingsError(
            "BOT_CREDENTIALS_FILE and BOT_KEY_FILE are not set; the credentials have no place (docs/how-to/live.md)"
        )
    return settings.key_file.with_name(f"{settings.key_file.name}.credentials")


def read_credentials(path: Path, key: str) -> Credentials:
    """The stored credentials of a key. Raises SettingsError: missing, unreadable, or of another key."""
    credentials, address = read_stored(path)
    if address.lower() != signer_address(key).lower():
        raise SettingsError(
            f"the credentials in {path} belong to {address}, the key is of {signer_address(key)}: "
            "name the right files in BOT_KEY_FILE and BOT_CREDENTIALS_FILE"
        )
    return credentials


def read_stored(path: Path) -> tuple[Credentials, str]:
    """The stored credentials, and the address of the key that they belong to. Raises SettingsError: missing, unreadable."""
    if not path.exists():
        raise SettingsError(
            f"there are no API credentials at {path}: run `./ns credentials` once (docs/how-to/live.md)"
        )
    try:
        payload = json.loads(read_secret(path, "credentials file", "what `./ns credentials` wrote"))
        credentials = Credentials(
            key=str(payload["key"]), secret=str(payload["secret"]), passphrase=str(payload["passphrase"])
        )
        address = str(payload["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"the credentials file {path} cannot be read ({type(error).__name__}); "
            "move it away and run `./ns credentials` again"
        ) from None
    return credentials, address


def read_relayer_key(path: Path | None) -> RelayerKey | None:
    """The relayer's key, as the venue's site gives it; None where none is named. Raises SettingsError."""
    if path is None:
        return None
    text = read_secret(path, "relayer key file", 'JSON {"key": ..., "address": ...}')
    return relayer_key_of(text, f"the relayer key file {path}")


def relayer_key_of(text: str, where: str) -> RelayerKey:
    """The relayer's key out of its JSON. where: for errors. Raises SettingsError."""
    try:
        payload = json.loads(text)
        return RelayerKey(key=str(payload["key"]), address=str(payload["address"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f'{where} must hold JSON {{"key": ..., "address": ...}} ({type(error).__name__})') from None


def store_credentials(settings: BotSettings, key: str, *, may_create: bool) -> str:
    """Derive the credentials and store them, durably and once; returns a sentence for people.

    Raises SettingsError: there is a file already that is of another key, the venue has none to derive, or it refused.
    """
    path = credentials_path(settings)
    if path.exists():
        read_credentials(path, key)
        return f"the API credentials of {signer_address(key)} are stored in {path} already; nothing was changed"
    clob = endpoints(settings).venue.clob
    try:
        credentials = asyncio.run(derive_credentials(clob, key, may_create=may_create, time_limit_s=15.0))
    except NoCredentialsError as error:
        raise SettingsError(
            f"there are no API credentials of {signer_address(key)} yet ({error}); sign in with this wallet on the venue's site "
            "once, or run `./ns credentials --create` (it invalidates any other key of this wallet)"
        ) from error
    except VenueError as error:
        raise SettingsError(f"{error}; nothing was stored, try again") from error
    try:
        _write_once(path, content_of(credentials, signer_address(key)))
    except OSError as error:
        raise SettingsError(f"the credentials could not be stored at {path} ({error.strerror})") from error
    return f"the API credentials of {signer_address(key)} are stored in {path} (mode 0600)"


def content_of(credentials: Credentials, address: str) -> str:
    """What is stored. address: of the key that they belong to."""
    content = {"schema": _SCHEMA, "address": address, **dataclasses.asdict(credentials)}
    return json.dumps(content)


def _write_once(path: Path, text: str) -> None:
    """Make a file of mode 0600, whole and durable or not at all; never over another one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    finally:
        fresh.unlink()
