"""What came of a comparison of decisions, as the new version's own process told it. Pure.

The process is of the commit that is deployed, so nothing that it says is believed beyond its form: numbers are counted, texts
are cut to one line, and what is no answer is told as one that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, NonNegativeInt, ValidationError

from deployer.push.receive import plain
from deployer.runtimes.api import OneOff

SHOWN = 10
SHOWN_NOTES = 5
_Line = Annotated[str, AfterValidator(plain)]


@dataclass(frozen=True, slots=True)
class Compared:
    """What the step `compared` says. holds: it was not shown that all is decided as before. data: for `--json` and the panel."""

    text: str
    holds: bool
    data: Mapping[str, Any]


class _Asked(BaseModel):
    action: _Line
    reason: _Line
    outcome: _Line | None = None
    price: _Line | None = None
    size: int | None = None


class _Difference(BaseModel):
    slot: _Line
    tick: int
    between: bool = False
    was: _Asked
    now: _Asked
    text: _Line


class _Report(BaseModel):
    """What `compare --json` prints (docs/reference/contract.md); further fields are left alone."""

    polls: NonNegativeInt
    decisions: NonNegativeInt
    differ: NonNegativeInt
    unreadable: NonNegativeInt = 0
    differences: list[_Difference] = []
    notes: dict[_Line, int] = {}


NOTHING = Compared("nothing is on record yet that could be replayed", False, {"differ": 0, "differences": []})


def read_comparison(done: OneOff) -> Compared:
    """What a comparison's process said with its last line, the exit code aside: it tells the same in short."""
    lines = done.out.strip().splitlines()
    try:
        report = _Report.model_validate_json(lines[-1] if lines else "")
    except ValidationError:
        words = (done.errors.strip() or done.out.strip()).splitlines()
        return not_compared(f"exit code {done.code}: {plain(words[-1])}" if words else f"exit code {done.code}")
    if report.decisions == report.unreadable == 0:
        return NOTHING
    differ = "1 decision differs" if report.differ == 1 else f"{report.differ} decisions differ"
    text = f"{report.polls} {'poll' if report.polls == 1 else 'polls'} replayed, {differ}"
    if report.unreadable:
        text += f", {report.unreadable} could not be read"
    shown = [difference.model_dump() for difference in report.differences[:SHOWN]]
    more = [f"and {report.differ - len(shown)} more: `./ns compare REF`"] if report.differ > len(shown) else []
    notes = [f"{times} times: {note}" for note, times in list(report.notes.items())[:SHOWN_NOTES]]
    numbers = report.model_dump(include={"polls", "decisions", "differ", "unreadable"})
    return Compared(
        text, bool(report.differ or report.unreadable), {**numbers, "differences": shown, "output": [*more, *notes]}
    )


def not_compared(why: str) -> Compared:
    """It could not be compared; that fails no deploy."""
    return Compared(f"not compared: {plain(why)}", True, {"differences": []})
