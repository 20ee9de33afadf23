"""The number of the release stands in one place."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import deployer.metrics
import panel.server
import paper.wire.metrics
from bus import VERSION

ROOT = Path(__file__).resolve().parents[3]


def test_the_number_is_written_once() -> None:
    """`bus/version.py` alone says it; pyproject.toml names that place."""
    assigned = re.compile(r'^\w*VERSION = "\d+\.\d+', re.MULTILINE)
    files = [
        path
        for package in ("recording", "bus", "ledger", "bot", "panel", "paper", "deployer", "cli")
        for path in (ROOT / package).rglob("*.py")
    ]
    assert [str(path.relative_to(ROOT)) for path in files if assigned.search(path.read_text())] == ["bus/version.py"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "bus.version.VERSION"}


@pytest.mark.parametrize("module", [deployer.metrics, panel.server, paper.wire.metrics])
def test_every_process_says_the_same_version(module: object) -> None:
    """What build info shows is the version of the project."""
    assert vars(module)["VERSION"] == VERSION


def test_the_bot_prints_it() -> None:
    """`python -m bot --version`."""
    said = subprocess.run(
        [sys.executable, "-m", "bot", "--version"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == f"bot {VERSION}\n"
