"""What is set, where that comes from, and what the system that runs was started with."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.table import Table

from bus.main import url_host
from cli.config import FILE, Setting, differences, merged, read_config, read_recorded
from cli.place import Place

RECORDED = Path(".run/settings.env")
# What `--fast` sets, where nothing else does.
FAST = {
    "BOT_POLL_INTERVAL": "1",
    "BOT_TIMEFRAMES": "30s,90s",
    "PAPER_TIMEFRAMES": "30s,90s",
    "BOT_REQUESTS_PER_SECOND": "15",
}
# What `--mirror` sets, where nothing else does.
MIRROR = {"PAPER_MIRROR": "real", "PAPER_RECORD_TO": ".run/recordings", "PANEL_BANNER": "real prices, play money"}
# What the deployer gives each bot; nobody sets it.
_GIVEN = {"BOT_COLOR", "BOT_SHA", "BOT_UNIT", "BOT_DEPLOY_ID"}
_IPV6 = re.compile(r"\[?::1\]?")
_REFERENCE = """\
# Settings

Each is an environment variable, or a key of a table in `never-sleeps.toml`: `BOT_POLL_INTERVAL=1`, or `poll_interval = 1` under
`[bot]`. The environment stands above the file. `./ns config` shows each value, where it comes from, and what the running system
has otherwise. Secrets are named by path alone. On a machine without IPv4, 127.0.0.1 is `::1`.

Times are seconds. This page is made by `python -m cli.settings`, from the code that reads them.
"""


def defaults() -> dict[str, str]:
    """Every setting there is, by variable, with its default as a variable would have it."""
    return {
        name: _text(field.get_default(call_default_factory=True))
        for kind in _kinds().values()
        for name, field in _fields(kind)
    }


def reference() -> str:
    """docs/reference/settings.md: every setting with its default, its range, and what it is."""
    lines = [_REFERENCE]
    for title, kind in _kinds().items():
        lines += [f"## {title}\n", "| setting | default | range | |", "|---|---|---|---|"]
        for name, field in _fields(kind):
            default = _text(field.get_default(call_default_factory=True))
            shown = f"`{_IPV6.sub('127.0.0.1', default)}`" if default else ""
            lines.append(f"| `{name}` | {shown} | {_range(field)} | {_linked(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def _kinds() -> dict[str, type[BaseSettings]]:
    from bot.settings import BotSettings
    from bus import BusSettings
    from deployer.settings import DeployerSettings
    from panel.server import PanelSettings
    from paper.settings import Settings as PaperSettings

    return {
        "Bus": BusSettings,
        "Bot": BotSettings,
        "Deployer": DeployerSettings,
        "Panel": PanelSettings,
        "Paper exchange": PaperSettings,
    }


def _fields(kind: type[BaseSettings]) -> list[tuple[str, FieldInfo]]:
    """By variable, without what the deployer gives each bot."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    named = [(f"{prefix}{name}".upper(), field) for name, field in kind.model_fields.items()]
    return [(name, field) for name, field in named if name not in _GIVEN]


def _range(field: FieldInfo) -> str:
    """What is taken: words, or bounds; empty for any value of its kind."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    bounds = [
        f"{sign} {getattr(limit, name):,.10g}"
        for limit in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(limit, name)
    ]
    return ", ".join(bounds)


def _linked(text: str) -> str:
    """On one line, with a page that it names as a link from docs/reference/."""
    return re.sub(r"\(docs/([\w/-]+/)([\w-]+)\.md\)", r"([\2](../\1\2.md))", " ".join(text.split())).replace("|", "\\|")


def _text(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(_text(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_of(
    root: Path, environment: Mapping[str, str], *, fast: bool = False, mirror: bool = False
) -> tuple[Setting, ...]:
    """Every setting of a checkout. environment: the person's own, without the file. Raises ConfigError: the file is wrong."""
    known = defaults()
    file = read_config(root / FILE, known)
    usual = {**known, **(FAST if fast else {}), **(MIRROR if mirror else {})}
    return merged(usual, file, environment, read_recorded(root / RECORDED))


def show(place: Place, *, as_json: bool) -> str:
    """All settings for a person, or as JSON. A path is shown, what is in it never. Raises ConfigError."""
    settings = settings_of(place.root, os.environ)
    if as_json:
        return json.dumps([asdict(one) for one in settings], indent=1)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("setting", "value", "from", "the running system has"):
        table.add_column(head, overflow="fold")
    other = {one.name for one in differences(settings)}
    for one in settings:
        table.add_row(one.name, one.value or "-", one.source, (one.running or "-") if one.name in other else "")
    console = Console(width=None if sys.stdout.isatty() else 140, color_system=None)  # it is printed as a text
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def may_run_with(place: Place, *, fast: bool, mirror: bool = False, agreed: bool) -> bool:
    """Check the file; where the last run had other settings, say which, and on a terminal ask. Raises ConfigError."""
    settings = settings_of(place.root, os.environ, fast=fast, mirror=mirror)
    other = [one for one in differences(settings) if one.source != "default" or one.running]
    if not other:
        return True
    print("the last run had other settings:", file=sys.stderr)
    for one in other:
        print(
            f"  {one.name}: {one.running or 'nothing'} then, {one.value or 'nothing'} now ({one.source})",
            file=sys.stderr,
        )
    if agreed or not sys.stdin.isatty():
        return True
    return input("Run with those of now? [y/N] ").strip().lower() in ("y", "yes")


def paper_url(place: Place) -> str:
    """Where the local exchange is, for whoever carries out the words of this place. Raises ConfigError."""
    if place.runtime == "docker":
        return "http://paper:8700"
    if place.runtime == "inside":  # its image has not every part, so not every setting is known there
        return os.environ.get("BOT_PAPER_URL", "http://paper:8700")
    return paper_url_of(as_runs(settings_of(place.root, os.environ)))


def as_runs(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """What the system that was started last has; what this shell says for itself comes first."""
    return tuple(
        one
        if one.source == "environment" or one.running in (None, one.value)
        else replace(one, value=one.running or "", source="running")
        for one in settings
    )


def paper_url_of(settings: Iterable[Setting]) -> str:
    """As processes: what is set, else where `run` starts it."""
    by_name = {one.name: one for one in settings}
    if by_name["BOT_PAPER_URL"].source != "default":
        return by_name["BOT_PAPER_URL"].value
    host = by_name["PAPER_HOST"].value
    return f"http://{url_host(host)}:{by_name['PAPER_PORT'].value}"


def panel_url(place: Place) -> str:
    """Where the panel's page is. Raises ConfigError."""
    by_name = {one.name: one for one in as_runs(settings_of(place.root, os.environ))}
    host, port = by_name["PANEL_HOST"].value, by_name["PANEL_PORT"].value
    return f"http://{'127.0.0.1' if place.runtime == 'docker' else url_host(host)}:{port}"


if __name__ == "__main__":
    print(reference(), end="")
