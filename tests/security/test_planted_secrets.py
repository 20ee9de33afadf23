"""A wallet's key, the panel's tokens and a build's secret are planted; nothing but their own files holds them afterwards."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.rig import until
from tests.e2e.test_deployer_compare import STRATEGY
from tests.security.planted import environments_with, files_with, holds
from tests.security.test_keys_processes import BUILT_S, KeyedRig
from tests.unit.panel.running import running_panel

pytestmark = pytest.mark.timeout(600)


class PlantedRig(KeyedRig):
    """Its builds are given a secret, too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.build_secret = f"build-{secrets.token_hex(16)}"
        file = folder / "planted" / "secrets" / "token"
        file.parent.mkdir(mode=0o700)
        file.touch(mode=0o600)
        file.write_text(self.build_secret)
        self.environment["DEPLOYER_BUILD_SECRETS"] = str(file.parent)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[PlantedRig]:
    """Nothing but the exchange is started."""
    made = PlantedRig(tmp_path)
    yield made
    made.stop()


def test_planted_secrets_are_found_nowhere_as_processes(rig: PlantedRig, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in logs, environments, arguments, the API, metrics, a backup, what was built, cores, or what commands print."""
    sha = rig.save(STRATEGY)
    rig.start()
    rig.until_step(sha, "confirmed", BUILT_S)
    with running_panel(rig.folder) as panel:
        planted = {"key": rig.key, "build secret": rig.build_secret, "token": panel.token}
        answers = [
            panel.call("GET", f"/api/{what}").body for what in ("status", "control", "deploys", "writes", "instances")
        ]
        metrics = [str(seen.document.metrics) for seen in rig.living() if seen.document and seen.document.metrics]
        for address in metrics:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
                answers.append(answer.read())
        assert metrics
        for command in (
            ("status", "--json"),
            ("history",),
            ("logs", sha[:9]),
            ("backup", str(rig.folder / "b.tar.gz")),
        ):
            done = rig.command(*command)
            assert done.returncode == 0, done.stdout + done.stderr
            answers.append((done.stdout + done.stderr).encode())
        shown = environments_with(planted)
        own = [path for path in (rig.folder / "planted").rglob("*") if path.is_file()]
        own += (rig.folder / "run").glob("token*")
        until("the backup", (rig.folder / "b.tar.gz").exists)
        kept = files_with(planted, [rig.folder], own)
    out, errors = capfd.readouterr()
    answers.append((out + errors).encode())
    assert [what for what, secret in planted.items() for answer in answers if holds(answer, secret)] == []
    assert (shown, kept) == (set(), set())
