"""Proxies in the environment: never before what is on this machine, in any command."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import bus.main
import paper.stdio
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


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        ("http://proxy.test:3128", True),
        ("https://ann:secret@proxy.test", True),
        ("http://[2001:db8::1]:3128", True),
        ("", True),
        ("socks5://ann:secret@proxy.test:1080", False),
        ("secret", False),
        ("secret:3128", False),
        ("ftp://secret.test", False),
        ("http://", False),
        ("http://ann:sec ret@[::1", False),
        ("http://proxy.test:secret", False),
        ("http://secret.test:0", False),
    ],
)
@pytest.mark.parametrize("check", [bus.main.check_proxies, paper.stdio.check_proxies])
def test_a_proxy_that_cannot_be_used_is_named_without_its_words(
    check: Callable[[Mapping[str, str]], None], value: str, is_good: bool
) -> None:
    """They may have a password."""
    if is_good:
        check({"ALL_PROXY": value})
        return
    with pytest.raises(ValueError, match="in ALL_PROXY") as refused:
        check({"ALL_PROXY": value})
    assert not {"secret", "sec ret"} & set(re.split(r"[^a-z ]", str(refused.value)))


@pytest.mark.parametrize("words", [("bot",), ("paper", "--mirror")])
def test_who_must_go_out_through_a_bad_proxy_says_so_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    """A live bot ended with a traceback of httpx, and so did a mirror of the real exchange."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "https_proxy": "socks5://127.0.0.1:9", "BOT_VENUE": "live", "BUS_DIR": str(tmp_path),
             "BOT_KEY_FILE": str(tmp_path / "key"), "PAPER_DATA": str(tmp_path / "paper")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), "in https_proxy" in done.stderr) == (2, 1, True), done.stderr
