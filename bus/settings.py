"""The settings of the bus (prefix BUS_) and how settings errors are said."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)


class BusSettings(BaseSettings):
    """dir: the bus directory (BUS_DIR)."""

    model_config = SettingsConfigDict(env_prefix="BUS_")

    dir: Path = Path("volumes/bus")


class SettingsError(Exception):
    """A setting cannot be used; the text is one line for people."""


def load_settings(kind: type[S]) -> S:
    """Read settings from the environment. Raises SettingsError that names the variable, its value and what was expected."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{kind.model_config.get('env_prefix', '')}{'_'.join(str(part) for part in first['loc'])}".upper()
        raise SettingsError(
            f"{name}: {first['msg']}, found {first['input']!r:.80}; correct it and start again"
        ) from error
    except ValueError as error:  # pydantic-settings: a complex value that is not JSON
        raise SettingsError(f"{error}; correct it and start again") from error
