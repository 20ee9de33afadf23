"""never-sleeps.toml: what is configured, in one file. Environment variables stand above it, defaults below.

A table is a part of the system, a key one of its settings: `poll_interval` in `[bot]` is BOT_POLL_INTERVAL. Secrets are never in
it: a setting that ends in `_file` names the file that holds one. It needs the standard library alone, since whatever starts
something reads it first.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FILE = "never-sleeps.toml"
TABLES = ("bus", "bot", "paper", "panel", "deployer")
# What looks like a secret itself: 64 hex digits, or a long word of a token's letters.
_SECRET = re.compile(r"(0x)?[0-9a-fA-F]{64}|[A-Za-z0-9_-]{32,}")
Source = Literal["default", "file", "environment", "running"]


class ConfigError(Exception):
    """The file cannot be used; one line that says what was expected, what was found, and what to do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. name: its variable. value: as the variable has it. source: where that comes from. running: what the system
    that runs has, None where nothing runs or nothing was set."""

    name: str
    value: str
    source: Source
    running: str | None = None


def read_config(path: Path, known: Collection[str] | None = None) -> dict[str, str]:
    """What the file sets, by variable; nothing where there is no file. known: all variables that there are, None to believe any.

    Raises ConfigError.
    """
    if (
        path.exists() and not path.is_file()
    ):  # without the bus's own way to open: this runs before anything is installed
        raise ConfigError(f"{path}: expected a regular file, found something else; remove it")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); correct it, or remove it") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML, found {error}; correct that place") from error
    variables: dict[str, str] = {}
    for table, keys in tables.items():
        if table not in TABLES or not isinstance(keys, dict):
            raise ConfigError(
                f"{path}: expected the tables {', '.join(TABLES)}, found {table!a:.40}{_near(table, TABLES)}"
            )
        for key, value in keys.items():
            name = f"{table}_{key}".upper()
            if known is not None and name not in known:
                own = [one.partition("_")[2].lower() for one in known if one.startswith(f"{table.upper()}_")]
                raise ConfigError(f"{path}: [{table}] has no setting {key!a:.40}{_near(key, own)}; ns config shows all")
            variables[name] = _as_variable(path, f"[{table}] {key}", value)
    return variables


def _near(word: str, words: Collection[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; is {close[0]} meant?" if close else ""


def _as_variable(path: Path, where: str, value: Any) -> str:
    """A value as its variable has it: lists are joined by commas."""
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        return ",".join(_as_variable(path, where, part) for part in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and _SECRET.fullmatch(value):
        raise ConfigError(
            f"{path}: {where} looks like a secret itself; name a file that holds it (a setting that ends in _file)"
        )
    if isinstance(value, str) and ("\n" in value or "\0" in value):
        raise ConfigError(f"{path}: {where}: expected one line of text, found several")
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(
        f"{path}: {where}: expected a text, a number, true, false or a list of them, found {type(value).__name__}"
    )


def merged(
    defaults: Mapping[str, str],
    file: Mapping[str, str],
    environment: Mapping[str, str],
    running: Mapping[str, str] | None,
) -> tuple[Setting, ...]:
    """Every setting with where it comes from, the environment first, then the file, then the default."""
    settings = []
    for name, default in sorted(defaults.items()):
        value, source = default, "default"
        if name in file:
            value, source = file[name], "file"
        if name in environment:
            value, source = environment[name], "environment"
        other = None if running is None else running.get(name, default)
        settings.append(Setting(name, value, source, other))  # type: ignore[arg-type]
    return tuple(settings)


def differences(settings: Collection[Setting]) -> tuple[Setting, ...]:
    """Those that the running system has otherwise."""
    return tuple(one for one in settings if one.running is not None and one.running != one.value)


def read_recorded(path: Path) -> dict[str, str] | None:
    """What the system that was started last was given, NAME=VALUE a line; None where nothing was started yet."""
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return dict(line.split("=", 1) for line in lines if "=" in line)


def with_file(root: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment with what the checkout's file sets beneath it. Raises ConfigError."""
    given = dict(os.environ if environment is None else environment)
    return {**read_config(root / FILE), **given}
