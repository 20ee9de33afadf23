"""The market channel against the paper exchange, and live prices recorded as a tape, over real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import structlog

from bot.market_data.books import TOP, Books
from bot.market_data.market_channel import BookEvent, Change, MarketChannel
from bot.venue.stream import Stream, Timing
from bot.venue.types import BASE_UNITS, Book
from paper.engine.feed import load_tape
from recording.cli import main
from tests import patience
from tests.forked import Forked
from tests.wire.conftest import LIMIT_S, StartPaper, until


def boot_ms() -> int:
    """CLOCK_BOOTTIME in ms."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


async def shown(client: httpx.AsyncClient, token: str) -> list[dict[str, int]]:
    """The best bids and asks of the book as REST shows it (best last): price to base units."""
    book = (await client.get(f"/book?token_id={token}")).json()
    return [
        {str(float(row["price"])): round(float(row["size"]) * BASE_UNITS) for row in book[side][-TOP:]}
        for side in ("bids", "asks")
    ]


async def test_streamed_books_stay_the_venues_through_a_break(start_paper: StartPaper) -> None:
    """Books made of the stream's events are those that REST shows, also after the stream broke while they changed."""
    paper = start_paper(seed=3, taker_delay=0)
    tokens = paper.market()["tokens"]
    books = Books(boot_ms)
    changes = lost = 0

    def take(event: BookEvent) -> None:
        nonlocal changes
        if isinstance(event, Book):
            books.take(event)
        elif isinstance(event, Change):
            changes += books.change(event)

    def on_lost() -> None:
        nonlocal lost
        lost += 1
        books.lost()

    channel = MarketChannel(
        Stream(
            "market_channel",
            f"{paper.ws_url}/ws/market",
            timing=Timing(stale_after_s=25, look_s=0.05, ping_s=0.2, first_wait_s=0.05),
            random=lambda: 0.5,
            log=structlog.get_logger(),
        ),
        wanted=lambda: tokens,
        on_event=take,
        on_lost=on_lost,
    )
    client = httpx.AsyncClient(base_url=paper.url, timeout=LIMIT_S, verify=False)  # made once: it costs much
    task = asyncio.create_task(channel.run())

    async def agree() -> bool:
        for token in tokens:
            theirs = await shown(client, token)
            book = books.get(token)
            if book is None or books.missing([token]):
                return False
            ours = [{str(level.price.normalize()): level.size for level in side} for side in (book.bids, book.asks)]
            if ours != theirs:
                return False
        return True

    async def changed_more(than: int) -> bool:
        return changes > than

    try:
        await until(agree)
        await until(lambda: changed_more(40))
        await until(agree)
        paper.fault(kind="drop_streams", path="/ws/market")

        async def broke() -> bool:
            return lost > 0 and channel.stream.connects > 1

        await until(broke)
        before = changes
        await until(lambda: changed_more(before + 40))
        await until(agree)
        assert channel.stream.is_open
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


def test_live_prices_are_recorded_as_a_tape(start_paper: StartPaper, tmp_path: Path) -> None:
    """`./ns record` records until it is interrupted; a tape of each asset, which paper and replay can read, is made of that."""
    paper = start_paper(seed=4)
    environment = {"BOT_PAPER_URL": paper.url, "BOT_ASSETS": "BTC,ETH", "PATH": "/usr/bin:/bin"}
    recorded, tapes = tmp_path / "recordings", tmp_path / "tapes"
    path = tapes / "btc-1s.csv"
    command = ["bot", "record", "--out", str(recorded)]
    log = tmp_path / "record.log"
    bot = Forked(command, environment=environment, stdout=log, stderr=log)
    try:
        deadline = patience.now() + 2 * LIMIT_S
        while not path.exists() or len(path.read_text().splitlines()) < 5:
            assert patience.now() < deadline, "no bars came"
            time.sleep(0.5)
            main(["tape", str(recorded), "--out", str(tapes)])  # of what is whole by now
        bot.send_signal(signal.SIGINT)
        assert bot.wait(LIMIT_S) == 0
        assert main(["tape", str(recorded), "--out", str(tapes)]) == 0
    finally:
        bot.kill()
    assert "recording BTC, ETH" in log.read_text()
    assert len(load_tape(path).bars) >= 4
    tape = load_tape(tapes / "eth-1s.csv")
    assert tape.length_ms == 1_000
    klines = json.loads(httpx.get(f"{paper.url}/api/v3/klines?symbol=ETHUSDT&interval=1s&limit=1000").text)
    closes = {row[0]: float(row[4]) for row in klines}
    both = [bar for bar in tape.bars[1:-1] if bar.time_ms in closes]
    assert both, "the same seconds are in both"
    assert all(abs(bar.close - closes[bar.time_ms]) / bar.close < 1e-2 for bar in both)
