"""Why-nots are words with a code: programs go by the code, and nothing in the product reads the words back."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from copy import copy
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from bot.reasons import Reason, ReasonCode
from deployer.errors import Code
from ledger.schema import MissCode, OrderCode

ROOT = Path(__file__).parents[2]
PACKAGES = ("bot", "deployer", "panel", "ledger", "bus", "cli")
# Where words for people are kept: in fields of these names, and in variables of the latter.
FIELDS = {"reason", "reasons", "text", "why", "why_not", "entries", "problem", "gap_reason"}
NAMES = FIELDS - {"text", "entries"}
READS = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "split", "find", "index", "count"}
PATTERNS = {"match", "search", "fullmatch", "sub", "findall", "finditer"}
# `releases.reason` is a code itself (ledger.base.Released).
IN_SQL = re.compile(r"\b(reason|text)\s*(LIKE|GLOB|=|IN\b|REGEXP)|(substr|instr)\((\w\.)?(reason|text)\b")
IN_SCRIPT = re.compile(
    r"\.(reason|text|why_not|entries)\)?\s*([!=]==?\s*[\"'`]|\.(startsWith|endsWith|includes|match|indexOf|search|split)\()"
)
# As a ledger of the release before gets its columns, or is read before it has them.
MIGRATION = "ledger/base.py"


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the product."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def are_words(node: ast.AST) -> bool:
    """Whether an expression is a reason's words."""
    return (isinstance(node, ast.Attribute) and node.attr in FIELDS) or (
        isinstance(node, ast.Name) and node.id in NAMES
    )


def is_literal(node: ast.AST) -> bool:
    """Whether an expression is a text that is not empty."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(node.value)
    )


def reads_back(node: ast.AST) -> bool:
    """Whether an expression compares words, looks for something in them, takes them apart, or holds a pattern against them."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(map(are_words, sides)) and any(map(is_literal, sides))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in PATTERNS:
            return any(map(are_words, node.args))
        return node.func.attr in READS and are_words(node.func.value)
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(IN_SQL.search(node.value))
        and "FROM releases" not in node.value
    )


def found(source: str) -> int:
    """How many expressions of a source read words back."""
    return sum(map(reads_back, ast.walk(ast.parse(source))))


def test_nothing_reads_a_reasons_words_back() -> None:
    """No module of the product, no statement of SQL and no script of the page goes by what a reason says."""
    wrong = [
        f"{path}:{getattr(node, 'lineno', 0)}"
        for path, module in modules()
        if path != MIGRATION
        for node in ast.walk(module)
        if reads_back(node)
    ]
    for path in sorted((ROOT / "panel" / "static").rglob("*.js")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if IN_SCRIPT.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}")
    assert not wrong, f"these go by words; give the reason a code and go by that: {wrong}"


@pytest.mark.parametrize(
    "source",
    [
        'e.decision.reason == "switched off"',
        'answer.text.startswith("refused")',
        '"halt" in reason',
        "PATTERN.match(status.entries)",
        're.sub("[0-9]", "#", step.text)',
        "ledger.execute(\"SELECT 1 FROM orders o WHERE o.text LIKE 'nothing%'\")",
    ],
)
def test_each_way_to_read_them_back_is_found(source: str) -> None:
    """The rule above sees them."""
    assert found(source) == 1


@pytest.mark.parametrize("codes", [ReasonCode, Code, OrderCode, MissCode])
def test_every_code_is_used(codes: type[StrEnum]) -> None:
    """A code that nothing gives would be a label or a case that never comes."""
    used = {
        node.attr
        for _, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == codes.__name__
    }
    assert not {code.name for code in codes} - used


@dataclass(frozen=True)
class _Record:
    reason: str


def test_a_reason_is_its_words_and_keeps_its_code() -> None:
    """It goes wherever a text goes; copies and words around it keep the code."""
    reason = Reason(ReasonCode.PAUSED, "control says pause")
    assert (reason, reason.text, f"{reason}") == ("control says pause",) * 3
    kept = (reason, copy(reason), pickle.loads(pickle.dumps(reason)), asdict(_Record(reason))["reason"])
    assert [one.code for one in kept] == [ReasonCode.PAUSED] * 4
    around = reason.within("exit waits: ", "; later")
    assert (around, around.code) == ("exit waits: control says pause; later", ReasonCode.PAUSED)
