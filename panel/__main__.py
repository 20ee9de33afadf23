"""`python -m panel`: run the control panel until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bus import BusError, BusSettings, Logging, SettingsError, SystemClock, load_settings, open_bus
from bus.main import run_main
from panel.codes import codes_file, link_to, make_code
from panel.errors import StartError
from panel.guard import Scope, load_tokens
from panel.server import PanelSettings, bind, serve, url_of

_SETTINGS = """settings (environment):
  BUS_DIR             the bus directory (volumes/bus)
  PANEL_HOST          the address to listen on (127.0.0.1)
  PANEL_PORT          the port, 0 for any free one (8701)
  PANEL_TOKEN_FILE    the tokens that allow looking and writing; made when missing (.run/panel-token)
  PANEL_READ_TOKEN_FILE  those that allow looking alone; made when missing (PANEL_TOKEN_FILE with -read at its end)
  PANEL_TLS_CERT, PANEL_TLS_KEY  PEM files to serve HTTPS with
  PANEL_HOSTS         further host names by which people reach the page, separated by commas
  PANEL_BEHIND_PROXY  true when a proxy with TLS, or Compose publishing on 127.0.0.1, stands in front (false)

commands:
  link [--url URL]    print a link that opens the page once, within ten minutes, without the token

exit codes: 0 ended by a signal, 1 failed while running, 2 could not start
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
    given = parser.parse_args(arguments)
    try:
        settings = load_settings(PanelSettings)
        if given.command == "link":
            return _print_link(settings, given.url)
        bus = open_bus(load_settings(BusSettings).dir)
        control, _ = load_tokens(settings.token_file, Scope.CONTROL)
        read, _ = load_tokens(settings.read_tokens, Scope.READ)
        sock = bind(settings)
    except (SettingsError, BusError, StartError) as error:
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
            )
        )
    except KeyboardInterrupt:  # before the signal handlers were there
        return 0
    finally:
        sock.close()
        logging.close()


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
