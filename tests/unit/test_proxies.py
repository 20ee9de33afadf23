"""Proxies in the environment: never before what is on this machine, in any command."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from bot.venue.polymarket.client import NOWHERE as NOWHERE_AT_ALL
from bot.venue.polymarket.client import BoundedClient, is_local
from tests.forked import ROOT

NOWHERE = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), NOWHERE)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers everything with an empty object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name of the base class
        """Nothing is printed."""


@contextmanager
def server() -> Iterator[str]:
    """A server on this machine; its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.parametrize("begin", ["bus.main", "paper.stdio"])
@pytest.mark.parametrize("proxies", [PROXIES, {**PROXIES, "NO_PROXY": "example.test"}])
def test_no_command_asks_a_proxy_for_this_machine(begin: str, proxies: dict[str, str]) -> None:
    """With proxies set that lead nowhere, and whatever else goes without one already; other hosts are asked by it as before."""
    with server() as url:
        code = (
            f"from {begin} import begin; begin(); import urllib.request as r; "
            f"print(r.urlopen({url!r}, timeout=10).status, r.getproxies()['http'], r.proxy_bypass('example.com'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **proxies},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.stdout.split() == ["200", NOWHERE, "False"], done.stderr


@pytest.mark.parametrize("begin", ["bus.main", "paper.stdio"])
def test_what_goes_without_a_proxy_can_be_read_by_the_venues_client(begin: str) -> None:
    """httpx ends with an error where NO_PROXY has an address in brackets; then no bot could ask for its credentials."""
    code = f"from {begin} import begin; begin(); import httpx; httpx.AsyncClient(); print('made')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["made"], done.stderr


async def test_the_venues_client_on_this_machine_knows_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one whose library is missing, as for SOCKS: the client is made and gets its answer."""
    for name in PROXIES:
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    with server() as url:
        async with BoundedClient(base_url=url, trust_env=not is_local(url)) as client:
            assert (await client.get("/")).status_code == httpx.codes.OK


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8700", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8700/x", True),
        ("http://localhost:1", True),
        ("http://paper:8700", True),
        (NOWHERE_AT_ALL, True),  # a SOCKS proxy whose library is missing ended the bot at its client
        ("https://clob.polymarket.com", False),
        ("http://192.168.1.2", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_what_is_local(url: str, local: bool) -> None:
    """Loopback in every spelling, and the names of containers."""
    assert is_local(url) is local
