"""The bus has one front door, and nobody but its users decides what stands in it."""

from __future__ import annotations

import ast
from pathlib import Path

import bus

ROOT = Path(__file__).resolve().parents[3]
USERS = ("bot", "panel", "deployer", "proof", "bench", "ledger")


def imported(module: str) -> set[str]:
    """The names that the packages beside the bus import from a module."""
    return {
        alias.name
        for package in USERS
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


def test_every_export_of_the_bus_is_used_outside() -> None:
    """What only the bus and its tests use is imported from the module that has it."""
    assert set(bus.__all__) - imported("bus") == set()
