"""What this version would have decided upon what was on record, and where that differs from what was decided. Pure.

Each evaluation is asked with its own recorded state, so one difference does not cascade into those after it. Two decisions
are the same when they ask for the same order, or both for none: action, outcome, price and size count, the words do not.
A parameter that control named keeps its value; the others have this version's defaults, as after a deploy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from bot.strategy.api import Inputs, read_parameters
from bot.strategy.guard import GuardedStrategy
from bot.venue.types import BASE_UNITS, Level
from bus import Bus, InputRecord, SettingsError
from ledger.values import Outcome

SHOWN = 200
MAX_NOTES = 20
Wanted = Literal["none", "enter", "exit", "fails"]


class UnreadableError(Exception):
    """A record or one of its decisions cannot be read by this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was or would be asked for and why. price: in USDT a share; size: base units; None: not on record."""

    action: Wanted
    reason: str
    outcome: str | None = None
    price: str | None = None
    size: int | None = None

    def __str__(self) -> str:
        if self.action not in ("enter", "exit"):
            return f"{self.action} ({self.reason})"
        size = f" {Decimal(self.size) / BASE_UNITS:f}" if self.size is not None else ""
        at = f" at {self.price}" if self.price is not None else ""
        return f"{self.action}{size} {self.outcome or ''}".rstrip() + f"{at} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Difference:
    """One decision that differs. tick: UTC ms; between: between that poll and the next one."""

    slot: str
    tick: int
    between: bool
    was: Asked
    now: Asked

    def __str__(self) -> str:
        return f"{self.slot} {'after ' if self.between else ''}{self.tick}: was {self.was}, now {self.now}"


@dataclass(slots=True)
class DecisionDiff:
    """What came of a comparison.

    polls: polls that were replayed; decisions: of them and between them. differ: how many differ; differences holds the first
    SHOWN. unreadable: records and decisions that this version could not be asked. notes: by text, how often it was so.
    """

    polls: int = 0
    decisions: int = 0
    differ: int = 0
    unreadable: int = 0
    differences: list[Difference] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        verb = "decision differs" if self.differ == 1 else "decisions differ"
        text = f"{self.polls} {'poll' if self.polls == 1 else 'polls'} replayed, {self.differ} {verb}"
        return text + (f", {self.unreadable} could not be read" if self.unreadable else "")

    def lines(self) -> list[str]:
        """The differences and what is to be known about the records, one a line."""
        more = self.differ - len(self.differences)
        texts = [str(difference) for difference in self.differences] + ([f"and {more} more"] if more else [])
        return texts + [f"{times} times: {text}" for text, times in self.notes.most_common(MAX_NOTES)]

    def json(self) -> dict[str, Any]:
        """For a program, of this release or another one."""
        return {
            "schema": "1.0",
            "text": str(self),
            "polls": self.polls,
            "decisions": self.decisions,
            "differ": self.differ,
            "unreadable": self.unreadable,
            "differences": [{**asdict(difference), "text": str(difference)} for difference in self.differences],
            "notes": dict(self.notes.most_common(MAX_NOTES)),
        }


def compare(records: Iterable[InputRecord], strategy: GuardedStrategy, by: str = "") -> DecisionDiff:
    """Ask the strategy again for each decision on record. Nothing on record raises; what cannot be read is counted.

    by: only what the commit of that sha decided; empty for all, whoever did.
    """
    diff, strategy, ticks = DecisionDiff(), strategy.untimed(), set()
    for record in records:
        try:
            body = _body(record.body)
            if by and body.get("sha") != by:
                continue
            _check_schema(body)
            parameters = _parameters(body, strategy, diff.notes)
            between = body.get("between_polls") is True
            rows = _expect(body, "decisions", list)
        except UnreadableError as error:
            diff.unreadable += 1
            diff.notes[f"a record could not be read: {error}"] += 1
            continue
        asked = 0
        for row in rows:
            try:
                inputs, was = read_decision(row)
            except UnreadableError as error:
                diff.unreadable += 1
                diff.notes[f"a decision could not be read: {error}"] += 1
                continue
            asked += 1
            if isinstance(row, dict) and "wanted" not in row:
                diff.notes["recorded before it was noted what the strategy wanted; what limits refused may differ"] += 1
            now = _ask(strategy, inputs, parameters)
            if not _same(was, now):
                diff.differ += 1
                if len(diff.differences) < SHOWN:
                    diff.differences.append(Difference(inputs.slot, record.tick, between, was, now))
        diff.decisions += asked
        if asked and not between:
            ticks.add(record.tick)
    diff.polls = len(ticks)
    return diff


def read_decision(row: object) -> tuple[Inputs, Asked]:
    """One decision of a record: what it was given, and what was decided. Raises UnreadableError."""
    if not isinstance(row, dict):
        raise UnreadableError(f"expected an object, found {type(row).__name__}")
    inputs = read_inputs_of(_expect(row, "inputs", dict))
    action = row.get("wanted", row.get("action"))
    if action not in ("none", "enter", "exit"):
        raise UnreadableError(f"expected the action none, enter or exit, found {action!r:.40}")
    price, size, outcome = row.get("price"), row.get("size"), row.get("outcome")
    return inputs, Asked(
        action,
        str(row.get("reason", "")),
        None if outcome is None else str(outcome),
        None if price is None else str(_decimal("price", price)),
        None if size is None else _whole("size", size),
    )


def read_inputs_of(values: Mapping[str, Any]) -> Inputs:
    """The inputs as they were when they were recorded. Raises UnreadableError.

    A field that this version does not know, or one that it needs and that was not recorded, is reason enough: it would be
    asked another question.
    """
    by_name = {item.name: item for item in fields(Inputs)}
    if unknown := sorted(set(values) - set(by_name)):
        raise UnreadableError(f"inputs that this version does not know: {', '.join(unknown)}")
    needed = {name for name, item in by_name.items() if item.default is MISSING}
    if missing := sorted(needed - set(values)):
        raise UnreadableError(f"inputs that were not recorded: {', '.join(missing)}")
    return Inputs(**{name: _value(name, value) for name, value in values.items()})


_TYPES = get_type_hints(Inputs)


def _value(name: str, value: Any) -> Any:
    """One field of Inputs as its type has it."""
    kind = _TYPES[name]
    allowed = get_args(kind) or (kind,)
    if value is None and type(None) in allowed:
        return None
    if Level in allowed:
        return _levels(name, value)
    if Decimal in allowed:
        return _decimal(name, value)
    if Outcome in allowed:
        try:
            return Outcome(value)
        except ValueError:
            raise UnreadableError(f"{name}: expected Up or Down, found {value!r:.40}") from None
    if float in allowed and isinstance(value, int | float) and not isinstance(value, bool):
        return _float(name, value)
    if int in allowed:
        return _whole(name, value)
    if str in allowed and isinstance(value, str):
        return value
    raise UnreadableError(f"{name}: found {value!r:.40}")


def _levels(name: str, value: object) -> tuple[Level, ...]:
    if not isinstance(value, list):
        raise UnreadableError(f"{name}: expected levels, found {value!r:.40}")
    levels = []
    for level in value:
        if not isinstance(level, dict) or set(level) != {"price", "size"}:
            raise UnreadableError(f"{name}: expected a level's price and size, found {level!r:.40}")
        levels.append(Level(_decimal(name, level["price"]), _whole(name, level["size"])))
    return tuple(levels)


def _decimal(name: str, value: object) -> Decimal:
    try:
        if isinstance(value, str) and (number := Decimal(value)).is_finite():
            return number
    except InvalidOperation:
        pass  # said below
    raise UnreadableError(f"{name}: expected a number as text, found {value!r:.40}")


def _float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UnreadableError(f"{name}: a number beyond all bounds") from None


def _whole(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UnreadableError(f"{name}: expected a whole number, found {value!r:.40}")


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise UnreadableError(f"expected an object, found {type(body).__name__}")
    return body


def _check_schema(body: Mapping[str, Any]) -> None:
    schema = body.get("schema")
    if not isinstance(schema, str) or schema.partition(".")[0] != "1":
        raise UnreadableError(f"its schema is {schema!r:.20}, this version reads 1.x")


def _parameters(body: Mapping[str, Any], strategy: GuardedStrategy, notes: Counter[str]) -> Any:
    """What control gave, in the present parameters. Without word of what it gave: all that the same strategy had."""
    recorded, same = _expect(body, "parameters", dict), body.get("strategy") == strategy.name
    given = body.get("given")
    if not same:
        notes[f"decided by {body.get('strategy')!s:.200}, compared with {strategy.name}"] += 1
    if not isinstance(given, list):
        given = list(recorded) if same else []
    values = {name: recorded[name] for name in given if isinstance(name, str) and name in recorded}
    parameters, refused = read_parameters(strategy.parameters, values)
    notes.update(f"parameter refused: {text}" for text in refused)
    return parameters


def _expect(body: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = body.get(name)
    if not isinstance(value, kind):
        raise UnreadableError(f"{name}: expected a {kind.__name__}, found {value!r:.40}")
    return value


def _ask(strategy: GuardedStrategy, inputs: Inputs, parameters: Any) -> Asked:
    try:
        made = strategy.decide(inputs, parameters)
    except Exception as error:  # noqa: BLE001  whatever a strategy raises is what it would do in trading: fail in this slot
        return Asked("fails", f"{type(error).__name__}: {error}")
    outcome = None if made.outcome is None else str(made.outcome)
    return Asked(made.action, made.reason, outcome, None if made.price is None else str(made.price), made.size)


def _same(was: Asked, now: Asked) -> bool:
    """Whether both ask for the same order, or for none; what is not on record is not compared."""
    if was.action != now.action:
        return False
    if was.action == "none":
        return True
    return (
        was.outcome in (None, now.outcome)
        and (was.price is None or (now.price is not None and Decimal(was.price) == Decimal(now.price)))
        and was.size in (None, now.size)
    )


__all__ = ["Asked", "DecisionDiff", "Difference", "UnreadableError", "compare", "read_decision", "read_inputs_of"]


# `./ns compare REF`: what a commit would have decided. Its own code says it, in a folder of its own beside the bus.
#
# It runs with the interpreter that runs this, so with its packages: a commit of other packages may not be importable.


GIT_LIMIT_S, LIMIT_S = 120.0, 600.0
COMPARES = Path("bot", "tools", "decision_diff.py")
# A repository of one's own (`./ns new`) has no bot in it: it is run on this one.
OWN = "run.py"
HOME = Path(__file__).absolute().parents[2]


def compare_commit(bus: Bus, ref: str, last_ms: int, by: str, *, as_json: bool, say: Callable[[str], None]) -> int:
    """Print what differs, and return the exit code of `compare`. ref: of the repository that the bus says is watched.

    Raises SettingsError: git does not know the commit, the commit does not know `compare`, it did not end, it said nothing.
    """
    with tempfile.TemporaryDirectory(prefix="never-sleeps-compare-") as folder:
        tree, beside = Path(folder) / "tree", Path(folder) / "bus"
        sha = _extract(bus, ref, tree)
        beside.mkdir()
        (beside / bus.inputs.name).symlink_to(bus.inputs)
        command, environment = _program(tree, sha)
        try:
            done = subprocess.run(
                [*command, "compare", "--json", "--last", f"{max(1, last_ms // 1000)}s", *(["--by", by] if by else [])],
                cwd=tree, env={**environment, "BUS_DIR": str(beside)}, stdin=subprocess.DEVNULL,
                capture_output=True, encoding="utf-8", errors="replace", timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise SettingsError(f"{sha[:7]} did not compare within {LIMIT_S:g} s; try a shorter --last") from error
    if done.stderr:
        sys.stderr.write(done.stderr)
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
        say(json.dumps(report) if as_json else "\n".join(_lines(report)))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{sha[:7]} said nothing that could be read; it ended with {done.returncode}") from error
    return done.returncode


def _extract(bus: Bus, ref: str, tree: Path) -> str:
    """Write the commit's files into a new folder; returns its sha.

    The deployer does it: which repository is meant the bus says, and that package alone runs git. Where nothing was ever
    deployed it is the one in the current folder. The command is run from this code's own folder, as another one may hold
    another `deployer`.
    """
    if ref.startswith("-"):
        raise SettingsError(f"expected a branch, tag or sha, found {ref!r}")
    here = Path.cwd()
    environment = {
        **os.environ,
        "BUS_DIR": str(bus.directory.absolute()),
        "DEPLOYER_REPOSITORY": str(here / os.environ.get("DEPLOYER_REPOSITORY", "")),
        "DEPLOYER_DIR": str(here / os.environ.get("DEPLOYER_DIR", ".run/deployer")),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "deployer", "export", ref, str(tree)],
            cwd=HOME, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=GIT_LIMIT_S,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"git could not be asked ({error}); `compare REF` needs it and a checkout") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise SettingsError(f"{words[-1].removeprefix('deployer: ') if words else 'git'}; run this in the checkout")
    return done.stdout.strip()


def _program(tree: Path, sha: str) -> tuple[list[str], dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if (tree / COMPARES).is_file():
        return [sys.executable, "-m", "bot"], environment
    if (tree / OWN).is_file() and not (tree / "bot").exists():
        return [sys.executable, OWN], {**environment, "PYTHONPATH": str(HOME)}
    # It would take the word for no command at all, and trade.
    raise SettingsError(f"{sha[:7]} does not know `compare`: expected {COMPARES} or {OWN} in it, found neither")


def _lines(report: dict[str, Any]) -> list[str]:
    """As this release's own `compare` prints them, whichever release said it."""
    differences = [str(difference["text"]) for difference in report["differences"]]
    more = [f"and {report['differ'] - len(differences)} more"] if report["differ"] > len(differences) else []
    return [
        str(report["text"]),
        *differences,
        *more,
        *(f"{times} times: {text}" for text, times in report["notes"].items()),
    ]
