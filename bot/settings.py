"""The bot's settings (prefix BOT_) and its key."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, timeframe_seconds
from bus import SettingsError, read_named
from bus.main import check_proxies, loopback, url_host

CHAIN = "137"
_URLS = (
    "clob_url",
    "gamma_url",
    "relayer_url",
    "data_url",
    "market_ws_url",
    "user_ws_url",
    "prices_ws_url",
    "binance_url",
    "binance_ws_url",
)
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class BotSettings(BaseSettings):
    """Settings of one instance. Times are seconds."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="BOT_")

    venue: Literal["paper", "live"] = "paper"
    """paper takes every host from BOT_PAPER_URL, live the official ones; a `_url` that is set wins (docs/how-to/live.md)"""
    paper_url: str = Field(default_factory=lambda: f"http://{url_host(loopback())}:8700")
    """where the paper exchange is"""
    clob_url: str | None = None
    """the exchange (CLOB). Live takes https and wss alone, but for this machine itself"""
    gamma_url: str | None = None
    """the catalogue of markets (Gamma)"""
    relayer_url: str | None = None
    """the relayer, for redemption"""
    data_url: str | None = None
    """the Data API, for positions"""
    market_ws_url: str | None = None
    """stream of books and trades"""
    user_ws_url: str | None = None
    """stream of this account's orders and trades"""
    prices_ws_url: str | None = None
    """stream of settlement prices (RTDS)"""
    binance_url: str | None = None
    """lead prices of the past"""
    binance_ws_url: str | None = None
    """stream of lead prices"""
    key_file: Path | None = None
    """the wallet's private key, 64 hex digits, mode 0600 (docs/how-to/live.md)"""
    credentials_file: Path | None = None
    """the API credentials; KEYFILE.credentials beside the key when unset"""
    relayer_key_file: Path | None = None
    """JSON {"key", "address"}, mode 0600: the relayer's key, for redemption"""
    key_socket: Path | None = None
    """where keys come from instead, once this instance may trade; the deployer gives it (docs/reference/contract.md)"""
    wallet: str | None = None
    """whose money is traded; the key's own address when unset"""
    signature_type: int = Field(default=0, ge=0, le=3)
    """how orders of that wallet are signed: 0 EOA, 1 proxy, 2 Safe, 3 deposit wallet"""
    redeem: Literal["auto", "off"] = "auto"
    """whether won positions are redeemed that the venue did not pay"""
    redeem_after: float = Field(default=60.0, ge=0, le=86_400)
    """seconds that the venue has for paying"""
    orders_per_second: float = Field(default=20.0, gt=0, le=1000)
    """our own budget, below the venue's limit of 40 a signer (venue.md 4.1); a third of a burst is kept for exits"""
    requests_per_second: float = Field(default=4.2, gt=0, le=50)
    """our own budget of reading requests an instance, in the long run; Gamma allows 50 an address"""
    poll_interval: float = Field(default=5.0, ge=0.05, le=300)
    """seconds between two polls"""
    assets: Annotated[tuple[str, ...], NoDecode] = DEFAULT_ASSETS
    """what is traded, comma-separated"""
    timeframes: Annotated[tuple[str, ...], NoDecode] = DEFAULT_TIMEFRAMES
    """windows of each asset, comma-separated"""
    request_limit: float = Field(default=5.0, gt=0, le=30)
    """seconds that one request may take"""
    resend: Literal["exits", "entries"] = "exits"
    """which orders in doubt are sent again with identical bytes: exits alone, or entries too"""
    basis_after: float = Field(default=20.0, ge=1, le=600)
    """seconds of settlement prices from which a lead price's basis counts as known (docs/explanation/model.md)"""
    strategy: str = "bot.strategy.snipe:Snipe"
    """the class that decides, package.module:Class or path/to/file.py:Class (docs/how-to/strategy.md)"""
    color: str = "blue"
    """given by the deployer"""
    sha: str = "none"
    """given by the deployer"""
    unit: str = ""
    """given by the deployer"""
    deploy_id: str = ""
    """given by the deployer"""
    metrics_host: str = Field(default_factory=loopback)
    """address at which /metrics is served"""
    metrics_hosts: str = ""
    """further host names by which /metrics is scraped, comma-separated"""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """port of /metrics; 0 takes any free one"""

    @field_validator("assets", "timeframes", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("key_file", "credentials_file", "relayer_key_file", "key_socket", "wallet", *_URLS, mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("wallet")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
            raise ValueError("expected the wallet's address, 0x and 40 hex digits")
        return value

    @field_validator(*_URLS)
    @classmethod
    def _is_host(cls, value: str | None, info: ValidationInfo) -> str | None:
        scheme = "wss?" if (info.field_name or "").endswith("_ws_url") else "https?"
        if value is not None and not re.fullmatch(rf"{scheme}://[^\s?#]+", value):
            raise ValueError(
                f"expected a URL that begins with {scheme.replace('s?', '')}:// or {scheme.replace('?', '')}://"
            )
        # Orders, credentials and prices of a live account never go where anybody on the way may read or change them.
        if (
            value is not None
            and info.data.get("venue") == "live"
            and value.startswith(("http://", "ws://"))
            and urlsplit(value).hostname not in _THIS_MACHINE
        ):
            raise ValueError(f"expected a URL that begins with {scheme.replace('?', '')}://, since BOT_VENUE is live")
        return value and value.rstrip("/")

    @field_validator("venue")
    @classmethod
    def _can_go_out(cls, value: str) -> str:
        if value == "live":
            check_proxies(os.environ)
        return value

    @field_validator("paper_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s]+/?", value):
            raise ValueError(f"expected a URL such as http://127.0.0.1:8700, found {value!r}")
        return value.rstrip("/")

    @field_validator("assets")
    @classmethod
    def _known_assets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for asset in value:
            if not re.fullmatch(r"[A-Z]{2,6}", asset):
                raise ValueError(f"expected asset symbols such as BTC,ETH, found {asset!r}")
        if not value:
            raise ValueError("expected at least one asset, found none")
        return value

    @field_validator("timeframes")
    @classmethod
    def _known_timeframes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for timeframe in value:
            timeframe_seconds(timeframe)
        if not value:
            raise ValueError("expected at least one timeframe, found none")
        return value

    @property
    def interval_ms(self) -> int:
        """The poll interval in ms."""
        return round(self.poll_interval * 1000)


def read_key(settings: BotSettings, bus_directory: Path) -> str:
    """The private key, 0x and 64 hex digits.

    From BOT_KEY_FILE, which must belong to this user with mode 0400 or 0600; else, on paper, a key made once and kept on the
    bus, so that every instance trades for one wallet and a new bus has a new one.

    Raises SettingsError.
    """
    if settings.key_file is not None:
        return _checked(settings.key_file)
    if settings.venue == "live":
        raise SettingsError(
            "BOT_VENUE=live needs BOT_KEY_FILE: a file of mode 0600 that holds the wallet's private key (docs/how-to/live.md)"
        )
    path = bus_directory / "paper.key"
    try:
        # Linked into place, so that of two instances that start at once both read the same whole key.
        fresh = path.with_name(f".paper.key.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600, exist_ok=False)
        fresh.write_text(f"0x{secrets.token_hex(32)}\n")
        try:
            with suppress(FileExistsError):
                os.link(fresh, path)
        finally:
            fresh.unlink()
    except OSError as error:
        raise SettingsError(f"the key for paper could not be kept at {path} ({error.strerror})") from error
    return _checked(path)


def read_secret(path: Path, what: str, holds: str) -> str:
    """The text of a file that only this user may read. what, holds: for errors. Raises SettingsError."""
    try:
        stat = path.stat()
        text = read_named(path).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the {what} {path} cannot be read ({error}); it must hold {holds}") from error
    if stat.st_mode & 0o177 or stat.st_uid != os.geteuid():
        raise SettingsError(
            f"the {what} {path} has mode {stat.st_mode & 0o777:04o} and owner {stat.st_uid}; "
            f"expected 0600 or 0400 and owner {os.geteuid()}: chmod 600 it"
        )
    return text


def _checked(path: Path) -> str:
    return as_key(read_secret(path, "key file", "64 hex digits"), f"the key file {path}")


def as_key(text: str, where: str) -> str:
    """A private key, 0x and 64 hex digits. where: for errors. Raises SettingsError."""
    if not _KEY.fullmatch(text):
        raise SettingsError(f"{where} must hold 64 hex digits and nothing else")
    return text if text.startswith("0x") else f"0x{text}"
