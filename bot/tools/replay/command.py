"""`./ns replay`: arguments, the loop over the tape, progress, output."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.market_data.prices import Prices
from bot.slots import DEFAULT_ASSETS, DEFAULT_TIMEFRAMES, make_slots, timeframe_seconds
from bot.strategy.api import read_parameters
from bot.strategy.guard import DEFAULT_STRATEGY, load_strategy
from bot.tools.replay.house import House
from bot.tools.replay.recorded import recorded_json, recorded_text, replay_events
from bot.tools.replay.result import Result, as_json, as_text, draw, moment
from bot.tools.replay.trading import Trading
from bot.venue.types import BASE_UNITS
from bus import RiskLimits, SettingsError
from bus.main import control
from paper.engine.feed import Tape
from paper.engine.prices import ASSETS
from paper.errors import UsageError
from paper.settings import load_tapes
from recording import Event, Frame, Reader, RecordingError, decode

WARM_UP_MS = 300_000  # volatility needs a past, as a live start reads it
TICK_MS = 100
SETTLE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay. Times UTC ms of the tape; step_ms, poll_ms: between two prices, between two polls."""

    tapes: dict[str, Tape]
    from_ms: int
    to_ms: int
    seed: int
    strategy: str
    values: dict[str, Any]
    assets: tuple[str, ...]
    timeframes: tuple[str, ...]
    step_ms: int
    poll_ms: int
    delay_ms: int
    balance: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--recording", type=Path, metavar="DIR", help="a recording: real books, prices and outcomes")
    what.add_argument(
        "--tape", action="append", metavar="FILE[@ASSET]", help="a price tape, with invented books; repeat for more"
    )
    parser.add_argument(
        "--lead",
        choices=("binance", "settlement"),
        default="binance",
        help="with --recording: settlement where it has no lead price (%(default)s)",
    )
    parser.add_argument("--from", dest="since", metavar="TIME", help="where to begin, ISO 8601 UTC (the tapes' start)")
    parser.add_argument("--to", dest="until", metavar="TIME", help="where to end (the tapes' end)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the prices inside bars, the market maker and the crowd (1)"
    )
    parser.add_argument("--strategy", default=DEFAULT_STRATEGY, metavar="NAME", help="as BOT_STRATEGY (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the strategy")
    parser.add_argument("--assets", default=",".join(DEFAULT_ASSETS), help="(%(default)s)")
    parser.add_argument("--timeframes", default=",".join(DEFAULT_TIMEFRAMES), help="(%(default)s)")
    parser.add_argument(
        "--step", type=float, default=0.5, metavar="S", help="seconds between prices, from 0.1 (%(default)s)"
    )
    parser.add_argument("--poll", type=float, default=5.0, metavar="S", help="seconds between polls (%(default)s)")
    parser.add_argument(
        "--delay", type=float, default=0.3, metavar="S", help="from decision to book: hold and network (%(default)s)"
    )
    parser.add_argument("--balance", type=float, default=10_000, metavar="PUSD", help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="write a chart (SVG)")


def run_command(chosen: argparse.Namespace) -> int:
    """Replay and print; the exit code. Raises SettingsError on what the user got wrong."""
    if chosen.recording is not None:
        return _run_recording(chosen)
    plan = _plan(chosen)
    result = replay(plan, _progress(plan))
    sys.stdout.write(as_json(result) if chosen.json else as_text(result))
    if chosen.chart is not None:
        try:
            chosen.chart.write_text(draw(result), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--chart {chosen.chart} cannot be written ({error.strerror})") from error
    return 0


def _run_recording(chosen: argparse.Namespace) -> int:
    strategy = load_strategy(chosen.strategy)
    parameters, refused = read_parameters(strategy.parameters, dict(_value(text) for text in chosen.set))
    if refused:
        raise SettingsError(f"--set {refused[0]}")
    try:
        reader = Reader(chosen.recording)
        lost = _Lost(reader)
        replayed = replay_events(
            lost.events(),
            reader.contents,
            strategy=strategy,
            parameters=parameters,
            delay_ms=round(chosen.delay * 1000),
            poll_ms=round(chosen.poll * 1000),
            deposit=round(chosen.balance * BASE_UNITS),
            lead=chosen.lead,
            doubted=lost.since,
        )
    except RecordingError as error:
        raise SettingsError(f"--recording {chosen.recording}: {error}") from error
    problems = {str(kind): count for kind, count in sorted(reader.counts.items())}
    text = (
        recorded_json(replayed, problems) if chosen.json else recorded_text(replayed, str(chosen.recording), problems)
    )
    sys.stdout.write(text)
    return 0


class _Lost:
    """The events of a recording, and whether something of it was lost since that was asked last."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._known = reader, 0

    def events(self) -> Iterator[Event]:
        """In order of time."""
        for item in self._reader:
            if isinstance(item, Frame):
                yield from decode(item)

    def since(self) -> bool:
        """Whether the reader met a problem since the last call."""
        known, self._known = self._known, sum(self._reader.counts.values())
        return self._known != known


def replay(plan: Plan, progress: Callable[[int, Trading], None] = lambda _now, _trading: None) -> Result:
    """Run it. Raises SettingsError where the strategy or its parameters cannot be used."""
    strategy = load_strategy(plan.strategy)
    parameters, refused = read_parameters(strategy.parameters, plan.values)
    if refused:
        raise SettingsError(f"--set {refused[0]}")
    start = plan.from_ms - WARM_UP_MS
    house = House(
        seed=plan.seed,
        tapes=plan.tapes,
        start_ms=start,
        step_ms=plan.step_ms,
        delay_ms=plan.delay_ms,
        deposit=plan.balance,
    )
    trading = Trading(
        house, make_slots(plan.assets, plan.timeframes), strategy, parameters, RiskLimits(), Prices(plan.assets)
    )
    longest_ms = max(timeframe_seconds(timeframe) for timeframe in plan.timeframes) * 1000
    for now in range(start + plan.step_ms, plan.to_ms + longest_ms + SETTLE_MS, plan.step_ms):
        house.advance(now)
        trading.price(now, house.feed.lead, house.feed.settlement)
        if now < plan.from_ms:
            continue
        trading.settle()
        if now >= plan.to_ms:
            if not trading.is_busy:
                break
        elif now % plan.poll_ms < plan.step_ms:
            trading.poll()
            progress(now, trading)
        else:
            trading.between()
    end_balance = house.balance
    pnl = sum(trade.pnl for trade in trading.trades)
    assert end_balance == plan.balance + pnl, "the trades' PnL is what the paper engine moved, to the last unit"
    return Result(
        tapes=tuple(tape.name for tape in plan.tapes.values()),
        strategy=plan.strategy,
        seed=plan.seed,
        from_ms=plan.from_ms,
        to_ms=plan.to_ms,
        start_balance=plan.balance,
        end_balance=end_balance,
        polls=trading.polls,
        evaluations=trading.evaluations,
        orders=trading.orders,
        refusals=trading.refusals,
        trades=tuple(trading.trades),
    )


def _plan(chosen: argparse.Namespace) -> Plan:
    try:
        tapes = load_tapes(tuple(chosen.tape))
    except UsageError as error:
        raise SettingsError(str(error)) from error
    first = max(tape.start_ms for tape in tapes.values()) + WARM_UP_MS
    last = min(tape.end_ms for tape in tapes.values())
    since, until = _time(chosen.since, "--from", first), _time(chosen.until, "--to", last)
    if not first <= since < until <= last:
        raise SettingsError(
            f"--from {moment(since)} and --to {moment(until)}: expected a time inside of {moment(first)} to {moment(last)} UTC, "
            "which the tapes share after five minutes of warming up"
        )
    step_ms = round(chosen.step * 1000 / TICK_MS) * TICK_MS
    if not TICK_MS <= step_ms <= 5_000 or not step_ms <= chosen.poll * 1000 <= 300_000:
        raise SettingsError("--step: expected 0.1 to 5 seconds, and --poll: no less than that, at most 300")
    if not 0 <= chosen.delay <= 60 or not 0 < chosen.balance <= 1e9:
        raise SettingsError("--delay: expected 0 to 60 seconds; --balance: above 0, at most 10^9 pUSD")
    assets, timeframes = (tuple(text.split(",")) for text in (chosen.assets, chosen.timeframes))
    unknown = [asset for asset in assets if asset not in ASSETS]
    if unknown:
        raise SettingsError(f"--assets: {unknown[0]!r} is unknown to paper; known are {', '.join(ASSETS)}")
    try:
        for timeframe in timeframes:
            timeframe_seconds(timeframe)
    except ValueError as error:
        raise SettingsError(f"--timeframes: {error}") from error
    return Plan(
        tapes=tapes,
        from_ms=since - since % step_ms,
        to_ms=until - until % step_ms,
        seed=chosen.seed,
        strategy=chosen.strategy,
        values=dict(_value(text) for text in chosen.set),
        assets=assets,
        timeframes=timeframes,
        step_ms=step_ms,
        poll_ms=round(chosen.poll * 1000),
        delay_ms=round(chosen.delay * 1000),
        balance=round(chosen.balance * BASE_UNITS),
    )


def _time(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{name} {text!r}: expected an ISO 8601 time such as 2022-01-05T12:00") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _value(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text!r}: expected NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, float(value)
    except ValueError:
        return name, value


def _progress(plan: Plan) -> Callable[[int, Trading], None]:
    """Says on stderr how far it is, at most twice a second; a line a tenth where that is no terminal."""
    started = time.monotonic()
    said_at, said_tenth = started, -1

    def say(now: int, trading: Trading) -> None:
        nonlocal said_at, said_tenth
        share = (now - plan.from_ms) / (plan.to_ms - plan.from_ms)
        is_terminal = sys.stderr.isatty()
        if (is_terminal and time.monotonic() - said_at < 0.5) or (not is_terminal and int(share * 10) == said_tenth):
            return
        said_at, said_tenth = time.monotonic(), int(share * 10)
        text = f"replay {share:4.0%}  {moment(now)}  {len(trading.trades)} trades  {said_at - started:.0f} s"
        if is_terminal:
            control("\r\x1b[K", "stderr")
        sys.stderr.write(text if is_terminal else f"{text}\n")
        if is_terminal and share > 1 - 2 * plan.poll_ms / (plan.to_ms - plan.from_ms):
            sys.stderr.write("\n")

    return say
