"""The command line: `python -m deployer COMMAND`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from bus import (
    Bus,
    BusError,
    BusSettings,
    Logging,
    SettingsError,
    SystemClock,
    is_locked,
    load_settings,
    make_request,
    open_bus,
)
from deployer import report
from deployer.demo import demo
from deployer.down import down
from deployer.errors import DeployerError, StartError
from deployer.settings import DeployerSettings
from deployer.start import run
from deployer.up import follow, up

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "demo":
            return demo(load_settings(DeployerSettings).repository, Console())
        settings = load_settings(DeployerSettings)
        bus = open_bus(load_settings(BusSettings).dir)
        return _command(chosen, settings, bus)
    except (SettingsError, BusError, DeployerError) as error:
        print(f"deployer: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # `deployer history | head`
        sys.stderr.close()
        return EXIT_OK
    except OSError as error:
        print(f"deployer: {error}; correct it and start again", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deployer",
        description="Replaces the bot by what is committed, while it trades. Settings come from the environment "
        "(DEPLOYER_*, BUS_DIR); see docs/deployer.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("run", help="watch the branch and deploy its commits until SIGTERM; the bots go on without it")
    begin = commands.add_parser("up", help="run everything: paper, panel, deployer, bots, until Ctrl-C")
    begin.add_argument("--fast", action="store_true", help="polls every second, windows of 30 s and 90 s")
    commands.add_parser("demo", help="all of it in about a minute, on a copy of this repository; ends with the audit")
    commands.add_parser("down", help="end everything: bots first, then services")
    deploy = commands.add_parser("deploy", help="deploy a commit, also one that failed before")
    deploy.add_argument("ref", metavar="REF", help="a branch, tag or sha of the watched repository")
    deploy.add_argument("--now", action="store_true", help="do not wait for open snipe windows")
    back = commands.add_parser("rollback", help="deploy the commit that was confirmed before the present one")
    back.add_argument("ref", metavar="REF", nargs="?", default="", help="that commit instead")
    commands.add_parser("cancel", help="give up the deploy that is under way, if it was not handed over yet")
    for command in (deploy, back):
        command.add_argument("--no-wait", action="store_true", help="only ask; do not show the steps")
    status = commands.add_parser("status", help="what runs and who trades")
    status.add_argument("--follow", action="store_true", help="who trades, again and again until Ctrl-C")
    history = commands.add_parser("history", help="the newest deploys and their steps")
    for command in (status, history):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(chosen: argparse.Namespace, settings: DeployerSettings, bus: Bus) -> int:
    match chosen.command:
        case "run":
            logging = Logging(process="deployer")
            try:
                return asyncio.run(run(settings, bus, SystemClock(), logging))
            finally:
                logging.close()
        case "up":
            return up(settings, bus, SystemClock(), fast=chosen.fast)
        case "down":
            code = down(settings, bus, SystemClock(), print)
            print("nothing runs any more" if code == EXIT_OK else "not everything ended")
            return code
        case "status" if chosen.follow:
            follow(bus, SystemClock())
            return EXIT_OK
        case "status":
            found = report.status(bus, settings.dir)
            print(json.dumps(found, indent=1) if chosen.json else report.status_text(found))
            return EXIT_OK
        case "history":
            deploys = report.history(bus)
            print(json.dumps(deploys, indent=1) if chosen.json else report.history_text(deploys))
            return EXIT_OK
        case _:
            return _ask(chosen, bus)


def _ask(chosen: argparse.Namespace, bus: Bus) -> int:
    """Put a request on the bus and follow what becomes of it."""
    if not is_locked(bus.deployer_lock):
        raise StartError("no deployer runs on this bus that could do it; start one with `make run`")
    request = make_request(
        bus,
        chosen.command,
        ref=getattr(chosen, "ref", ""),
        now=getattr(chosen, "now", False),
        by=f"{getpass.getuser()} on the command line",
        clock=SystemClock(),
    )
    if getattr(chosen, "no_wait", False):
        print(f"asked: {request.id}")
        return EXIT_OK
    return EXIT_OK if report.follow(bus, request.id, print) else EXIT_FAILED
