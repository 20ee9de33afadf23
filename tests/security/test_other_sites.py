"""A page of another site, in a browser on this machine, reads nothing of what listens here and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from bus.tasks import is_own_name, serve_metrics
from paper.engine.exchange import Exchange
from paper.engine.record import Record
from paper.settings import Settings
from paper.wire import door
from paper.wire.app import make_app
from tests.unit.panel.running import running_panel

ELSEWHERE = {"Host": "elsewhere.example:8700"}


@pytest_asyncio.fixture
async def paper(tmp_path: Path) -> AsyncIterator[str]:
    """An exchange's address."""
    record = Record(tmp_path / "paper")
    exchange = Exchange(
        Settings.model_validate({"port": 0, "hosts": "paper.example"}), record, {}, lambda: 1_800_000_000_000
    )
    app, sockets = make_app(exchange)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await sockets.close_all()
    await runner.cleanup()
    record.close()


@pytest.mark.parametrize("path", ["/paper", "/paper/view", "/paper/record", "/book?token_id=1", "/metrics"])
async def test_the_exchange_answers_no_foreign_name(paper: str, path: str) -> None:
    """By DNS rebinding a page has a name of its own at this address."""
    async with aiohttp.ClientSession() as session, session.get(paper + path, headers=ELSEWHERE) as answer:
        assert answer.status == 403
        assert "PAPER_HOSTS" in await answer.text()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]:8700", "paper:8700", "paper.example", "LOCALHOST:8700"])
async def test_the_exchange_answers_its_own_names(paper: str, host: str) -> None:
    """Addresses, a container's name, and what PAPER_HOSTS names."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{paper}/paper/state", headers={"Host": host}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_the_exchange_takes_no_body_that_a_form_can_send(paper: str, kind: str) -> None:
    """A page may send these to any address without being asked; a fault that it arms would be a loss on paper."""
    body = b'{"kind": "error"}'
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        headers = {"Content-Type": kind} if kind else {}
        async with session.post(f"{paper}/paper/faults", data=body, headers=headers) as answer:
            assert answer.status == 415
        async with session.get(f"{paper}/paper/state") as answer:
            assert (await answer.json())["faults"] == []
        json = {"Content-Type": "application/json"}
        async with session.post(f"{paper}/paper/faults", data=body, headers=json) as answer:
            assert answer.status == 200


async def test_metrics_of_bots_and_deployer_answer_no_foreign_name() -> None:
    """They say what is traded and how much."""
    runner, address = await serve_metrics(lambda: b"exposure 12\n", "127.0.0.1", 0, "trader.example")
    try:
        async with aiohttp.ClientSession() as session:
            for host, status in (("elsewhere.example", 403), ("trader.example:1", 200), ("bot-1", 200), (address, 200)):
                async with session.get(f"http://{address}/metrics", headers={"Host": host}) as answer:
                    assert answer.status == status, host
                    assert (b"exposure" in await answer.read()) == (status == 200)
    finally:
        await runner.cleanup()


def test_metrics_of_the_panel_answer_no_foreign_name(tmp_path: Path) -> None:
    """They need no token, so a name is asked for all the more."""
    with running_panel(tmp_path) as panel:
        for host, status in (("elsewhere.example", 403), ("panel:8701", 200), ("127.0.0.1", 200)):
            assert panel.call("GET", "/metrics", token="", headers={"Host": host}).status == status


@pytest.mark.parametrize(
    "name", ["a.b", "127.0.0.1.elsewhere.example", "localhost.example", "[::1", "1.2.3.4.5", "x@y.z"]
)
def test_what_is_no_address_and_no_own_name_is_foreign(name: str) -> None:
    """Both doors decide alike."""
    expected = name == "[::1"  # an address, cut off
    assert is_own_name(name) == door.is_own_name(name, frozenset()) == expected
