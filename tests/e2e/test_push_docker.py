"""`git push` where the deployer is a container that may write to one folder of the repository and to nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.docker_engine import need_engine
from tests.e2e.docker_rig import DockerRig
from tests.e2e.test_push import Pusher

need_engine()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DockerRig]:
    """A prepared checkout; nothing started."""
    made = DockerRig(tmp_path, DEPLOYER_SPARES="0")
    yield made
    made.stop()


def test_a_push_to_a_checkout_that_is_mounted_read_only_shows_its_deploy(rig: DockerRig, tmp_path: Path) -> None:
    """The pusher on the host sees every step of a deploy that the container makes, and its verdict; no tick is missed."""
    first = rig.commit()
    done = super(DockerRig, rig).command("init")
    assert done.returncode == 0, done.stderr
    rig.start()
    rig.until_step(first, "confirmed")
    pusher = Pusher(tmp_path, rig)
    sha = pusher.commit()
    shown = pusher.push()
    for step in ("queued", "pushed", "built", "healthy", "taken", "confirmed"):
        assert f"  {step}" in shown, shown
    assert f"{sha[:7]} trades; 0 polls missed" in shown
