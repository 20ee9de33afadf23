"""The wheel is whole: what `uv tool install` brings has every file of the packages, and its command works without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bus.version import VERSION

ROOT = Path(__file__).parents[2]
PACKAGES = ("recording", "bus", "ledger", "bot", "panel", "paper", "deployer", "cli")


def tracked() -> list[str]:
    """The files of the packages, as they are committed or about to be."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*tracked(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    uv = str(Path(sys.executable).with_name("uv"))
    built = subprocess.run(
        [uv, "build", "--quiet", "--wheel", "--out-dir", str(out), str(source)],
        env={**os.environ, "UV_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return next(out.glob("*.whl"))


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Pages, templates and the hook, too; the license beside them."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert not [name for name in tracked() if name not in names]
    assert f"never_sleeps-{VERSION}.dist-info/licenses/LICENSE" in names


def test_its_command_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder of its own: `ns version`, and `ns doctor` in an empty folder finds, and says so."""
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    here = tmp_path / "empty"
    here.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", "from cli.__main__ import main; main()"]
    said = subprocess.run(
        [*command, "version"], cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stdout) == (0, f"{VERSION}\n"), said.stderr
    found = subprocess.run(
        [*command, "doctor"], cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "no deployer runs" in found.stdout
    assert "could not be looked at" not in found.stdout
    assert str(here) in found.stdout
