"""The bot's settings (prefix BOT_) and its key."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, timeframe_seconds
from bus import SettingsError

CHAIN = "137"
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


class BotSettings(BaseSettings):
    """Settings of one instance.

    poll_interval, request_limit: seconds. color, sha, unit, deploy_id are given by the deployer.
    resend: which orders in doubt are sent again with identical bytes: exits only, or entries too.
    """

    model_config = SettingsConfigDict(env_prefix="BOT_")

    venue: Literal["paper"] = "paper"
    paper_url: str = "http://127.0.0.1:8700"
    key_file: Path | None = None
    poll_interval: float = Field(default=5.0, ge=0.05, le=300)
    assets: Annotated[tuple[str, ...], NoDecode] = DEFAULT_ASSETS
    timeframes: Annotated[tuple[str, ...], NoDecode] = DEFAULT_TIMEFRAMES
    request_limit: float = Field(default=5.0, gt=0, le=30)
    resend: Literal["exits", "entries"] = "exits"
    color: str = "blue"
    sha: str = "none"
    unit: str = ""
    deploy_id: str = ""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)

    @field_validator("assets", "timeframes", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

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


def _checked(path: Path) -> str:
    try:
        found = path.stat()
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the key file {path} cannot be read ({error}); it must hold 64 hex digits") from error
    if found.st_mode & 0o177 or found.st_uid != os.geteuid():
        raise SettingsError(
            f"the key file {path} has mode {found.st_mode & 0o777:04o} and owner {found.st_uid}; "
            f"expected 0600 or 0400 and owner {os.geteuid()}: chmod 600 it"
        )
    if not _KEY.fullmatch(text):
        raise SettingsError(f"the key file {path} must hold 64 hex digits and nothing else")
    return text if text.startswith("0x") else f"0x{text}"
