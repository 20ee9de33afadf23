"""Odd requests to a panel: none may stop it, none is answered 5xx, and it grows no bigger by them (`python -m proof.requests`).

A panel of its own on a bus of its own gets requests of every kind: from schemas and broken ones, in HTTP and in none, with
tokens and without, whole and cut off. Each is made of its number and the seed alone, so that one can be made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bus import SlotStatus, Status, open_bus, write_status
from proof.report import Row, add_out, save

TOKENS = 100
"""So many, because each has a rate of its own: what is behind the rates is to be reached."""
START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 30.0
AT_ONCE = 6
GROWTH_KB, GROWTH_FILES = 30_000, 20
READS = ("status", "control", "control/1", "instances", "deploys", "writes", "ledger/orders", "ledger/pnl", "ledger/summary",
         "requests/1800000000000-0000000a", "openapi.json", "events")  # fmt: skip
WRITES = (
    "pause",
    "resume",
    "halt",
    "flatten",
    "enter",
    "slots/BTC-5m",
    "risk",
    "strategy",
    "rollback",
    "approve",
    "exchange",
)
FIELDS = ("generation", "wait_s", "confirm", "slot", "outcome", "max_spend", "max_price", "enabled", "max_order", "daily_loss",
          "parameters", "ref", "now", "code", "orders_per_minute")  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "X" * 300)
VALID: dict[str, dict[str, object]] = {
    "enter": {"slot": "BTC-5m", "outcome": "Up", "max_spend": "20"},
    "slots/BTC-5m": {"enabled": False},
    "risk": {"daily_loss": "100"},
    "strategy": {"parameters": {"min_edge": 0.05}},
    "resume": {"confirm": True},
}
MORE = ("Transfer-Encoding", "Expect", "Origin", "Upgrade", "X-Forwarded-For", "Range", "Accept-Encoding")
CUT_LIMIT_S = 0.05
ODD_TEXTS = (
    "",
    "\x00",
    "\ud800",
    "🙂" * 50,
    "x" * 5000,
    "../../etc/passwd",
    "%00%ff",
    "BTC-5m",
    "Up",
    "0x" + "1" * 64,
    "1e999999",
)


@dataclass(slots=True)
class Outcome:
    """What a run found, in words; statuses: answers by status, 0 for none."""

    errors: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    growth: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Panel:
    """A running panel."""

    process: subprocess.Popen[bytes]
    port: int
    tokens: tuple[str, ...]
    bus: Path


@contextmanager
def running() -> Iterator[Panel]:
    """A panel with many tokens and a status, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="never-sleeps-requests-") as name:
        folder = Path(name)
        tokens = tuple(secrets.token_urlsafe(32) for _ in range(TOKENS))
        file = folder / "token"
        file.touch(mode=0o600)
        file.write_text("\n".join(tokens))
        bus = open_bus(folder / "bus")
        slot = SlotStatus(
            slot="BTC-5m", asset="BTC", timeframe="5m", enabled=True, window="btc-updown-5m-1", end_ms=1 << 50
        )
        status = Status(epoch=1, instance="x", sha="0" * 40, color="blue", since_ms=1, interval_ms=5000, slots=(slot,))
        write_status(bus, status, 1, time.time_ns() // 1_000_000)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PANEL_")}
        own = {"BUS_DIR": str(bus.directory), "PANEL_PORT": "0", "PANEL_TOKEN_FILE": str(file)}
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "panel"], env={**kept, **own}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            yield Panel(process, _port(process, log), tokens, bus.directory)
        finally:
            process.kill()
            process.wait()


def fuzz(panel: Panel, count: int, seed: int) -> Outcome:
    """Send `count` requests."""
    found = Outcome()
    half: tuple[int, int] | None = None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, count, 200):
            if half is None and first >= count // 2:
                half = _size(panel)
            numbers = range(first, min(first + 200, count))
            for number, status in zip(numbers, pool.map(lambda one: _send(panel, seed, one), numbers), strict=True):
                found.statuses[status] += 1
                if status == 0 and make(panel.tokens, seed, number)[1]:
                    found.stops.append(f"{seed}-{number}: no answer")
                if status >= 500:
                    found.errors.append(f"{seed}-{number}: {status} to {make(panel.tokens, seed, number)[0][:200]!r}")
            if (stopped := _stopped(panel)) is not None:
                found.stops.append(f"after {seed}-{numbers[-1]}: {stopped}")
                return found
    if half is not None:
        kilobytes, files = (after - before for after, before in zip(_size(panel), half, strict=True))
        if kilobytes > GROWTH_KB or files > GROWTH_FILES:
            found.growth.append(f"the second half left {kilobytes} kB and {files} open files")
    return found


def make(tokens: Sequence[str], seed: int, number: int) -> tuple[bytes, bool]:
    """The bytes of one request, and whether an answer is owed to it."""
    rng = random.Random(f"{seed}-{number}")
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(1, 400)), False
    is_write = rng.random() < 0.5
    name = rng.choice(WRITES if is_write else READS)
    path = f"/api/{name}"
    method = rng.choice(METHODS) if rng.random() < 0.1 else "POST" if is_write else "GET"
    if rng.random() < 0.15:
        path = rng.choice((path + "/", path + "?" + "a=1&" * 200, "/" + rng.choice(("", "app.js", "metrics", "x" * 3000)), "*",
                           path.upper(), "/api//status", "/api/control/" + "9" * 400, "http://elsewhere.example/", path + "%00",
                           "/api/ledger/orders?most=-1", "/api/ledger/pnl?days=" + "9" * 50))  # fmt: skip
    body = _body(rng, name) if is_write or rng.random() < 0.1 else b""
    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {tokens[number % len(tokens)]}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": rng.choice(("close", "keep-alive")),
    }
    spoilt = rng.choice((0, 0, 0, 1, 2))
    for _ in range(spoilt):
        _spoil(headers, rng)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    whole = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogatepass") + body
    if rng.random() < 0.05:
        return whole[: rng.randrange(len(whole))], False
    return whole, not spoilt


def _spoil(headers: dict[str, str], rng: random.Random) -> None:
    name = rng.choice(
        (*headers, "Transfer-Encoding", "Expect", "Origin", "Upgrade", "X-Forwarded-For", "Range", "Accept-Encoding")
    )
    headers[name] = rng.choice((
        "", "-1", "0", "5", "9" * 30, "chunked", "100-continue", "websocket", "text/plain", "http://elsewhere.example", "null",
        "Bearer x", "Basic eDp4", "é", "x" * 20_000, "bytes=0-1", "application/json; charset=utf-7",
    ))  # fmt: skip


def _body(rng: random.Random, name: str) -> bytes:
    kind = rng.random()
    if kind > 0.5:
        return json.dumps({"generation": rng.randrange(300), **VALID.get(name, {})}).encode()
    if kind < 0.1:
        return rng.randbytes(rng.randrange(300))
    if kind < 0.15:
        return b"[" * rng.choice((10, 3000, 60_000))
    if kind < 0.2:
        return b"x" * rng.choice((65 << 10, 64 << 10, 1))
    fields = {name: _value(rng, 0) for name in rng.sample(FIELDS, rng.randrange(5))}
    fields["generation"] = rng.choice((0, 1, 2, 5, -1, 1 << 60, "1", None, 1.5, 3))
    if "wait_s" in fields and isinstance(fields["wait_s"], int | float):
        fields["wait_s"] = rng.choice((0, 0.01, -1, 1e9))
    text = json.dumps(fields, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1:
        text = text[: rng.randrange(len(text))]
    return text.encode("utf-8", "surrogatepass")


def _value(rng: random.Random, depth: int) -> object:
    if depth < 3 and rng.random() < 0.2:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if depth < 3 and rng.random() < 0.2:
        return {rng.choice((*FIELDS, *ODD_TEXTS)): _value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice(
        (None, True, False, 0, -1, 1, 1 << 70, 1e308, float("nan"), float("inf"), 0.62, "20", "0.62", *ODD_TEXTS)
    )


def _send(panel: Panel, seed: int, number: int) -> int:
    """The status of the answer; 0 where there is none, because the panel gave the connection up or waits for more."""
    said, owed = make(panel.tokens, seed, number)
    try:
        with socket.create_connection(("127.0.0.1", panel.port), timeout=ANSWER_LIMIT_S) as connection:
            connection.sendall(said)
            if not owed:
                connection.settimeout(CUT_LIMIT_S)
            answer = connection.recv(64)
    except OSError:
        return 0
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) > 2 and parts[0].startswith(b"HTTP/") and parts[1].isdigit() else 0


def _stopped(panel: Panel) -> str | None:
    """Why the panel no longer serves who has a token; None while it does."""
    if panel.process.poll() is not None:
        return f"the panel ended with exit code {panel.process.returncode}"
    request = urllib.request.Request(f"http://127.0.0.1:{panel.port}/api/status")
    request.add_header("Authorization", f"Bearer {panel.tokens[-1]}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as answer:
            return None if answer.status == 200 else f"status was answered {answer.status}"
    except (OSError, urllib.error.URLError) as error:
        return f"status was not answered: {error}"


def _size(panel: Panel) -> tuple[int, int]:
    """Its memory in kB and its open files."""
    folder = Path(f"/proc/{panel.process.pid}")
    resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return resident, len(list((folder / "fd").iterdir()))


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                return int(json.loads(line)["url"].rpartition(":")[2])
        time.sleep(0.05)
    raise RuntimeError(f"the panel did not start: {log.read_text()[-500:]}")


def rows(count: int, seed: int) -> Iterator[Row]:
    """The table's rows."""
    with running() as panel:
        found = fuzz(panel, count, seed)
    note = ", ".join(f"{number} of {status or 'no status'}" for status, number in sorted(found.statuses.items()))
    yield Row("requests", "odd requests to the panel, no 5xx", count, "requests", tuple(found.errors), note)
    yield Row("requests", "no stop", count, "requests", tuple(found.stops))
    yield Row("requests", "no growth in the second half", count // 2, "requests", tuple(found.growth))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m proof.requests", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="how many requests (20000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the requests (1)")
    add_out(parser)
    chosen = parser.parse_args(arguments)
    return save("requests", rows(chosen.count, chosen.seed), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
