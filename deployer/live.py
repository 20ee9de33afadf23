"""`deployer status --watch`: the status again every second, with the steps of the open deploy, until interrupted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bus import Bus
from deployer import report

EVERY_S = 1.0


def watch(bus: Bus, folder: Path, *, as_json: bool, console: Console) -> None:
    """One status a second: a live page on a terminal, else one after the other. Raises BusError, OSError."""
    if as_json or not console.is_terminal:
        while True:
            found = report.status(bus, folder)
            console.file.write(f"{json.dumps(found) if as_json else watch_text(found)}\n")
            console.file.flush()
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
