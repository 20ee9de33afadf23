"""Who may ask the exchange at all: no page of another site in a browser on this machine.

Such a page can send forms and plain text anywhere, and by DNS rebinding it can bring a name of its own to this address and
read the answers. So a request must name an address, a name without a dot, or one of PAPER_HOSTS, and a body must say that it
is JSON, which a page of another site may not do unasked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

_JSON = "application/json"
_KNOWN = frozenset({"host.docker.internal"})  # how a container names the machine that it runs on

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def door(hosts: frozenset[str]) -> Middleware:
    """The middleware before all others."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not is_own_name(request.headers.get("Host", ""), hosts):
            return _refused(403, "this host name is not allowed; ask by 127.0.0.1, or add the name to PAPER_HOSTS")
        if request.can_read_body and request.content_type != _JSON:
            return _refused(415, f"expected a body of type {_JSON}")
        return await handler(request)

    return check


def is_own_name(host: str, more: frozenset[str]) -> bool:
    """Whether a Host header is an address, a name without a dot (this machine's, a container's), or one of `more`."""
    if not host:  # no browser leaves it out
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost") or name in more | _KNOWN
    return True


def _refused(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
