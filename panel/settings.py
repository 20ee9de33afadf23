"""The settings of the panel (prefix PANEL_)."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class PanelSettings(BaseSettings):
    """Where the panel listens and who may reach it.

    behind_proxy: declares that a proxy with TLS, or Compose publishing on 127.0.0.1, stands in front; needed for any host
    but loopback. host: the address to listen on. port: 0 for any free one. hosts: further host names, separated by commas,
    by which people reach the page. token_file: where the token is; made when missing.
    """

    model_config = SettingsConfigDict(env_prefix="PANEL_")

    behind_proxy: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=8701, ge=0, le=65535)
    hosts: str = ""
    token_file: Path = Path(".run/panel-token")

    @field_validator("host")
    @classmethod
    def _loopback_unless_behind_proxy(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("behind_proxy") and not _is_loopback(host):
            raise ValueError(
                "expected a loopback address such as 127.0.0.1; for any other put a proxy with TLS in front "
                "and declare it with PANEL_BEHIND_PROXY=true"
            )
        return host

    def allowed_hosts(self) -> frozenset[str]:
        """Host names, without ports, that requests may name."""
        return LOOPBACK_NAMES | {name.strip().lower() for name in self.hosts.split(",") if name.strip()}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
