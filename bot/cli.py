"""The command line: `python -m bot` and a command; without one it runs the bot."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from decimal import Decimal
from pathlib import Path

from bus import (
    VERSION,
    Bus,
    BusError,
    BusSettings,
    Clock,
    Logging,
    SettingsError,
    SystemClock,
    bus_to_read,
    load_settings,
    open_bus,
    read_inputs,
)

# What people say to the running bot from the command line: adopt what the account has, settle what the venue never resolved.


def whoami() -> str:
    """The name that is recorded beside what a person did."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return "nobody named"


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there
        return False


def adopt(bus: Bus, clock: Clock, *, who: str, note: str, yes: bool) -> str:
    """Show what the account has and the ledger does not know, and adopt it where the person agrees; returns what was done.

    Raises BusError: no instance answered, or what was shown changed meanwhile.
    """
    from bot.operator.requests import ask_and_wait

    _, shown = ask_and_wait(bus, clock, action="strangers", who=who)
    name, _, lines = shown.partition("\n")
    if not name:
        return "the ledger knows all that the account shows; there is nothing to adopt"
    print("This ledger does not know:")
    print(lines)
    print("Adopted, it is recorded as the owner's own: the bot never touches it, and goes on trading beside it.")
    if not yes and not _agrees("Adopt all of it? [y/N] "):
        return "nothing was changed"
    done, answer = ask_and_wait(bus, clock, action="adopt", who=who, note=note, seen=name)
    if not done:
        raise BusError(answer)
    return answer


def settle(bus: Bus, clock: Clock, *, order_id: str, verdict: str, shares: Decimal | None, who: str, note: str) -> str:
    """End an order that the venue never resolved, by a person's word; returns what was done. Raises BusError."""
    from bot.operator.requests import ask_and_wait

    done, answer = ask_and_wait(
        bus, clock, action="settle", who=who, note=note, order_id=order_id, verdict=verdict, shares=shares
    )
    if not done:
        raise BusError(answer)
    return answer


# The command line: `python -m bot [run] | credentials | adopt | settle | audit | explain | compare | calibrate | replay | ...`.


EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bot", description="The trading process. Settings come from the environment (BOT_*, BUS_DIR)."
    )
    parser.add_argument("--version", action="store_true", help="import everything, print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run one instance until SIGTERM (what happens without a command, too)")
    credentials = commands.add_parser(
        "credentials",
        help="derive the venue's API credentials of BOT_KEY_FILE and store them; once, before trading live",
    )
    credentials.add_argument(
        "--create",
        action="store_true",
        help="create them where the venue has none; invalidates other keys of this wallet",
    )
    adopt = commands.add_parser(
        "adopt", help="show what the account has and the ledger does not know, and record it as the owner's own"
    )
    adopt.add_argument("--yes", action="store_true", help="adopt without asking")
    adopt.add_argument("--note", default="", help="why, for the record")
    settle = commands.add_parser("settle", help="end an order or a window that the venue never resolved, by your word")
    settle.add_argument(
        "order", metavar="ORDER|WINDOW", help="an order's id as status and audit show it, or btc-updown-5m-..."
    )
    settle.add_argument(
        "--as",
        dest="verdict",
        choices=("filled", "refused", "Up", "Down", "Void"),
        required=True,
        help="what became of the order, or of all open ones of the window; or how the window resolved",
    )
    settle.add_argument(
        "--shares", type=_shares, metavar="N", help="filled in all; else what the venue said, or the whole order"
    )
    settle.add_argument("--note", required=True, help="how you know, for the record")
    audit = commands.add_parser("audit", help="check the invariants of the ledger; exit 1 when one is broken")
    audit.add_argument(
        "--venue",
        metavar="SOURCE",
        help="the venue's own record to compare with: paper's URL, or a file made by `paper record`",
    )
    audit.add_argument("--max-missed", type=int, metavar="N", help="also fail when more than N ticks were missed")
    audit.add_argument("--json", action="store_true", help="print JSON instead of a table")
    explain = commands.add_parser("explain", help="the life of an order, the newest of a slot, or all of a tick")
    explain.add_argument("what", metavar="ORDER|SLOT|TICK", help="an order's id or its beginning, BTC-5m, or UTC ms")
    explain.add_argument("--venue", metavar="SOURCE", help="also the venue's own record, as in audit")
    explain.add_argument(
        "--logs", type=Path, nargs="+", default=[], metavar="FILE", help="also the lines of these logs"
    )
    explain.add_argument("--json", action="store_true", help="print JSON")
    compare = commands.add_parser(
        "compare",
        help="what this code would have decided upon what is on record on the bus; exit 1 where it differs",
    )
    compare.add_argument(
        "ref", metavar="REF", nargs="?", help="a commit of the watched repository, instead of this code"
    )
    compare.add_argument(
        "--last", type=_duration_ms, default="1h", metavar="TIME", help="of how long, as 90s, 30m or 1h (1h)"
    )
    compare.add_argument("--by", metavar="SHA", default="", help="only what the commit of this full sha decided")
    compare.add_argument("--json", action="store_true", help="print JSON")
    calibrate = commands.add_parser(
        "calibrate", help="what was predicted against what happened, beside what the market said; slippage; PnL by part"
    )
    calibrate.add_argument("--json", action="store_true", help="print JSON")
    commands.add_parser("replay", add_help=False, help="the same decisions on a price tape, against the paper engine")
    record = commands.add_parser(
        "record", help="record the markets and lead prices, for `paper --recording` and replay"
    )
    record.add_argument(
        "--out", type=Path, default=Path("recordings"), metavar="DIR", help="folder of the recording (recordings)"
    )
    record.add_argument("--seconds", type=float, metavar="S", help="end after so long; else at Ctrl-C")
    record.add_argument("--budget", type=float, default=20.0, metavar="GIB", help="that it may have, oldest first (20)")
    chosen, rest = parser.parse_known_args(arguments)
    if rest and chosen.command != "replay":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if chosen.version:
        import bot.lifecycle.app  # noqa: F401  # the deployer asks for the version to learn whether a commit can be imported

        print(f"bot {VERSION}")
        return EXIT_OK
    try:
        if chosen.command == "audit":
            from bot.tools.audit import run_audit

            return run_audit(load_settings(BusSettings).dir, chosen.venue, chosen.max_missed, as_json=chosen.json)
        if chosen.command == "explain":
            from bot.tools.explain import run_explain

            print(
                run_explain(load_settings(BusSettings).dir, chosen.what, chosen.venue, chosen.logs, as_json=chosen.json)
            )
            return EXIT_OK
        if chosen.command == "calibrate":
            from bot.tools.calibrate import run_calibrate

            sys.stdout.write(run_calibrate(load_settings(BusSettings).dir, as_json_text=chosen.json))
            return EXIT_OK
        if chosen.command == "compare":
            return _compare(chosen.last, chosen.by, chosen.ref, as_json=chosen.json)
        if chosen.command == "replay":
            return _replay(rest)
        if chosen.command == "record":
            return _record(chosen.out, chosen.seconds, chosen.budget)
        if chosen.command in ("adopt", "settle"):
            return _say(chosen)
        if chosen.command == "credentials":
            return _credentials(may_create=chosen.create)
        return _run()
    except (SettingsError, BusError) as error:
        print(f"bot: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _shares(text: str) -> Decimal:
    try:
        shares = Decimal(text)
    except ArithmeticError:
        shares = Decimal(-1)
    if not shares.is_finite() or shares < 0:
        raise argparse.ArgumentTypeError(f"expected a number of shares such as 12.5, found {text!r}")
    return shares


def _duration_ms(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 7 and unit in _UNITS_MS) or int(number) == 0:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 30m or 1h, found {text!r}")
    return int(number) * _UNITS_MS[unit]


def _compare(last_ms: int, by: str, ref: str | None, *, as_json: bool) -> int:
    from bot.settings import BotSettings
    from bot.strategy.guard import load_strategy
    from bot.tools.decision_diff import compare, compare_commit

    bus = bus_to_read(load_settings(BusSettings).dir)  # a deploy compares upon a bus that it cannot write to
    if ref is not None:
        return compare_commit(bus, ref, last_ms, by, as_json=as_json, say=print)
    strategy = load_strategy(load_settings(BotSettings).strategy)
    diff = compare(read_inputs(bus.inputs, last_ms), strategy, by)
    print(json.dumps(diff.json()) if as_json else "\n".join([str(diff), *diff.lines()]))
    if diff.decisions == 0:
        print("bot: nothing on record could be replayed", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_FAILED if diff.differ else EXIT_OK


def _replay(arguments: list[str]) -> int:
    try:
        from bot.tools.replay import add_arguments, run_command
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "paper":
            raise
        raise SettingsError(
            "replay needs the paper engine, which is not in this image; run it in a checkout"
        ) from error
    parser = argparse.ArgumentParser(
        prog="bot replay", description=(sys.modules["bot.tools.replay"].__doc__ or "").split("\n\n")[1]
    )
    add_arguments(parser)
    return run_command(parser.parse_args(arguments))


def _record(folder: Path, limit_s: float | None, budget_gib: float) -> int:
    from bot.settings import BotSettings
    from bot.tools.recorder import hosts_of, record_market
    from bot.venue.credentials import endpoints

    settings, clock = load_settings(BotSettings), SystemClock()
    logging = Logging(color=settings.color, git_sha=settings.sha[:12], deploy_id=settings.deploy_id)
    try:
        recording = record_market(
            hosts_of(endpoints(settings)),
            settings.assets,
            settings.timeframes,
            folder,
            budget=round(budget_gib * 2**30),
            clock=clock,
            log=logging.log,
            limit_s=limit_s,
            say=lambda text: print(text, file=sys.stderr),
        )
        written = asyncio.run(recording)
        print(f"{folder}: {written.frames} frames, {written.bytes} bytes, {written.dropped} dropped")
    finally:
        logging.close()
    return EXIT_OK


def _say(chosen: argparse.Namespace) -> int:

    bus, clock = open_bus(load_settings(BusSettings).dir), SystemClock()
    if chosen.command == "adopt":
        print(adopt(bus, clock, who=whoami(), note=chosen.note, yes=chosen.yes))
    else:
        if not chosen.note.strip():
            raise SettingsError("--note is empty; say how you know what became of the order, for the record")
        print(
            settle(
                bus,
                clock,
                order_id=chosen.order,
                verdict=chosen.verdict,
                shares=chosen.shares,
                who=whoami(),
                note=chosen.note,
            )
        )
    return EXIT_OK


def _credentials(*, may_create: bool) -> int:
    from bot.settings import BotSettings, read_key
    from bot.venue.credentials import store_credentials

    settings = load_settings(BotSettings)
    if settings.key_file is None:
        raise SettingsError(
            "BOT_KEY_FILE is not set; it names the file with the wallet's private key (docs/how-to/live.md)"
        )
    print(store_credentials(settings, read_key(settings, settings.key_file.parent), may_create=may_create))
    return EXIT_OK


def _run() -> int:
    # Imported here: the libraries of the venue take a second to load, which no other command needs.
    from bot.lifecycle.app import run
    from bot.settings import BotSettings

    settings = load_settings(BotSettings)
    bus = open_bus(load_settings(BusSettings).dir)
    logging = Logging(color=settings.color, git_sha=settings.sha[:12], deploy_id=settings.deploy_id)
    try:
        return asyncio.run(run(settings, bus, SystemClock(), logging))
    finally:
        logging.close()
