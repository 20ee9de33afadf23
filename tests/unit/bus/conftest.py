"""A bus of its own for every test."""

from pathlib import Path

import pytest

from bus import Bus, open_bus


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    """An empty bus on a real directory."""
    return open_bus(tmp_path / "bus")
