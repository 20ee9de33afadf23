"""What is imported is declared, what is declared is imported, and the lock files keep to it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OWN = {path.parent.name for path in ROOT.glob("*/__init__.py")}
# Run as programs, loaded by pytest, read by mypy, or asked for only where they are installed.
NOT_IMPORTED = {"import-linter", "mypy", "pytest-xdist", "ruff", "types-pyyaml", "uv"}


def declared(*groups: str) -> dict[str, Requirement]:
    """The requirements of what runs and of these dependency groups, by the distribution's name."""
    return _by_name(PROJECT["project"]["dependencies"]) | in_groups(*groups)


def in_groups(*groups: str) -> dict[str, Requirement]:
    """The requirements of these dependency groups alone."""
    return _by_name([row for group in groups for row in PROJECT["dependency-groups"][group]])


def _by_name(rows: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(found.name): found for found in map(Requirement, rows)}


def imported(package: str) -> dict[str, set[str]]:
    """The distributions that a package of ours imports, each with the files that do."""
    by_module, found = packages_distributions(), dict[str, set[str]]()
    extra = [Requirement(row).name for rows in EXTRAS.values() for row in rows]
    for path in (ROOT / package).rglob("*.py"):
        for module in _modules(path):
            if module in OWN or module in sys.stdlib_module_names:
                continue
            if module in extra and package == "recording":
                continue  # where it is not installed, whoever asks for it is told so
            assert module in by_module, (
                f"{path.relative_to(ROOT)} imports {module}, which no installed distribution has"
            )
            # A name that several share counts for the first one: the others only add to it.
            found.setdefault(canonicalize_name(by_module[module][0]), set()).add(str(path.relative_to(ROOT)))
    return found


def _modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
        yield from (name.partition(".")[0] for name in names)


def test_every_package_is_under_the_same_law() -> None:
    """Strict types for each, and the import contracts know each; a package that is new is in neither by itself."""
    assert set(PROJECT["tool"]["mypy"]["packages"]) == OWN
    contracts = PROJECT["tool"]["importlinter"]
    assert set(contracts["root_packages"]) == OWN - {"tests"}
    layered = {name for row in contracts["contracts"] for layer in row.get("layers", ()) for name in layer.split(" | ")}
    named = {name for row in contracts["contracts"] for name in row.get("source_modules", ())}
    assert OWN - {"tests"} <= layered | named


@pytest.mark.parametrize("package", sorted(OWN))
def test_every_imported_distribution_is_declared(package: str) -> None:
    """A dependency of a dependency may go away with any release of that one."""
    known = declared("dev") if package == "tests" else declared()
    missing = {name: sorted(files)[:3] for name, files in imported(package).items() if name not in known}
    assert not missing, f"{package} imports what pyproject.toml does not declare: {missing}"


def test_every_declared_distribution_is_used() -> None:
    """What nothing imports any more is not installed any more."""
    used = {name for package in OWN for name in imported(package)}
    assert set(declared("dev")) - used == NOT_IMPORTED


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", declared()),
        ("requirements-dev.lock", declared("dev")),
        ("requirements-docs.lock", in_groups("docs")),
    ],
)
def test_a_lock_pins_every_declared_distribution_within_its_range(lock: str, wanted: dict[str, Requirement]) -> None:
    """`make lock` was run after the last change of a range; no lock says where packages come from."""
    text = (ROOT / lock).read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))
    wrong = [
        f"{requirement} is pinned to {pins.get(name)}"
        for name, requirement in wanted.items()
        if pins.get(name) is None or not requirement.specifier.contains(pins[name])
    ]
    assert wrong == []
    assert "://" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE) if block)
