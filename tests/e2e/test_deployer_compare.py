"""A repository of one's own, the real bot and the paper exchange: a change of a parameter is shown, held, and approved."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import SystemClock, write_control
from deployer.commands.init import new
from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import ROOT, Paper, until

STRATEGY = """
from dataclasses import dataclass
from bot.strategy.api import number
from bot.strategy.api import Decision
from bot.venue.types import BASE_UNITS, Outcome

@dataclass(frozen=True)
class Parameters:
    below: float = number(0.0, most=1)

class Mine:
    parameters = Parameters

    def decide(self, inputs, parameters):
        if not inputs.asks_up or float(inputs.asks_up[0].price) >= parameters.below:
            return Decision("none", "too dear")
        return Decision("enter", "cheap", outcome=Outcome.UP, price=inputs.asks_up[0].price, size=5 * BASE_UNITS)
"""


class OwnRig(DeployerRig):
    """A repository that `./ns new` made, with a strategy that never enters."""

    def __init__(self, folder: Path) -> None:
        self.paper = Paper(folder)
        super().__init__(
            folder,
            BOT_PAPER_URL=self.paper.url,
            BOT_POLL_INTERVAL="0.5",
            BOT_TIMEFRAMES="10s",
            BOT_BASIS_AFTER="2",
            BOT_REQUESTS_PER_SECOND="30",
            BOT_ASSETS="BTC",
            DEPLOYER_SPARES="0",
            DEPLOYER_CONFIRM_POLLS="1",
            DEPLOYER_ON_DIFFERENCE="hold",
        )
        write_control(self.bus, 0, lambda control: control, by="test", clock=SystemClock())

    def _make_repository(self) -> None:
        new(self.repository, lambda _line: None)

    def save(self, strategy: str) -> str:
        """Commit a strategy; returns the sha."""
        (self.repository / "strategy.py").write_text(strategy)
        self.git("commit", "--quiet", "--all", "-m", "another strategy")
        return self.git("rev-parse", "HEAD")

    def compare(self, ref: str) -> subprocess.CompletedProcess[str]:
        """`./ns compare REF` by hand, in the repository."""
        return subprocess.run(
            [sys.executable, "-m", "bot", "compare", ref, "--last", "10m"],
            cwd=self.repository, env={"PYTHONPATH": str(ROOT), "BUS_DIR": str(self.bus.directory), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def stop(self) -> None:
        """End everything."""
        super().stop()
        self.paper.stop()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OwnRig]:
    """Nothing but the exchange is started."""
    made = OwnRig(tmp_path)
    yield made
    made.stop()


def test_a_changed_parameter_is_shown_and_held_until_somebody_approves(rig: OwnRig) -> None:
    """The deploy lists what would have been decided otherwise and waits, through a SIGKILL of the deployer, for an approval;
    by hand the same is told beforehand."""
    first = rig.save(STRATEGY)
    rig.start()
    confirmed = rig.until_step(first, "confirmed")
    assert not confirmed.has("compared"), "there was nothing to compare with"
    polled = rig.count("SELECT count(*) FROM polls_completed")
    until("polls with a book", lambda: rig.count("SELECT count(*) FROM polls_completed") > polled + 5)

    other = rig.save(STRATEGY.replace("number(0.0,", "number(1.0,"))
    by_hand = rig.compare(other[:9])
    assert by_hand.returncode == 1, by_hand.stderr
    assert re.search(r"BTC-10s \d+: was none \(too dear\), now enter 5 Up at 0\.\d+ \(cheap\)", by_hand.stdout)
    assert rig.compare(first).stdout.endswith("0 decisions differ\n")

    rig.until_step(other, "held")
    rig.kill()
    rig.start()
    logs = rig.command("logs", other[:9]).stdout
    assert re.search(r"compared    \d+ polls replayed, [1-9]\d* decisions? differs?\n", logs), logs
    assert re.search(r"\| BTC-10s \d+: was none \(too dear\), now enter 5 Up at 0\.\d+ \(cheap\)\n", logs), logs
    status = json.loads(rig.command("status", "--json").stdout)
    assert (status["open"]["phase"], status["trading"]["sha"]) == ("held", first)
    (data,) = [step["data"] for step in status["open"]["steps"] if step["step"] == "compared"]
    enters = [one for one in data["differences"] if one["now"]["action"] == "enter"]
    assert (enters[0]["was"]["action"], enters[0]["now"]["price"][:2]) == ("none", "0.")
    refused = rig.command("approve", "1234567")
    assert (refused.returncode, f"it is {other[:7]}" in refused.stdout) == (1, True), refused.stdout
    approved = rig.command("approve", other[:7])
    assert approved.returncode == 0, approved.stdout + approved.stderr
    deploy = rig.deploy_of(other)
    assert deploy is not None
    names = [step.step for step in deploy.steps if step.step != "answered"]
    assert [name for name in names if name in ("held", "approved", "handover")] == ["held", "approved", "handover"]
    assert names.count("compared") == 1
    assert rig.missed() == 0
