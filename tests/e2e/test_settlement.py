"""A second worker under the same deployer, which knows nothing of the bot; and `./ns check`, which judges a worker.

TEST_SETTLEMENT_ROUNDS=10 runs as many deploys and deaths as docs/reference/contract.md tells of.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import ROOT, until

ROUNDS = int(os.environ.get("TEST_SETTLEMENT_ROUNDS", "3"))
JOB_EVERY_S = 0.1


def put_worker(folder: Path, *, changed: tuple[str, str] = ("", "")) -> None:
    """The settlement queue as the package `settle`, with the bus that it is written on."""
    for name in ("bus", "ledger"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    (folder / "settle").mkdir(exist_ok=True)
    text = Path(__file__).with_name("settlement.py").read_text()
    assert changed[0] in text
    (folder / "settle" / "__main__.py").write_text(text.replace(*changed))


class SettlementRig(DeployerRig):
    """A repository of settlement queues."""

    def _make_repository(self) -> None:
        self.repository.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        put_worker(self.repository)

    def commit(self, mode: str = "good", broken: str = "") -> str:
        self._commits += 1
        (self.repository / "settle" / "number.py").write_text(f"NUMBER = {self._commits}\n{broken}")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", f"commit {self._commits}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SettlementRig]:
    """A repository with one commit."""
    made = SettlementRig(
        tmp_path, DEPLOYER_COMMAND="-m settle", DEPLOYER_CHECK="-m settle --version", DEPLOYER_STUCK_AFTER="6"
    )
    made.commit()
    yield made
    made.stop()


def other_holds(rig: SettlementRig, former: str) -> bool:
    """Whether somebody else has the lease."""
    holder = rig.holder()
    return holder is not None and holder.id != former


class Producer(threading.Thread):
    """Puts jobs into the queue until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.made, self.ending = folder, 0, threading.Event()
        folder.mkdir()

    def run(self) -> None:
        while not self.ending.wait(JOB_EVERY_S):
            fresh = self.folder.with_name("job.new")
            fresh.touch()
            fresh.rename(self.folder / f"job-{self.made:06d}")
            self.made += 1


def test_deploys_and_deaths_pay_each_job_exactly_once(rig: SettlementRig) -> None:
    """Jobs arrive all the time; every deploy is confirmed, every killed holder is followed, and each job is paid once."""
    rig.start()
    rig.until_step(rig.git("rev-parse", "HEAD"), "confirmed")
    producer = Producer(rig.bus.directory / "jobs")
    producer.start()
    sha = ""
    for _ in range(ROUNDS):
        sha = rig.commit()
        rig.until_step(sha, "retired")
        killed = rig.signal_holder(signal.SIGKILL)
        until("another one settles", partial(other_holds, rig, killed.id))
    rig.assert_steady(sha)
    producer.ending.set()
    producer.join(30)
    until("the queue is empty", lambda: not list(producer.folder.iterdir()))
    paid = (rig.bus.directory / "payments.log").read_text().split()
    assert sorted(paid) == [f"job-{number:06d}" for number in range(producer.made)]
    assert rig.count("SELECT count(*) FROM settled") == producer.made
    assert rig.count("SELECT max(epoch) - count(*) FROM epochs") == 0
    assert rig.count("SELECT count(*) FROM epochs") >= 1 + 2 * ROUNDS


def check(folder: Path) -> tuple[int, dict[str, dict[str, object]]]:
    """`./ns check` of the worker in a folder: the exit code, and what became of each promise."""
    done = subprocess.run(
        [sys.executable, "-m", "deployer", "check", "--json", f"{sys.executable} -m settle"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, {promise["promise"]: promise for promise in json.loads(done.stdout)["promises"]}


def test_check_tells_a_worker_that_keeps_the_contract_from_one_that_does_not(tmp_path: Path) -> None:
    """The settlement queue keeps all ten promises; one that obeys expired requests is found out by name."""
    put_worker(tmp_path)
    code, promises = check(tmp_path)
    assert code == 0, promises
    assert len(promises) == 10
    put_worker(tmp_path, changed=("not handover.in_force(clock) or ", ""))
    code, promises = check(tmp_path)
    assert code == 1
    assert [name for name, promise in promises.items() if promise["why"]] == ["an expired request is not obeyed"]
