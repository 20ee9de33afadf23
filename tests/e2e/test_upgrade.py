"""The upgrade from the release before, on a bus that trades, and the way back."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import is_locked
from tests.e2e.fire.rig import FireRig
from tests.e2e.rig import until
from tests.forked import ROOT

BOT = ("recording", "bus", "ledger", "bot")


def former() -> str:
    """The newest release's tag, or the commit before where nothing was released yet; UPGRADE_FROM names another."""
    if named := os.environ.get("UPGRADE_FROM"):
        return named
    described = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD~1"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return described.stdout.strip() or "HEAD~1"


class UpgradeRig(FireRig):
    """The first commit is the former release's bot. Its deployer, too, can be started."""

    def __init__(self, folder: Path) -> None:
        archive = subprocess.run(["git", "archive", former()], cwd=ROOT, capture_output=True, timeout=60, check=False)
        if archive.returncode != 0:
            pytest.skip(f"optional: {former()} is not in this checkout's history")
        self.release = folder / "former"
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(self.release, filter="data")
        super().__init__(folder)

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.take_over(self.release)

    def take_over(self, release: Path) -> None:
        """Put a release's bot into the work tree."""
        for name in BOT:
            shutil.rmtree(self.repository / name, ignore_errors=True)
            shutil.copytree(release / name, self.repository / name, ignore=shutil.ignore_patterns("__pycache__"))

    def start_former(self) -> subprocess.Popen[bytes]:
        """The former release's deployer, from its own files."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "deployer", "run"],
                cwd=self.release,
                env={**os.environ, **self.environment, "PYTHONPATH": str(self.release)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end_former(self, deployer: subprocess.Popen[bytes]) -> None:
        """SIGTERM, which leaves the bots trading."""
        deployer.terminate()
        deployer.wait(60)
        until("its lock is free", lambda: not is_locked(self.bus.deployer_lock))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[UpgradeRig]:
    """Nothing runs yet but paper."""
    made = UpgradeRig(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def test_the_release_before_is_replaced_while_it_trades_and_comes_back(rig: UpgradeRig) -> None:
    """Deployer and bot of the former release trade. This one's deployer goes on, deploys this one's bot, and rolls back; then the
    former deployer goes on again. No poll is missed.
    """
    deployer = rig.start_former()
    try:
        old = rig.commit()
        rig.until_confirmed(old)
        until("a first fill", lambda: rig.count("SELECT count(*) FROM fills"), 120, 0.2)
    finally:
        rig.end_former(deployer)
    began = rig.missed()

    rig.start()
    rig.settle()
    rig.take_over(ROOT)
    new = rig.commit()
    rig.until_confirmed(new)
    rig.until_polls(3)

    back = rig.command("rollback")
    assert back.returncode == 0, back.stdout + back.stderr
    rig.good = old
    rig.settle()
    assert rig.process is not None
    rig.process.terminate()
    rig.process.wait(60)

    deployer = rig.start_former()
    try:
        rig.settle()
        rig.until_polls(3)
        assert rig.missed() == began
        rig.assert_ledger()
        audit = rig.audit()
        assert audit.returncode == 0, audit.stdout + audit.stderr
    finally:
        rig.end_former(deployer)
