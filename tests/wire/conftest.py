"""A real exchange in a process of its own, and the real clients pointed at it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import polymarket
import pytest
from eth_account import Account
from polymarket._internal.environment import create_environment, get_environment_config
from polymarket.environments import PRODUCTION, Environment

from tests import patience
from tests.forked import Forked, listening
from tests.plain import PLAIN

LIMIT_S = 30  # of every wait: a busy machine is slow


@dataclasses.dataclass
class Paper:
    """One running exchange."""

    process: Forked
    url: str
    data: Path
    log: Path

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def environment(self) -> Environment:
        """polymarket-client's environment with nothing but its addresses changed (venue.md 1.4)."""
        config = dataclasses.replace(
            get_environment_config(PRODUCTION),
            clob_url=self.url,
            gamma_url=self.url,
            relayer_url=self.url,
            data_url=self.url,
            clob_market_ws_url=self.ws_url + "/ws/market",
            clob_user_ws_url=self.ws_url + "/ws/user",
            rtds_ws_url=self.ws_url + "/rtds",
            realtime_ws_url=self.ws_url + "/polybolt",
            rpc_url=self.url + "/rpc",
        )
        return create_environment(name="paper", config=config)

    def get(self, path: str) -> Any:
        answer = httpx.get(self.url + path, timeout=LIMIT_S)
        answer.raise_for_status()
        return answer.json()

    def fault(self, **order: object) -> None:
        httpx.post(self.url + "/paper/faults", json=order, timeout=LIMIT_S).raise_for_status()

    def approve(self, wallet: str) -> None:
        httpx.post(self.url + "/paper/approvals", json={"wallet": wallet}, timeout=LIMIT_S).raise_for_status()

    def clear_faults(self) -> None:
        httpx.delete(self.url + "/paper/faults", timeout=LIMIT_S).raise_for_status()

    def market(self, asset: str = "btc") -> dict[str, Any]:
        """A market whose window has not begun and does not begin while a test runs: its fair price is a half."""
        start = (int(time.time()) // 900 + 2) * 900
        event = self.get(f"/events/slug/{asset}-updown-15m-{start}")
        found: dict[str, Any] = event["markets"][0]
        found["tokens"] = json.loads(found["clobTokenIds"])
        return found

    def window(self) -> str:
        """The slug of a window of 5 s that lets a test trade for 7 s or more before it ends, and does not outlast 12."""
        now_ms = self.get("/paper/state")["now_ms"]
        return f"btc-updown-5s-{(now_ms + 2_000 + 4_999) // 5_000 * 5}"

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(LIMIT_S)


StartPaper = Callable[..., Paper]


@pytest.fixture(scope="module")
def start_paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPaper]:
    """Start plain exchanges; options are those of the command line."""
    started: list[Paper] = []

    def start(data: Path | None = None, **options: object) -> Paper:
        folder = data or tmp_path_factory.mktemp("paper")
        flags = [
            part for name, value in (PLAIN | options).items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        log = tmp_path_factory.mktemp("log") / "paper.log"
        command = ["paper", "serve", "--port", "0", "--data", str(folder), *flags]
        process = Forked(command, environment=os.environ, stdout=log, stderr=log)
        started.append(Paper(process, listening(process, log)["url"], folder, log))
        return started[-1]

    yield start
    for paper in started:
        paper.process.kill()
        paper.process.wait(LIMIT_S)


@pytest.fixture(scope="module")
def quiet(start_paper: StartPaper) -> Paper:
    """An exchange without market maker and crowd: nothing trades but the tests' own accounts."""
    return start_paper(house="off", taker_delay=0, settle_time=0.2, rate_tier="none")


Connect = Callable[..., Awaitable[polymarket.AsyncSecureClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make polymarket-client clients; each is a new account unless a key is given."""
    opened: list[polymarket.AsyncSecureClient] = []

    async def make(paper: Paper, **options: Any) -> polymarket.AsyncSecureClient:
        options.setdefault("private_key", "0x" + Account.create().key.hex().removeprefix("0x"))
        client = await polymarket.AsyncSecureClient.create(environment=paper.environment, **options)
        opened.append(client)
        return client

    yield make
    for client in opened:
        await client.close()


async def until(ready: Callable[[], Awaitable[Any]], limit_s: float = LIMIT_S) -> Any:
    """Ask again, every 20 ms, until the answer is true."""
    deadline = patience.now() + limit_s
    while not (answer := await ready()):
        assert patience.now() < deadline, "it did not become true in time"
        await asyncio.sleep(0.02)
    return answer


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Wait for a condition with a time limit."""
    return until
