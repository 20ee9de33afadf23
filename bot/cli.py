"""The command line: `python -m bot [run] | audit`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from bot.version import VERSION
from bus import BusError, BusSettings, Logging, SettingsError, SystemClock, load_settings, open_bus

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bot", description="The trading process. Settings come from the environment (BOT_*, BUS_DIR)."
    )
    parser.add_argument("--version", action="store_true", help="import everything, print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run one instance until SIGTERM (what happens without a command, too)")
    audit = commands.add_parser("audit", help="check the invariants of the ledger; exit 1 when one is broken")
    audit.add_argument(
        "--venue",
        metavar="SOURCE",
        help="the venue's own record to compare with: paper's URL, or a file made by `paper record`",
    )
    audit.add_argument("--max-missed", type=int, metavar="N", help="also fail when more than N ticks were missed")
    audit.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args(arguments)
    if chosen.version:
        import bot.app  # noqa: F401  # the deployer asks for the version to learn whether a commit can be imported

        print(f"bot {VERSION}")
        return EXIT_OK
    try:
        if chosen.command == "audit":
            from bot.audit import run_audit

            return run_audit(load_settings(BusSettings).dir, chosen.venue, chosen.max_missed, as_json=chosen.json)
        return _run()
    except (SettingsError, BusError) as error:
        print(f"bot: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _run() -> int:
    # Imported here: the libraries of the venue take a second to load, which no other command needs.
    from bot.app import run
    from bot.settings import BotSettings

    settings = load_settings(BotSettings)
    bus = open_bus(load_settings(BusSettings).dir)
    logging = Logging(color=settings.color, git_sha=settings.sha[:12], deploy_id=settings.deploy_id)
    try:
        return asyncio.run(run(settings, bus, SystemClock(), logging))
    finally:
        logging.close()
