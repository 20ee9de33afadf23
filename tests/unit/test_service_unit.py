"""`make service`: the systemd unit of a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.forked import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """In a folder whose name has what systemd takes for its own."""
    folder = tmp_path / "100% mine"
    (folder / "bin").mkdir(parents=True)
    for script in ("service", "with-config"):
        shutil.copy(ROOT / "bin" / script, folder / "bin")
    (folder / "bin" / "runtime").write_text('#!/bin/sh\necho "${RUNTIME:-process}"\n')
    (folder / "bin" / "runtime").chmod(0o755)
    return folder


def made(checkout: Path, **settings: str) -> tuple[str, str]:
    """The unit and its settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/", **settings}
    done = subprocess.run(
        ["bin/service"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now" in done.stdout
    unit, told = checkout / ".run" / "never-sleeps.service", checkout / ".run" / "service.env"
    assert told.stat().st_mode & 0o777 == 0o600
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=30, check=False
        )
        said = [line for line in checked.stderr.splitlines() if "never-sleeps" in line and "not executable" not in line]
        assert said == []
    return unit.read_text(), told.read_text()


def test_as_processes_a_crash_of_up_ends_no_bot(checkout: Path) -> None:
    """Its main process alone is told to end and ends the rest; what the kernel kills for memory takes nothing with it."""
    unit, _ = made(checkout, FAST="1")
    for line in ("KillMode=process", "OOMPolicy=continue", "Restart=on-failure", "Type=simple"):
        assert line in unit.splitlines()
    assert unit.count("deployer up --detached --fast") == 1
    assert f"WorkingDirectory={checkout.parent}/100%% mine" in unit.splitlines(), "systemd would replace a percent sign"


def test_in_containers_it_begins_and_ends_as_a_person_does(checkout: Path) -> None:
    """`make run DETACH=1` and `make stop YES=1`: no terminal is there to ask on."""
    unit, _ = made(checkout, RUNTIME="docker")
    assert "run DETACH=1" in unit
    assert "stop YES=1" in unit
    assert "RemainAfterExit=yes" in unit


def test_the_settings_that_are_set_now_go_with_it(checkout: Path) -> None:
    """Those of the project and no others of the shell, quoted as systemd reads them."""
    _, told = made(
        checkout, BOT_SLOTS='a "b" \\c', BUS_DIR="/srv/bus", AWS_SECRET="planted", PANEL_PORT="8702", BOT_EMPTY=""
    )
    lines = told.splitlines()
    assert 'BOT_SLOTS="a \\"b\\" \\\\c"' in lines
    assert {'BUS_DIR="/srv/bus"', 'PANEL_PORT="8702"', 'RUNTIME="process"'} <= set(lines)
    assert "planted" not in told
    assert "BOT_EMPTY" not in told
