"""The settings of the panel (prefix PANEL_)."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class PanelSettings(BaseSettings):
    """Where the panel listens and who may reach it.

    behind_proxy: declares that a proxy with TLS, or Compose publishing on 127.0.0.1, stands in front. tls_cert, tls_key: PEM
    files to serve HTTPS with. Any host but loopback needs one of the two. host: the address to listen on. port: 0 for any free
    one. hosts: further host names, separated by commas, by which people reach the page. token_file: the tokens that allow
    writing; read_token_file: those that allow looking alone (token_file with "-read" at its end unless set); made when missing.
    """

    model_config = SettingsConfigDict(env_prefix="PANEL_", validate_default=True)

    behind_proxy: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8701, ge=0, le=65535)
    hosts: str = ""
    token_file: Path = Path(".run/panel-token")
    read_token_file: Path | None = None

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if (key is None) != (info.data.get("tls_cert") is None):
            raise ValueError("expected PANEL_TLS_CERT and PANEL_TLS_KEY both, or neither")
        for name in (key, info.data.get("tls_cert")):
            if name is not None and not os.access(name, os.R_OK):
                raise ValueError(f"expected a PEM file that can be read, found none at {name}")
        return key

    @field_validator("host")
    @classmethod
    def _loopback_unless_protected(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("behind_proxy") and not info.data.get("tls_cert") and not _is_loopback(host):
            raise ValueError(
                "expected a loopback address such as 127.0.0.1; for any other set PANEL_TLS_CERT and PANEL_TLS_KEY, or put a "
                "proxy with TLS in front and declare it with PANEL_BEHIND_PROXY=true"
            )
        return host

    @property
    def read_tokens(self) -> Path:
        """Where the tokens are that allow looking alone."""
        return self.read_token_file or self.token_file.with_name(f"{self.token_file.name}-read")

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
