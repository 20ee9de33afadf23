"""`python -m panel`: run the control panel until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Sequence

from bus import (
    BusError,
    BusSettings,
    Logging,
    SettingsError,
    SystemClock,
    bus_to_read,
    is_halted,
    load_settings,
    open_bus,
)
from bus.control import pause_reason, pause_s
from bus.main import run_main
from panel.actions import Actions, Asker
from panel.codes import codes_file, link_to, make_code
from panel.commands import ACTIONS, MOST_ROWS, TABLES, as_lines, change, person, rows, say, write_rows
from panel.errors import NotifyOffError, PanelError, StartError
from panel.guard import Scope, load_tokens
from panel.notify.command import say_targets, send_tests
from panel.notify.service import make_test
from panel.notify.targets import read_targets
from panel.server import PanelSettings, bind, serve, url_of

_SETTINGS = """settings (environment):
  BUS_DIR             the bus directory (volumes/bus)
  PANEL_HOST          the address to listen on (127.0.0.1)
  PANEL_PORT          the port, 0 for any free one (8701)
  PANEL_TOKEN_FILE    the tokens that allow looking and writing; made when missing (.run/panel-token)
  PANEL_READ_TOKEN_FILE  those that allow looking alone; made when missing (PANEL_TOKEN_FILE with -read at its end)
  PANEL_TLS_CERT, PANEL_TLS_KEY  PEM files to serve HTTPS with
  PANEL_HOSTS         further host names by which people reach the page, separated by commas
  PANEL_BANNER        what the page says beside REHEARSAL; "real prices, play money" where paper is a mirror (none)
  PANEL_NOTIFY_FILE   whom to notify: a file of apprise's addresses, one a line, for its owner's eyes alone (nobody)
  PANEL_NOTIFY_KINDS  of what: names separated by commas (everything): fills, outcomes, refusals, halts, pauses, deploys,
                      deaths, limits, standstills
  PANEL_NOTIFY_QUIET  when only of halts, limits and standstills: 22:00-07:00 Europe/Berlin (never)
  PANEL_BEHIND_PROXY  true when a proxy with TLS, or Compose publishing on 127.0.0.1, stands in front (false)

exit codes: 0 done, or ended by a signal; 1 failed while running, or refused by the bot; 2 could not start
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m panel",
        description="The control panel: shows status, writes control.",
        epilog=_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="")
    link = commands.add_parser("link", help="print a link that opens the page once, within ten minutes")
    link.add_argument("--url", default="", help="the panel's address, where it is another one than the settings say")
    commands.add_parser("token", help="print the token that opens the page and may write")
    notify = commands.add_parser("notify", help="say who is notified; with --test, send each a test")
    notify.add_argument("--test", action="store_true", help="send a test to each, and say what it answered")
    notify.add_argument("--json", action="store_true", help="print JSON")
    for name, text in ACTIONS.items():
        action = commands.add_parser(name, help=text)
        if name == "set":
            action.add_argument("values", nargs="+", metavar="NAME=VALUE")
        elif name == "flatten":
            action.add_argument("values", nargs="*", metavar="SLOT")
        action.add_argument("--json", action="store_true", help="print JSON")
    commands.choices["pause"].add_argument("--for", dest="lasts", default="", metavar="TIME", help="30m, 2h, 1h30m ...")
    commands.choices["pause"].add_argument(
        "--why", default="", metavar="TEXT", help="the reason, for who reads the page"
    )
    commands.choices["resume"].add_argument("--yes", action="store_true", help="also when trading is halted")
    table = commands.add_parser("rows", help="the newest rows of the ledger: orders, fills or outcomes")
    table.add_argument("table", choices=TABLES)
    table.add_argument("--slot", help="of one slot alone, such as BTC-5m")
    table.add_argument("--last", type=int, default=20, metavar="N", help="how many at most (20); 0: all of them")
    shape = table.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--csv", action="store_true", help="print CSV")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings(PanelSettings)
        if given.command == "link":
            return _print_link(settings, given.url)
        if given.command == "token":
            print(load_tokens(settings.token_file, Scope.CONTROL)[0][0].value)
            return 0
        if given.command == "notify":
            return _notify(settings, test=given.test, as_json=given.json)
        if given.command == "rows":
            return _print_rows(given)
        if given.command in ACTIONS:
            return _act(given)
        bus = open_bus(load_settings(BusSettings).dir)
        control, _ = load_tokens(settings.token_file, Scope.CONTROL)
        read, _ = load_tokens(settings.read_tokens, Scope.READ)
        targets = read_targets(settings.notify_file) if settings.notify_file is not None else ()
        sock = bind(settings)
    except (SettingsError, BusError, PanelError) as error:
        print(f"panel: {error}", file=sys.stderr)
        return 2
    logging = Logging(process="panel")
    try:
        return asyncio.run(
            serve(
                bus=bus,
                settings=settings,
                tokens=(*control, *read),
                sock=sock,
                clock=SystemClock(),
                log=logging.log,
                targets=targets,
            )
        )
    except KeyboardInterrupt:  # before the signal handlers were there
        return 0
    finally:
        sock.close()
        logging.close()


def _act(given: argparse.Namespace) -> int:
    """Write control as a button does, and wait for what becomes of it; 1 where the bot refuses it."""
    try:
        lasts, why = pause_s(getattr(given, "lasts", "")), pause_reason(getattr(given, "why", ""))
    except ValueError as error:
        raise StartError(str(error)) from None
    bus, clock = open_bus(load_settings(BusSettings).dir), SystemClock()
    unread = os.open(os.devnull, os.O_WRONLY)  # the record of writes has all of it, and a person reads one line
    logging = Logging(unread)
    try:
        actions = Actions(bus, clock, logging.log, lambda: secrets.token_hex(8))
        asker, values = Asker(person(), "command line"), getattr(given, "values", ())
        agreed = getattr(given, "yes", False)
        written = change(bus, actions, clock, given.command, values, asker, agreed=agreed, for_s=lasts, why=why)
    except OSError as error:
        halted = ". The halt file is there: no entry is made" if is_halted(bus) else ""
        raise StartError(f"{error}; correct it and say it again{halted}") from error
    finally:
        logging.close()
        os.close(unread)
    print(say(given.command, written, as_json=given.json))
    progress = written.progress
    return 1 if progress is not None and (progress.stage == "refused" or progress.reasons) else 0


def _notify(settings: PanelSettings, *, test: bool, as_json: bool) -> int:
    """Who is notified; with a test, what each answered: 1 where one did not take it."""
    if settings.notify_file is None:
        raise NotifyOffError
    targets = read_targets(settings.notify_file)
    told = send_tests(targets, make_test(SystemClock().wall_ms())) if test else ()
    print(say_targets(settings, targets, told, as_json=as_json))
    return 0 if all(one.sent for one in told) else 1


def _print_rows(given: argparse.Namespace) -> int:
    found = rows(bus_to_read(load_settings(BusSettings).dir), given.table, given.slot, given.last or MOST_ROWS)
    if given.json or given.csv:
        write_rows(found, given.table, sys.stdout, as_json=given.json)
    else:
        print(as_lines(found))
    return 0


def _print_link(settings: PanelSettings, url: str) -> int:
    load_tokens(settings.token_file, Scope.CONTROL)  # whoever may read them may open the page
    try:
        code = make_code(codes_file(settings.token_file), SystemClock().wall_ms())
    except OSError as error:
        raise StartError(f"the code cannot be written ({error}); make its folder writable") from error
    print(link_to(url or url_of(settings, settings.host.strip("[]"), settings.port), code))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
