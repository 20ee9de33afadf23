"""How much a bot asks of the venue: counted on the way to a real paper exchange, an instance at a time."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bus import Role, SystemClock, write_control
from tests.e2e.rig import CONFIRMED, Bot, Rig, until

_REQUEST = re.compile(rb"(GET|POST|DELETE|PUT) (/[^ ?]*)[^\r\n]* HTTP/1\.1\r\n")
MEASURED_S = 45.0
STEADY_PER_S, MOST_IN_A_SECOND = 5.0, 10


class CountingProxy:
    """Passes connections on to an address, and notes when each request went by and of what. Streams are passed on as they are."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to = (parts.hostname or "", parts.port or 0)
        self.requests: list[tuple[float, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="counting-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", 0), self._loop
        ).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Listen no longer."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._to)
        await asyncio.gather(
            self._pass_on(reader, there_writer, is_asking=True), self._pass_on(there_reader, writer, is_asking=False)
        )

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_asking: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if is_asking:
                    for _, path in _REQUEST.findall(data):
                        self.requests.append((time.monotonic(), path.decode()))
                writer.write(data)
                await writer.drain()
        writer.close()


def has(rig: Rig, bot: Bot, role: Role | None = None) -> bool:
    """Whether a bot is healthy, and in that role."""
    seen = rig.seen(bot)
    document = None if seen is None else seen.document
    return document is not None and document.healthy and role in (None, document.role)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Sixteen slots whose windows begin every 30 s, whose strikes come late or never, and that resolve late."""
    for name, value in {
        "STRIKE_DELAY": "20",
        "STRIKE_SPREAD": "1",
        "RESOLUTION_DELAY": "15",
        "TIMEFRAMES": "30s,90s",
    }.items():
        monkeypatch.setenv(f"PAPER_{name}", value)
    made = Rig(tmp_path, interval=1.0, timeframes="30s,90s")
    yield made
    made.stop()


# The defaults, which the rig replaces.
AS_EVER = {"BOT_REQUESTS_PER_SECOND": "4.2", "BOT_BASIS_AFTER": "20"}


def test_no_instance_asks_for_more_than_the_venue_allows_many(rig: Rig) -> None:
    """Trader, spare and candidate, while strikes are awaited: 5 requests a second on average, and 10 in any second.

    Recorded before: 48 a second while strikes were awaited (every window twice a second, with two requests each).
    """
    write_control(rig.bus, 1, lambda found: found.changed(strategy={}), by="test", clock=SystemClock())
    proxies = [CountingProxy(rig.paper.url) for _ in range(3)]
    shas = (CONFIRMED, CONFIRMED, "b" * 40)
    bots = [
        rig.start_bot(sha, "green" if sha != CONFIRMED else "blue", BOT_PAPER_URL=proxy.url, **AS_EVER)
        for sha, proxy in zip(shas, proxies, strict=True)
    ]
    until("one trades", lambda: any(has(rig, bot, role=Role.ACTIVE) for bot in bots))
    until("all are ready", lambda: all(has(rig, bot) for bot in bots))
    began = time.monotonic() + 5
    time.sleep(MEASURED_S + 5)  # what is measured is a rate: time is the event
    for number, proxy in enumerate(proxies):
        # Orders have a budget of their own (BOT_ORDERS_PER_SECOND).
        made = [row for row in proxy.requests if began <= row[0] < began + MEASURED_S and row[1] != "/order"]
        paths = Counter(re.sub(r"/(0x)?[0-9a-z-]{12,}.*", "/...", path) for _, path in made)
        assert len(made) / MEASURED_S <= STEADY_PER_S, (number, paths)
        times = [at for at, _ in made]
        busiest = max((sum(at <= other < at + 1 for other in times) for at in times), default=0)
        assert busiest <= MOST_IN_A_SECOND, (number, busiest, paths)
        assert made, "the bot asks through the proxy"
    for proxy in proxies:
        proxy.stop()
