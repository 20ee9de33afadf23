"""What runs beside the work: guarded tasks, whose end is noticed, and /metrics over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from bus import Log
from bus.main import url_host


class Guard:
    """Starts named tasks; `on_failure` is called once for each that ends without being cancelled."""

    def __init__(self, log: Log, on_failure: Callable[[Exception], None]) -> None:
        self._log, self._on_failure = log, on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failure: Exception | None = None
        """of the first that ended"""

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run `work` until `close`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel all and wait for them."""
        tasks, self._tasks = list(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task not in self._tasks:
            return
        self._tasks.discard(task)
        error = task.exception() or RuntimeError(f"the task {task.get_name()} ended; it should run for ever")
        if not isinstance(error, Exception):  # a KeyboardInterrupt, say: not ours to judge
            raise error
        self._log.error("task_failed", task=task.get_name(), reason=f"{type(error).__name__}: {error}", exc_info=error)
        self.failure = self.failure or error
        self._on_failure(error)


# /metrics over HTTP, at the address that an instance's document names.


_KNOWN = frozenset({"host.docker.internal"})  # how a container names the machine that it runs on


def is_own_name(host: str, more: frozenset[str] = frozenset()) -> bool:
    """Whether a Host header is an address, a name without a dot (this machine's, a container's), or one of `more`.

    A page of another site can bring a name of its own to this address and read the answers (DNS rebinding), but none of these.
    """
    if not host:  # no browser leaves it out
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(".localhost") or name in more | _KNOWN
    return True


async def serve_metrics(text: Callable[[], bytes], host: str, port: int, names: str = "") -> tuple[web.AppRunner, str]:
    """Serve what `text` returns at each scrape; port 0 takes a free one. Raises OSError when the port is busy.

    names: further host names by which it is scraped, separated by commas.
    Returns the runner (clean it up at the end) and host:port, an IPv6 address in brackets.
    """

    more = frozenset(name.strip().lower() for name in names.split(",") if name.strip())

    async def answer(request: web.Request) -> web.Response:
        if not is_own_name(request.headers.get("Host", ""), more):
            raise web.HTTPForbidden(
                text="this host name is not allowed; scrape by an address, or name it in *_METRICS_HOSTS\n"
            )
        return web.Response(body=text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), port).start()
    except OSError:
        await runner.cleanup()
        raise
    bound, number = runner.addresses[0][:2]
    return runner, f"{url_host(bound)}:{number}"
