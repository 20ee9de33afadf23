"""Whom to tell, of what, and when not: a part of the panel's settings (PANEL_NOTIFY_*)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from panel.notify.messages import Quiet, parse_kinds, parse_quiet
from panel.notify.notices import Kind


class NotifySettings(BaseSettings):
    """Nobody is told while notify_file is not set.

    notify_file: a file of apprise's addresses, one a line, that nobody but its owner may read. notify_kinds: what is told, names
    separated by commas; empty: everything. notify_quiet: a time of day in which only what is urgent is sent, such as
    "22:00-07:00 Europe/Berlin"; UTC where no time zone is named.
    """

    model_config = SettingsConfigDict(env_prefix="PANEL_", validate_default=True)

    notify_file: Path | None = None
    notify_kinds: str = Field(default="", max_length=200)
    notify_quiet: str = Field(default="", max_length=100)

    @field_validator("notify_kinds")
    @classmethod
    def _known_kinds(cls, text: str) -> str:
        parse_kinds(text)
        return text

    @field_validator("notify_quiet")
    @classmethod
    def _a_time_of_day(cls, text: str) -> str:
        parse_quiet(text)
        return text

    @property
    def kinds(self) -> frozenset[Kind]:
        """What is told."""
        return parse_kinds(self.notify_kinds)

    @property
    def quiet(self) -> Quiet | None:
        """When only what is urgent is sent, or None."""
        return parse_quiet(self.notify_quiet)
