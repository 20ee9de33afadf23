"""The rooms stay rooms: files and folders of a size in which a stranger finds a place by its name."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("recording", "bus", "ledger", "bot", "deployer", "panel", "paper", "cli", "proof", "bench")
PRODUCT = PACKAGES[:-2]
MOST_LINES, LEAST_MEDIAN, MOST_MODULES, MOST_PARTS = 450, 150, 16, 8


def modules() -> dict[Path, int]:
    """Every Python file besides tests, and its lines."""
    return {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def test_no_file_is_too_long_and_most_are_worth_opening() -> None:
    """No file has more than 450 lines, and half of them have at least 150."""
    sizes = modules()
    assert not {str(path.relative_to(ROOT)): lines for path, lines in sizes.items() if lines > MOST_LINES}
    assert median(sizes.values()) >= LEAST_MEDIAN


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_has_more_than_sixteen_modules(package: str) -> None:
    """One level of a package is read at a glance; `__init__` and `__main__` are its doors and do not count."""
    counts: dict[str, int] = {}
    for path in (ROOT / package).rglob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            folder = str(path.parent.relative_to(ROOT))
            counts[folder] = counts.get(folder, 0) + 1
    assert not {folder: count for folder, count in counts.items() if count > MOST_MODULES}


@pytest.mark.parametrize("package", PRODUCT)
def test_no_constructor_takes_more_than_eight_parts(package: str) -> None:
    """What is made of more has parts that belong together, and those are a record with a name."""
    found = {
        f"{path.relative_to(ROOT)}::{node.name}": count
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for made in node.body
        if isinstance(made, ast.FunctionDef) and made.name == "__init__"
        if (count := len([*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs]) - 1) > MOST_PARTS
    }
    assert not found
