"""`python -m panel`: run the control panel until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bus import BusError, BusSettings, Logging, SettingsError, SystemClock, load_settings, open_bus
from bus.main import run_main
from panel.errors import StartError
from panel.guard import Scope, load_tokens
from panel.server import PanelSettings, bind, serve

_SETTINGS = """settings (environment):
  BUS_DIR             the bus directory (volumes/bus)
  PANEL_HOST          the address to listen on (127.0.0.1)
  PANEL_PORT          the port, 0 for any free one (8701)
  PANEL_TOKEN_FILE    the tokens that allow looking and writing; made when missing (.run/panel-token)
  PANEL_READ_TOKEN_FILE  those that allow looking alone; made when missing (PANEL_TOKEN_FILE with -read at its end)
  PANEL_TLS_CERT, PANEL_TLS_KEY  PEM files to serve HTTPS with
  PANEL_HOSTS         further host names by which people reach the page, separated by commas
  PANEL_BEHIND_PROXY  true when a proxy with TLS, or Compose publishing on 127.0.0.1, stands in front (false)

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
    parser.parse_args(arguments)
    try:
        settings = load_settings(PanelSettings)
        bus = open_bus(load_settings(BusSettings).dir)
        control, made = load_tokens(settings.token_file, Scope.CONTROL)
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
                first_start=made,
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


if __name__ == "__main__":
    sys.exit(run_main(main))
