"""/metrics over HTTP, at the address that an instance's document names."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST


async def serve_metrics(text: Callable[[], bytes], host: str, port: int) -> tuple[web.AppRunner, str]:
    """Serve what `text` returns at each scrape; port 0 takes a free one. Raises OSError when the port is busy.

    Returns the runner (clean it up at the end) and host:port, an IPv6 address in brackets.
    """

    async def answer(_request: web.Request) -> web.Response:
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
    return runner, f"[{bound}]:{number}" if ":" in bound else f"{bound}:{number}"
