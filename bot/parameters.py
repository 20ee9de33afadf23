"""A strategy's parameters: a frozen dataclass whose fields say what they allow; control's values are checked by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

LARGEST = 1e12
LONGEST = 200

P = TypeVar("P", bound=object)


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the most that a number may be, both allowed."""

    least: float = 0.0
    most: float = LARGEST


def number(default: float, *, least: float = 0.0, most: float = LARGEST) -> Any:
    """A field of a parameters class. A default that is an int makes it a whole number."""
    return field(default=default, metadata={"range": Range(least, most)})


def why_no_schema(kind: object) -> str | None:
    """Why a class cannot be a strategy's parameters, or None."""
    if not isinstance(kind, type) or not hasattr(kind, "__dataclass_fields__"):
        return "expected a dataclass"
    for one in fields(kind):
        if not isinstance(one.default, bool | int | float | str):
            return f"expected field {one.name} to have a default that is a number, a text or a bool"
    return None


def read_parameters(kind: type[P], values: Mapping[str, object], before: P | None = None) -> tuple[P, tuple[str, ...]]:
    """The parameters out of control's table, and one sentence for each value that was refused.

    A name that is not there has its default. A refused value leaves that of `before`, the last good ones.
    """
    last_good = before if before is not None else kind()
    schema: Any = kind  # `why_no_schema` saw that it is a dataclass
    known = {one.name: one for one in fields(schema)}
    good: dict[str, object] = {}
    refused = []
    for name, value in values.items():
        if name not in known:
            refused.append(f"strategy.{name}: no such parameter; known are {', '.join(known)}")
            continue
        default: Any = known[name].default
        wrong = _wrong(default, known[name].metadata.get("range", Range(-LARGEST)), value)
        if wrong is not None:
            stays = getattr(last_good, name)
            refused.append(f"strategy.{name}: expected {wrong}, found {value!r:.80}; {stays} stays")
            good[name] = stays
        else:
            good[name] = type(default)(value)
    return kind(**good), tuple(refused)


def _wrong(default: object, allowed: Range, value: object) -> str | None:
    """What was expected of a value that cannot be taken, or None."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return None if isinstance(value, str) and len(value) <= LONGEST else f"a text of at most {LONGEST} characters"
    what = "a whole number" if isinstance(default, int) else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not allowed.least <= value <= allowed.most  # NaN is refused, too
        or (isinstance(default, int) and value != int(value))
    ):
        return f"{what} from {allowed.least:g} to {allowed.most:g}"
    return None
