"""The least that lies between a price and an order on this machine, with the libraries that the bot stands on.

python -m bench.floor [--orders 300] [--beside MS]

Measured as `bench.trading` measures tick-to-send, at its pace, and once more with the same work in a loop. One frame is read and
parsed, one digest signed, one row committed without fsync, one request written that was made beforehand. Nothing is decided,
checked or looked up, and no standby runs: the bot cannot come below this here. `--beside 5` does the same work every 5 ms beside,
to no effect, so that the code is less cold when a price comes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import apsw
from coincurve import PrivateKey
from websockets.asyncio.client import connect

from bench.stage import SIGNAL_PRICE, STRIKE, FarEnd, percentiles
from bench.trading import Stopwatch
from bot.feeds.straight import StraightConnection
from bot.slots import DEFAULT_ASSETS

WARM_UP = 5
BODY = json.dumps({"order": {"signature": "0x" + "ab" * 65, "tokenId": "1" * 77}, "orderType": "FAK"}).encode()
REQUEST = (
    f"POST /order HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY
FRAME = json.dumps({"stream": "btcusdt@bookTicker", "data": {"s": "BTCUSDT", "b": f"{SIGNAL_PRICE:.2f}"}}).encode()
INSERT = f"INSERT INTO intents VALUES ({','.join('?' * 20)})"
ROW = (1, "0x" + "ab" * 32, *("text",) * 8, *(1,) * 10)


def make_order(folder: Path, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """What is done with each frame."""
    connection = apsw.Connection(str(folder / "floor.db"))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")
    connection.execute(f"CREATE TABLE intents ({','.join(f'c{n}' for n in range(20))})")
    key = PrivateKey.from_hex("42" * 32)

    def order(frame: bytes) -> None:
        if float(json.loads(frame)["data"]["b"]) < STRIKE * 1.01:
            return
        key.sign_recoverable(bytes(32), hasher=None)
        connection.execute(INSERT, ROW)
        write(REQUEST)

    return order


async def paced(folder: Path, orders: int, watch: Stopwatch, beside_ms: float) -> list[float]:
    """Spans in ms of so many orders, a price read from its socket to a request handed to its own.

    beside_ms: how often the same work is done beside, in ms; 0 for never.
    """
    far = FarEnd(DEFAULT_ASSETS, 0.03)
    address = urlsplit(far.http_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    tasks = [asyncio.create_task(_drain(reader))]
    if beside_ms:
        (beside := folder / "beside").mkdir()
        tasks.append(asyncio.create_task(_repeat(make_order(beside, lambda _request: None), beside_ms / 1000)))
    try:
        async with connect(f"{far.ws_url}/stream", compression=None, create_connection=StraightConnection) as socket:
            assert isinstance(socket, StraightConnection)
            order = make_order(folder, writer.write)
            socket.follow(order, lambda: None)
            async with asyncio.timeout(60 + orders):  # an order comes every 0.06 s
                while len(watch.spans_ms) < orders + WARM_UP:  # noqa: ASYNC110  # what is measured has no turn of the loop to spare
                    await asyncio.sleep(0.1)
    finally:
        for task in tasks:
            task.cancel()
        writer.close()
        far.close()
    return watch.spans_ms[WARM_UP : WARM_UP + orders]


def looped(folder: Path, orders: int) -> list[float]:
    """The same in a loop, but for the socket that is read."""
    order = make_order(folder, lambda _request: None)
    spans = []
    for _ in range(orders):
        started = time.perf_counter_ns()
        order(FRAME)
        spans.append((time.perf_counter_ns() - started) / 1e6)
    return spans[WARM_UP:]


async def _repeat(order: Callable[[bytes], None], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        order(FRAME)


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=300, help="(%(default)s)")
    parser.add_argument("--beside", type=float, default=0.0, metavar="MS", help="the same work every MS ms beside, too")
    chosen, watch = parser.parse_args(), Stopwatch()
    with tempfile.TemporaryDirectory() as name:
        (paced_in := Path(name) / "paced").mkdir()
        (looped_in := Path(name) / "looped").mkdir()
        spans = asyncio.run(paced(paced_in, chosen.orders, watch, chosen.beside))
        sys.stdout.write(f"{'a price to a request, nothing between':<44}{percentiles(spans)}\n")
        spans = looped(looped_in, chosen.orders)
        sys.stdout.write(f"{'the same work in a loop, no socket read':<44}{percentiles(spans)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
