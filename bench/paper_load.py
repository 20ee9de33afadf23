"""How many orders a second paper takes, and how late its answers are, while its streams run.

Starts an exchange of its own, opens subscribers that follow the market channel of 16 slots and Binance's streams, then
sends orders and their cancels over HTTP at a fixed rate. Requests are signed beforehand. An answer's time counts from
when its request was due, so that a server that falls behind cannot hide it.

    python -m bench.paper_load --rate 2000 --seconds 15
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from paper.engine.signing import SignedOrder, checksum, order_digest, order_id

_ROOT = Path(__file__).resolve().parents[1]
_ASSETS = ("btc", "eth", "sol", "xrp", "doge", "bnb")
_LIMIT_MS = 50.0
_PRICE = 20_000  # 0.02: rests far below the market maker's quotes
_SIZE = 50_000_000


# --- requests, signed beforehand as raw HTTP, so that the load measures the exchange and not itself


@dataclass(frozen=True, slots=True)
class Key:
    """One account: its private key, its address, and its API credentials."""

    private: PrivateKey
    address: str
    api_key: str
    secret: bytes
    passphrase: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One order's two requests: the one that places it and the one that cancels it."""

    order_id: str
    place: bytes
    cancel: bytes


def address_of(private: PrivateKey) -> str:
    """Return the address of a private key."""
    return checksum(keccak(private.public_key.format(compressed=False)[1:])[12:])


def http_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: paper", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def key_request(private: PrivateKey) -> bytes:
    """Return the request that makes an account's API key (level 1: a signed ``ClobAuth``)."""
    address, stamp = address_of(private), str(int(time.time()))
    domain = {"name": "ClobAuthDomain", "version": "1", "chainId": 137}
    names = {"address": "address", "timestamp": "string", "nonce": "uint256", "message": "string"}
    types = {"ClobAuth": [{"name": name, "type": kind} for name, kind in names.items()]}
    message = "This message attests that I control the given wallet"
    fields = {"address": address, "timestamp": stamp, "nonce": 0, "message": message}
    signed = Account.sign_message(encode_typed_data(domain, types, fields), private.secret)
    headers = {
        "POLY_ADDRESS": address,
        "POLY_SIGNATURE": "0x" + signed.signature.hex().removeprefix("0x"),
        "POLY_TIMESTAMP": stamp,
        "POLY_NONCE": "0",
    }
    return http_bytes("POST", "/auth/api-key", headers)


def order_pair(key: Key, token_id: str, salt: int) -> Pair:
    """Return the requests of one resting BUY of type 0; their timestamps hold for five minutes from now."""
    unsigned = SignedOrder(
        salt=salt,
        maker=key.address,
        signer=key.address,
        token_id=int(token_id),
        maker_amount=_SIZE * _PRICE // 1_000_000,
        taker_amount=_SIZE,
        is_sell=False,
        signature_type=0,
        timestamp=time.time_ns() // 1_000_000,
        metadata=bytes(32),
        builder=bytes(32),
        signature=b"",
    )
    raw = key.private.sign_recoverable(order_digest(unsigned), hasher=None)
    signed = dataclasses.replace(unsigned, signature=raw[:64] + bytes([raw[64] + 27]))
    order = {
        "salt": signed.salt,
        "maker": signed.maker,
        "signer": signed.signer,
        "tokenId": token_id,
        "makerAmount": str(signed.maker_amount),
        "takerAmount": str(signed.taker_amount),
        "side": "BUY",
        "signatureType": 0,
        "timestamp": str(signed.timestamp),
        "metadata": "0x" + signed.metadata.hex(),
        "builder": "0x" + signed.builder.hex(),
        "signature": "0x" + signed.signature.hex(),
        "expiration": "0",
    }
    oid = order_id(signed)
    body = {"order": order, "owner": key.api_key, "orderType": "GTC", "postOnly": False, "deferExec": False}
    return Pair(oid, _level2(key, "POST", body), _level2(key, "DELETE", {"orderID": oid}))


def _level2(key: Key, method: str, content: dict[str, object]) -> bytes:
    stamp, body = str(int(time.time())), json.dumps(content, separators=(",", ":")).encode()
    digest = hmac.new(key.secret, f"{stamp}{method}/order".encode() + body, hashlib.sha256).digest()
    headers = {
        "POLY_ADDRESS": key.address,
        "POLY_API_KEY": key.api_key,
        "POLY_PASSPHRASE": key.passphrase,
        "POLY_SIGNATURE": base64.urlsafe_b64encode(digest).decode(),
        "POLY_TIMESTAMP": stamp,
    }
    return http_bytes(method, "/order", headers, body)


# --- the load


class Connection:
    """One keep-alive HTTP connection that sends raw requests, one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> Connection:
        host, port = url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        start = head.lower().index(b"content-length:") + 15
        body = await self._reader.readexactly(int(head[start : head.index(b"\r\n", start)]))
        return int(head[9:12]), body

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def exchange(profile: str | None) -> AsyncIterator[tuple[str, int]]:
    """Run an exchange in a process of its own; yield its URL and process id."""
    with tempfile.TemporaryDirectory(dir=_ROOT) as folder:
        flags = ["--port", "0", "--data", folder, "--start-balance", "1000000", "--rate-tier", "none"]
        wrapper = ["-m", "cProfile", "-o", profile] if profile else []
        command = [sys.executable, *wrapper, "-m", "paper", *flags]
        process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            yield json.loads(await process.stdout.readline())["url"], process.pid
        finally:
            process.terminate()
            await asyncio.wait_for(process.communicate(), 20)


async def slot_tokens(connection: Connection) -> list[tuple[str, str]]:
    """The token pairs of the 16 default slots: all assets in 5m and 15m, and the next window of BTC and ETH.

    The current windows are skipped where they end within the test: then the ones after them.
    """
    now = int(time.time()) + 60
    slots = [(asset, minutes, 0) for asset in _ASSETS for minutes in (5, 15)]
    slots += [(asset, minutes, 1) for asset in ("btc", "eth") for minutes in (5, 15)]
    found = []
    for asset, minutes, offset in slots:
        start = (now // (minutes * 60) + offset) * minutes * 60
        request = http_bytes("GET", f"/markets/slug/{asset}-updown-{minutes}m-{start}", {})
        tokens = json.loads((await connection.send(request))[1])["clobTokenIds"]
        up, down = json.loads(tokens)
        found.append((up, down))
    return found


async def subscriber(url: str, tokens: list[tuple[str, str]], heard: Counter[str], ready: asyncio.Semaphore) -> None:
    """Follow everything, and count messages."""
    streams = "/".join(f"{asset}usdt@{name}" for asset in _ASSETS for name in ("bookTicker", "trade", "kline_1s"))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url + "/ws/market") as market,
        session.ws_connect(f"{url}/stream?streams={streams}") as binance,
    ):
        ids = [token for pair in tokens for token in pair]
        await market.send_json({"type": "market", "assets_ids": ids, "custom_feature_enabled": True})
        ready.release()

        async def listen(name: str, socket: aiohttp.ClientWebSocketResponse) -> None:
            async for _ in socket:
                heard[name] += 1
            heard[f"closed {name} {socket.close_code}"] += 1

        await asyncio.gather(listen("market", market), listen("binance", binance))


async def make_keys(connection: Connection, count: int) -> list[Key]:
    """Make accounts."""
    keys = []
    for _ in range(count):
        private = PrivateKey()
        credentials = json.loads((await connection.send(key_request(private)))[1])
        secret = base64.urlsafe_b64decode(credentials["secret"])
        keys.append(Key(private, address_of(private), credentials["apiKey"], secret, credentials["passphrase"]))
    return keys


async def drive(url: str, pairs: list[Pair], rate: float, connections: int) -> tuple[list[float], Counter[int], float]:
    """Send every order, and its cancel once it was answered, at ``rate`` requests a second.

    Returns:
        Answer times in ms from when each was due; statuses; seconds that it all took.
    """
    late_ms: list[float] = []
    statuses: Counter[int] = Counter()
    lines = [await Connection.open(url) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    started = loop.time() + 0.2
    numbers = iter(range(len(pairs)))

    async def work(line: Connection) -> None:
        for number in numbers:
            for half, request in enumerate((pairs[number].place, pairs[number].cancel)):
                due = started + (2 * number + half * connections) / rate
                await asyncio.sleep(max(0.0, due - loop.time()))
                status, body = await line.send(request)
                late_ms.append((loop.time() - due) * 1000)
                good = status == 200 and pairs[number].order_id.encode() in body
                statuses[status if good else -status] += 1

    await asyncio.gather(*(work(line) for line in lines))
    seconds = loop.time() - started
    for line in lines:
        line.close()
    return late_ms, statuses, seconds


async def run(options: argparse.Namespace) -> dict[str, object]:
    """Run the whole measurement; return its figures."""
    async with exchange(options.profile) as (url, pid):
        control = await Connection.open(url)
        tokens = await slot_tokens(control)
        keys = await make_keys(control, options.accounts)
        count = round(options.rate * options.seconds / 2)
        flat = [token for pair in tokens for token in pair]
        pairs = [order_pair(keys[n % len(keys)], flat[n % len(flat)], n + 1) for n in range(count)]
        heard: Counter[str] = Counter()
        ready = asyncio.Semaphore(0)
        listeners = [
            asyncio.create_task(subscriber(url, tokens, heard, ready), name="subscriber")
            for _ in range(options.subscribers)
        ]
        for _ in listeners:
            await asyncio.wait_for(ready.acquire(), 10)
        await asyncio.sleep(1)
        before, heard_before, own_before = _cpu_s(pid), dict(heard), time.process_time()
        late_ms, statuses, seconds = await drive(url, pairs, options.rate, options.connections)
        cpu, own_cpu = _cpu_s(pid) - before, time.process_time() - own_before
        messages = {name: round((heard[name] - heard_before.get(name, 0)) / seconds) for name in ("market", "binance")}
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        control.close()
    late_ms.sort()
    return {
        "asked_per_s": options.rate,
        "requests": len(late_ms),
        "requests_per_s": round(len(late_ms) / seconds, 1),
        "p50_ms": round(late_ms[len(late_ms) // 2], 2),
        "p90_ms": round(late_ms[int(len(late_ms) * 0.9)], 2),
        "p99_ms": round(late_ms[int(len(late_ms) * 0.99)], 2),
        "max_ms": round(late_ms[-1], 2),
        "statuses": {str(status): number for status, number in statuses.items()},
        "subscribers": options.subscribers,
        "subscribers_dropped": {n: c for n, c in heard.items() if n.startswith("closed")},
        "market_messages_per_s": messages["market"],
        "binance_messages_per_s": messages["binance"],
        "server_cpu_share": round(cpu / seconds, 2),
        "server_cpu_us_a_request": round(cpu / len(late_ms) * 1e6),
        "generator_cpu_share": round(own_cpu / seconds, 2),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure and print; 0 when every request was answered and p99 is below 50 ms, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.paper_load", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rate", type=float, default=2000, help="requests a second, half orders, half cancels (2000)")
    parser.add_argument("--seconds", type=float, default=15, help="how long (15)")
    parser.add_argument("--connections", type=int, default=32, help="HTTP connections (32)")
    parser.add_argument("--subscribers", type=int, default=10, help="WebSocket subscribers of all 16 slots (10)")
    parser.add_argument("--accounts", type=int, default=8, help="accounts that trade (8)")
    parser.add_argument("--profile", help="write a cProfile of the exchange to this file (slows it down)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = asyncio.run(run(options))
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:<24} {value}\n")
    reached = figures["p99_ms"] < _LIMIT_MS and set(figures["statuses"]) == {"200"}  # type: ignore[operator, call-overload]  # figures are JSON values
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
