"""Whom to tell, of what, and when not: a part of the panel's settings (PANEL_NOTIFY_*)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from panel.notify.messages import Quiet, parse_kinds, parse_quiet
from panel.notify.notices import Kind


class NotifySettings(BaseSettings):
    """Whom to notify of what. Nobody is told while notify_file is not set."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True, env_prefix="PANEL_", validate_default=True)

    notify_file: Path | None = None
    """whom to notify: a file of apprise's addresses, one a line, mode 0600; unset: nobody (docs/how-to/notifications.md)"""
    notify_kinds: str = Field(default="", max_length=200)
    """of what, names comma-separated; empty: everything"""
    notify_quiet: str = Field(default="", max_length=100)
    """a time of day in which only what is urgent is sent, such as 22:00-07:00 Europe/Berlin; UTC where no zone is named"""

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
