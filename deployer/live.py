"""`deployer status --watch`: the status again every second, until interrupted.

A terminal gets a live page with the steps of the open deploy. What is no terminal gets one line when somebody else trades, and
one every 10 s. `--json` gives one document a second.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bus import Bus, Clock
from deployer.commands import status as report
from deployer.commands.up import Screen, trading_line

EVERY_S = 1.0


def watch(bus: Bus, folder: Path, clock: Clock, *, as_json: bool, console: Console) -> None:
    """Look every second and show it. Raises BusError, OSError."""
    if as_json:
        while True:
            console.file.write(f"{json.dumps(report.status(bus, folder))}\n")
            console.file.flush()
            time.sleep(EVERY_S)
    if not console.is_terminal:
        screen = Screen(is_terminal=False)
        while True:
            screen.show(trading_line(bus, clock.wall_ms()))
            time.sleep(EVERY_S)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(Text(watch_text(report.status(bus, folder))), refresh=True)
            time.sleep(EVERY_S)


def watch_text(found: dict[str, Any]) -> str:
    """The status, and below it what the newest deploy came to."""
    lines = [report.status_text(found)]
    if deploy := found["open"] or found["newest"]:
        lines += [f"{deploy['id']}  {deploy['what']}: {deploy['verdict'] or deploy['phase']}"]
        lines += [f"  {step['line']}" for step in deploy["steps"]]
    return "\n".join(lines)
