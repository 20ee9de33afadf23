"""The command line: ``python -m paper [serve]``, ``record``, and the commands to a running exchange (``paper.remote``)."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from pydantic_settings import SettingsError

from paper import remote
from paper.chaos import haunt, schedule
from paper.engine.exchange import Exchange
from paper.engine.record import Record
from paper.errors import PaperError, UsageError
from paper.report import read_record
from paper.settings import Settings, load_tapes
from paper.streams.sockets import Sockets
from paper.wire.app import make_app

__all__ = ["main"]

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
            "breaks it on purpose. docs/paper.md has the rest."
        ),
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("serve", "record"),
        default="serve",
        help="serve (default), or record: print the record as JSON lines",
    )
    for name, field in Settings.model_fields.items():
        shown = "none" if field.default in (None, ()) else _shown(field.default)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=name.upper(),
            help=f"{field.description} (default: {shown})",
            nargs="+" if name == "tape" else None,
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
    tapes = load_tapes(settings.tape)
    record = Record(settings.data)
    try:
        exchange = Exchange(settings, record, tapes, lambda: time.time_ns() // 1_000_000)
        exchange.start()
        await record.durable()
        app, sockets = make_app(exchange)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await runner.setup()
        try:
            url = await _listen(runner, settings)
            gc.collect()
            gc.freeze()  # what is there now stays: collections need not walk it, which took tens of ms
            _say(
                "listening", url=url, data=str(settings.data), seed=settings.seed, timeframes=list(settings.timeframes)
            )
            return await _run(exchange, sockets, stop)
        finally:
            await asyncio.wait_for(sockets.close_all(), _STOP_LIMIT_S)
            await runner.cleanup()
    finally:
        record.close()


async def _run(exchange: Exchange, sockets: Sockets, stop: asyncio.Event) -> int:
    """Run until told to stop (0); a part that ends by itself has failed, and raises."""
    parts = [asyncio.create_task(exchange.run(), name="clockwork")]
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
    site = web.TCPSite(runner, settings.host, settings.port)
    try:
        await site.start()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; stop what uses it or give another --port"
        ) from error
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


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
