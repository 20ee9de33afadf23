"""A mirror on the wire: of another paper, with its faults in between, and of a recording; played with real clients."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from paper.cli import main
from recording import Reader

LIMIT_S = 30
TIMEFRAME = "60s"


@pytest.fixture(scope="module")
def upstream(start_paper: Any) -> Any:
    """A busy exchange in the real one's place."""
    return start_paper(timeframes=TIMEFRAME, taker_delay=0.1)


@pytest.fixture(scope="module")
def mirror(start_paper: Any, upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    recording = tmp_path_factory.mktemp("recording")
    paper = start_paper(mirror=upstream.url, timeframes=TIMEFRAME, record_to=recording, settle_time=0.2)
    paper.recording = recording
    return paper


def slug() -> str:
    """The window after this one: it has its books, and does not end while a test runs."""
    return f"btc-updown-{TIMEFRAME}-{(int(time.time()) // 60 + 1) * 60}"


def market(paper: Any, name: str) -> dict[str, Any] | None:
    answer = httpx.get(f"{paper.url}/events/slug/{name}", timeout=LIMIT_S)
    return answer.json()["markets"][0] if answer.status_code == 200 else None


def page(paper: Any) -> str:
    return httpx.get(f"{paper.url}/paper", timeout=LIMIT_S).text


def levels(paper: Any, token: str) -> Any:
    book = paper.get(f"/book?token_id={token}")
    return book["bids"], book["asks"], book["tick_size"]


async def agree(eventually: Any, upstream: Any, mirror: Any) -> str:
    """Wait until both show the same book of both tokens; return the token of Up."""
    name = slug()

    async def known() -> Any:
        return market(mirror, name)

    tokens = json.loads((await eventually(known))["clobTokenIds"])

    async def same() -> bool:
        pairs = [(levels(upstream, token), levels(mirror, token), levels(upstream, token)) for token in tokens]
        return all(shown in (before, after) and shown[0] for before, shown, after in pairs)

    await eventually(same)
    return str(tokens[0])


async def test_a_mirror_shows_what_the_real_exchange_shows(upstream: Any, mirror: Any, eventually: Any) -> None:
    """Markets, books of both tokens, prices: the same; the page says in plain sight whose prices these are."""
    await agree(eventually, upstream, mirror)
    name = slug()
    shown, real = market(mirror, name), market(upstream, name)
    assert shown is not None
    assert real is not None
    same = ("conditionId", "clobTokenIds", "endDate", "orderPriceMinTickSize", "cryptoMarketConfig", "takerDelayMs")
    assert [shown[field] for field in same] == [real[field] for field in same]

    async def lead() -> bool:
        prices = [float(paper.get("/api/v3/ticker/price?symbol=BTCUSDT")["price"]) for paper in (upstream, mirror)]
        return abs(prices[0] / prices[1] - 1) < 1e-4

    await eventually(lead)
    assert mirror.get("/paper/view")["mirror"] == f"the exchange at {upstream.url}"
    assert "real prices, play money" in page(mirror)
    assert len(mirror.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1000")) > 900


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([{"kind": "drop_streams", "path": "/"}], id="dropped"),
        pytest.param([{"kind": "freeze_streams", "path": "/ws/market", "seconds": 2}], id="frozen"),
        pytest.param([{"kind": "lost_events", "path": "/ws/market", "seconds": 2}], id="lost"),
        pytest.param(
            [
                {"kind": "duplicate_events", "path": "/", "seconds": 2},
                {"kind": "reorder_events", "path": "/", "seconds": 2},
            ],
            id="twice and reordered",
        ),
        pytest.param([{"kind": "odd_events", "path": "/ws/market", "seconds": 2}], id="odd"),
        pytest.param(
            [
                {"kind": kind, "path": "/events", "method": "GET", "seconds": 2}
                for kind in ("lost_before", "rate_limited")
            ],
            id="lost answers",
        ),
    ],
)
async def test_after_every_fault_of_its_source_it_shows_the_same_again(
    faults: list[dict[str, object]], upstream: Any, mirror: Any, eventually: Any
) -> None:
    """Streams that break, stand still, lose, repeat and reorder, and answers that are lost: it finds back by itself."""
    await agree(eventually, upstream, mirror)
    for fault in faults:
        upstream.fault(**fault)
    await asyncio.sleep(0)
    deadline = time.monotonic() + 2

    async def over() -> bool:
        return time.monotonic() > deadline and not upstream.get("/paper/state")["faults"]

    await eventually(over)
    await agree(eventually, upstream, mirror)


async def test_an_order_is_filled_from_the_mirrored_book_and_nobody_else_sees_it(
    upstream: Any, mirror: Any, connect: Any, eventually: Any
) -> None:
    """The fill is of the real book's price and depth after the market's own delay; at the real exchange nothing happened."""
    client = await connect(mirror)
    token = await agree(eventually, upstream, mirror)

    async def bought() -> Any:
        asks = mirror.get(f"/book?token_id={token}")["asks"]
        if not asks:
            return None
        began = time.monotonic()
        answer = await client.place_market_order(token_id=token, side="BUY", amount=2, max_spend=3, order_type="FAK")
        return (answer, time.monotonic() - began) if answer.ok else None

    answer, took_s = await eventually(bought)
    assert took_s >= 0.1
    record = mirror.get("/paper/record")
    assert record["trades"]
    assert record["trades"][0]["order_id"] == answer.order_id
    assert not upstream.get("/paper/record")["trades"]


async def test_what_it_received_is_recorded_and_can_be_played(
    mirror: Any, upstream: Any, start_paper: Any, eventually: Any
) -> None:
    """The recording is read without a fault but that it is still being written; played ten times as fast, it has its markets."""
    await agree(eventually, upstream, mirror)

    async def written() -> bool:
        reader = Reader(mirror.recording)
        sources = {getattr(item, "source", "") for item in reader}
        return {"clob", "rtds", "binance", "gamma", "clob_market", "klines"} <= sources

    await eventually(written)
    played = start_paper(recording=mirror.recording, speed=10)
    assert played.get("/paper/state")["timeframes"] == ["6s"]

    async def books() -> bool:
        return any(book["bids"] or book["asks"] for book in played.get("/paper/view")["books"])

    await eventually(books)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mirror", "http://127.0.0.1:9"], "cannot be reached"),
        (["--mirror", "nonsense"], "expected real, or the URL"),
        (["--recording", "missing"], "does not exist"),
        (["--mirror", "--recording", "x"], "prices come from one place"),
    ],
)
def test_what_cannot_be_mirrored_is_said_in_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr and exit code 2."""
    assert main([*options, "--port", "0", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
