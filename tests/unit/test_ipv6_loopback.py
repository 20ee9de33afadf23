"""Addresses of IPv6's loopback, where one is taken and where one is announced."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from bus.tasks import serve_metrics
from panel.server import PanelSettings, bind
from paper.cli import _listen
from paper.settings import Settings


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_metrics_are_announced_as_they_can_be_asked(host: str) -> None:
    """With brackets, so that the address is no other one with more colons."""
    runner, address = await serve_metrics(lambda: b"", host, 0)
    try:
        assert address.startswith("[::1]:")
        assert urlsplit(f"http://{address}/metrics").port == runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_the_exchange_and_the_panel_take_and_announce_it(host: str, tmp_path: Path) -> None:
    """PAPER_HOST and PANEL_HOST, with and without brackets."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        url = await _listen(runner, Settings.model_validate({"host": host, "port": 0}))
    finally:
        await runner.cleanup()
    assert url.startswith("http://[::1]:")
    assert urllib.request.Request(url).host.startswith("[::1]:")
    sock = bind(PanelSettings(host=host, port=0, token_file=tmp_path / "token"))
    assert sock.getsockname()[0] == "::1"
    sock.close()
