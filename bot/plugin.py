"""Finds the strategy that BOT_STRATEGY names: `package.module:Class` or `path/to/file.py:Class`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from bot.parameters import why_no_schema
from bot.strategy.guard import Guarded
from bus import SettingsError

DEFAULT_STRATEGY = "bot.strategy.snipe:Snipe"
_EXPECTED = "expected package.module:Class or path/to/file.py:Class"


def load_strategy(name: str) -> Guarded:
    """The strategy of that name, behind its guard. Raises SettingsError, in one line."""
    where, _, what = name.rpartition(":")
    if not where or not what.isidentifier():
        raise SettingsError(f"BOT_STRATEGY {name!r:.200}: {_EXPECTED}")
    module = _load(name, where)
    made = getattr(module, what, None)
    if not isinstance(made, type):
        found = "something else" if hasattr(module, what) else "nothing of that name"
        raise SettingsError(f"BOT_STRATEGY {name}: expected a class {what} in {where}, found {found}")
    try:
        strategy = made()
        parameters = strategy.parameters
        wrong = why_no_schema(parameters)
        if wrong is None:
            parameters()
    except Exception as error:  # whatever a strategy of one's own raises is one line at the start
        raise SettingsError(f"BOT_STRATEGY {name}: {what} cannot be made: {type(error).__name__}: {error}") from error
    if wrong is not None:
        raise SettingsError(f"BOT_STRATEGY {name}: {what}.parameters cannot be used: {wrong}")
    if not callable(getattr(strategy, "decide", None)):
        raise SettingsError(f"BOT_STRATEGY {name}: {what} has no method decide(inputs, parameters)")
    return Guarded(strategy, name)


def _load(name: str, where: str) -> ModuleType:
    try:
        if where.endswith(".py"):
            return _load_file(Path(where))
        return importlib.import_module(where)
    except Exception as error:  # as above
        raise SettingsError(
            f"BOT_STRATEGY {name}: {where} cannot be imported: {type(error).__name__}: {error}; {_EXPECTED}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"bot_strategy_{path.stem}", path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
