"""Other functions in the place of the product's own, for as long as this process lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def replace_in(where: object, name: str, by: Callable[[Any], Any]) -> None:
    """Put what `by` makes out of a module's or a class's own one in its place."""
    setattr(where, name, by(getattr(where, name)))


def put_in(where: object, name: str, value: object) -> None:
    """Put another one in its place."""
    setattr(where, name, value)
