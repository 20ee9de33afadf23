"""Which addresses are of this machine or of the same network of containers: no proxy ever stands before them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_local(url: str) -> bool:
    """Whether a URL's host is a loopback address, localhost, or a name without a dot, as containers call each other."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or "." not in host
