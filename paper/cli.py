"""The command line: ``python -m paper [serve]``, ``record``, and the commands to a running exchange (``paper.cli``)."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from pydantic_settings import SettingsError

from paper import cli as remote
from paper.engine.exchange import Exchange
from paper.engine.faults import KINDS, haunt, schedule
from paper.engine.record import Record
from paper.errors import PaperError, UsageError
from paper.mirror.exchange import check_kind
from paper.mirror.run import Part, mirrored
from paper.settings import Settings, load_tapes
from paper.stdio import loopback
from paper.streams.sockets import Sockets
from paper.wire.app import make_app
from paper.wire.control import read_record

# The state of an exchange as lines for a terminal. Pure.


def as_text(state: dict[str, Any]) -> str:
    """Return what ``GET /paper/view`` answers, as tables."""
    parts = [
        _table("prices", ("asset", "lead", "settlement"), [list(price.values()) for price in state["prices"]]),
        _table(
            "books of Up",
            ("window", "left s", "reference", "last", "tick", "users' orders", "bid", "ask"),
            [
                [
                    *_of(price, "slug", "left_s", "reference", "last", "tick", "users"),
                    _best(price["bids"]),
                    _best(price["asks"]),
                ]
                for price in state["books"]
            ],
        ),
        *(
            _table(
                title,
                ("age s", "window", "taker's side", "outcome", "shares", "price", "whose"),
                [_of(price, "age_s", "slug", "side", "outcome", "size", "price", "whose") for price in state[name]],
            )
            for title, name in (("last trades", "flow"), ("users' last trades", "users_flow"))
        ),
        _table(
            "users' resting orders",
            ("window", "side", "outcome", "type", "price", "size", "filled", "order"),
            [
                _of(price, "slug", "side", "outcome", "type", "price", "size", "filled", "order_id")
                for price in state["orders"]
            ],
        ),
        _table("balances", ("wallet", "pUSD", "tokens"), [list(price.values()) for price in state["balances"]]),
        _table(
            "faults that are on",
            ("kind", "path", "left", "until (UTC ms)"),
            [_of(price, "kind", "path", "left", "until_ms") for price in state["faults"]],
        ),
    ]
    return "\n".join(parts)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return f"{title}: none\n"
    lines = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    return f"{title}\n{text}\n"


def _best(levels: Sequence[Sequence[str]]) -> str:
    return f"{levels[0][0]} x {levels[0][1]}" if levels else "-"


def _of(row: dict[str, Any], *names: str) -> list[object]:
    return ["-" if row[name] is None else row[name] for name in names]


# Commands to a running exchange: ``fault`` breaks it on purpose, ``show`` prints what goes on.


COMMANDS = ("fault", "show")
_LIMIT_S = 10


def run(arguments: Sequence[str]) -> int:
    """Run one of COMMANDS; return 0.

    Raises:
        UsageError: the exchange refuses the request.
        PaperError: there is no exchange.
    """
    options = _remote_parser().parse_args(arguments)
    if options.command == "show":
        sys.stdout.write(as_text(_ask(options.url, "GET", "/paper/view")))
        return 0
    if options.kind == "list":
        answer = _ask(options.url, "GET", "/paper/state")["faults"]
    elif options.kind == "clear":
        answer = _ask(options.url, "DELETE", "/paper/faults")
    else:
        names = ("count", "seconds", "path", "method", "offset", "post_only_seconds")
        order = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        answer = _ask(options.url, "POST", "/paper/faults", order | {"kind": options.kind})
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _remote_parser() -> argparse.ArgumentParser:
    host, port = os.environ.get("PAPER_HOST", loopback()).strip("[]"), os.environ.get("PAPER_PORT", "8700")
    host = f"[{host}]" if ":" in host else host
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=f"http://{host}:{port}", help="of the exchange (default: %(default)s)")
    parser = argparse.ArgumentParser(prog="python -m paper")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", parents=[common], help="print prices, books, flow, orders and faults")
    fault = commands.add_parser(
        "fault",
        parents=[common],
        help="break something on purpose",
        description="Arm a fault. docs/reference/paper.md says what each kind does.",
        epilog=f"Kinds: {', '.join(KINDS)}.",
    )
    fault.add_argument("kind", choices=(*KINDS, "list", "clear"), metavar="KIND", help="a kind, or list, or clear")
    fault.add_argument("--count", type=int, help="how often it strikes (default: once, or as long as --seconds says)")
    fault.add_argument("--seconds", type=float, help="how long it lasts; of slow and late_resolution: the delay")
    fault.add_argument("--path", help="start of the paths that it strikes (default: all)")
    fault.add_argument("--method", choices=("GET", "POST", "DELETE"), help="HTTP method that it strikes (default: all)")
    fault.add_argument("--offset", type=float, help="wrong_clock: seconds ahead")
    fault.add_argument("--post-only-seconds", type=float, help="restart: seconds of post-only mode after it")
    return parser


def _ask(url: str, method: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url: expected http://HOST:PORT, was {url}")
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url.rstrip("/") + path, data=data, method=method, headers=headers)  # http(s) alone
    try:
        with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise UsageError(json.load(error)["error"]) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise PaperError(f"no exchange answers at {url} ({error}); start one, or give its --url") from error


# The command line: ``python -m paper [serve]``, ``record``, and the commands to a running exchange (``paper.cli``).


_STOP_LIMIT_S = 1.5
_DUMP_ROWS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 when it did its work, 1 when it failed, 2 when it was called wrongly."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    try:
        if words and words[0] in remote.COMMANDS:
            return remote.run(words)
        options = _parser().parse_args(words)
        given = {name: value for name, value in vars(options).items() if value is not None and name != "command"}
        settings = _settings(given)
        if options.command == "record":
            return _dump(settings.data)
        if options.command == "check":
            load_tapes(settings.tape)
            return 0
        return asyncio.run(_serve(settings))
    except UsageError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 2
    except PaperError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper",
        description="A local Polymarket and Binance at the level of the wire: paper trading for real clients.",
        epilog=(
            "Every option can also be given as an environment variable, such as PAPER_PORT=0. With a running exchange: "
            "'python -m paper show' prints its books, orders and faults (a browser: /paper), 'python -m paper fault --help' "
            "breaks it on purpose. docs/reference/paper.md has the rest."
        ),
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "check", "record"),
        default="serve",
        help="serve (default), check: read settings and tapes, and end; or record: print the record as JSON lines",
    )
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "none" if default in (None, ()) else _shown(default)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=name.upper(),
            help=f"{field.description} (default: {shown})",
            nargs={"tape": "+", "mirror": "?"}.get(name),
            const="real" if name == "mirror" else None,
            action="extend" if name == "tape" else "store",
        )
    return parser


def _shown(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


def _settings(given: dict[str, Any]) -> Settings:
    if "tape" in given:
        given["tape"] = ",".join(given["tape"])
    try:
        return Settings(**given)
    except (ValidationError, SettingsError) as error:
        if isinstance(error, SettingsError):
            raise UsageError(str(error)) from error
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        text = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"--{name.replace('_', '-')} (or PAPER_{name.upper()}): {text}") from error


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    record = Record(settings.data)
    try:
        async with _made(settings, record) as (exchange, parts):
            await record.durable()
            app, sockets = make_app(exchange)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
            await runner.setup()
            try:
                url = await _listen(runner, settings)
                gc.collect()
                gc.freeze()  # what is there now stays: collections need not walk it, which took tens of ms
                facts = {"mirror": exchange.mirrors} if exchange.mirrors else {"seed": settings.seed}
                _say("listening", url=url, data=str(settings.data), **facts, timeframes=list(settings.timeframes))
                return await _run(exchange, sockets, parts, stop)
            finally:
                await asyncio.wait_for(sockets.close_all(), _STOP_LIMIT_S)
                await runner.cleanup()
    finally:
        record.close()


@asynccontextmanager
async def _made(settings: Settings, record: Record) -> AsyncIterator[tuple[Exchange, dict[str, Part]]]:
    """The exchange, brought up to now, and what runs beside it."""
    if settings.mirror or settings.recording is not None:
        async with mirrored(settings, record, _now_ms) as made:
            yield made
        return
    check_kind(record, "walk")
    exchange = Exchange(settings, record, load_tapes(settings.tape), _now_ms)
    exchange.start()
    yield exchange, {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _run(exchange: Exchange, sockets: Sockets, beside: dict[str, Part], stop: asyncio.Event) -> int:
    """Run until told to stop (0); a part that ends by itself has failed, and raises."""
    parts = [asyncio.create_task(exchange.run(), name="clockwork")]
    parts += [asyncio.create_task(part(), name=name) for name, part in beside.items()]
    settings = exchange.settings
    if settings.fault_kinds:
        faults = schedule(settings.fault_seed, settings.fault_kinds, settings.fault_interval, exchange.clock())
        parts.append(asyncio.create_task(haunt(faults, sockets.arm, exchange.clock), name="faults"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({*parts, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*parts, stopping):
        task.cancel()
    for ended in await asyncio.gather(*parts, stopping, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    _say("stopped")
    return 0


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    site = web.TCPSite(runner, settings.host.strip("[]"), settings.port)
    try:
        await site.start()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; stop what uses it or give another --port"
        ) from error
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "time_ms": time.time_ns() // 1_000_000, **facts}), flush=True)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return json.dumps({"event": text, "level": record.levelname.lower(), "logger": record.name, **facts})


def set_up_logging() -> None:
    """Send all logs to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _dump(folder: Path) -> int:
    """Print the record: one JSON object a line, each with its ``kind``."""
    record = Record(folder, read_only=True)
    try:
        after: int | None = 0
        while after is not None:
            page = read_record(record, after, _DUMP_ROWS, time.time_ns() // 1_000_000)
            lists = {
                "order": page.orders,
                "trade": page.trades,
                "request": page.requests,
                "resolution": page.resolutions,
            }
            for kind, rows in lists.items():
                for row in rows:
                    print(json.dumps({"kind": kind, **row}))
            after = page.next
        for row in page.positions:
            print(json.dumps({"kind": "position", **row}))
        for wallet, units in page.balance.items():
            print(json.dumps({"kind": "balance", "wallet": wallet, "balance": units}))
    finally:
        record.close()
    return 0
