"""Commands to a running exchange: ``fault`` breaks it on purpose, ``show`` prints what goes on."""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from paper.engine.faults import KINDS
from paper.errors import PaperError, UsageError
from paper.text import as_text

__all__ = ["COMMANDS", "run"]

COMMANDS = ("fault", "show")
_LIMIT_S = 10


def run(arguments: Sequence[str]) -> int:
    """Run one of COMMANDS; return 0.

    Raises:
        UsageError: the exchange refuses the request.
        PaperError: there is no exchange.
    """
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    host, port = os.environ.get("PAPER_HOST", "127.0.0.1"), os.environ.get("PAPER_PORT", "8700")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=f"http://{host}:{port}", help="of the exchange (default: %(default)s)")
    parser = argparse.ArgumentParser(prog="python -m paper")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", parents=[common], help="print prices, books, flow, orders and faults")
    fault = commands.add_parser(
        "fault",
        parents=[common],
        help="break something on purpose",
        description="Arm a fault. docs/paper.md says what each kind does.",
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
    request = urllib.request.Request(url.rstrip("/") + path, data=data, method=method)  # http(s) alone
    try:
        with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise UsageError(json.load(error)["error"]) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise PaperError(f"no exchange answers at {url} ({error}); start one, or give its --url") from error
