"""`git push` where the deployer is a container that may write to one folder of the repository and to nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.docker_engine import docker, need_engine
from tests.e2e.docker_rig import DEPLOYER, DockerRig, make_images
from tests.e2e.test_push import Pusher
from tests.security.test_signatures import REFUSED, Signed

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


CHECK = """
import asyncio, sys
from functools import partial
from pathlib import Path
from deployer.errors import BuildError
from deployer.push.repository import Repository
from deployer.push.signatures import read_signers
from deployer.push.verify import Verify
here = Path("/repository")
verify = Verify(Repository(here), "signed", limit_s=30, signers=partial(read_signers, Path("/signers"), (here,)))
for sha in sys.argv[1:]:
    try:
        asyncio.run(verify.check(sha))
        print("passes")
    except BuildError as error:
        print(error)
"""


def test_signatures_are_checked_for_a_user_that_has_no_name(tmp_path: Path) -> None:
    """In its container the deployer is whoever owns the checkout: what is signed passes there, and nothing else does."""
    make_images()
    signed = Signed(tmp_path)
    good, evil, none = (
        signed.commit("ann", signed.ssh("ann")),
        signed.commit("eve", signed.ssh("eve")),
        signed.commit("none"),
    )
    for path in (signed.path, *signed.path.rglob("*"), signed.signers):
        path.chmod(0o755 if path.is_dir() else 0o644)
    said = docker(
        *("run", "--rm", "--user=23456:23456", "--read-only", "--tmpfs=/tmp", "--entrypoint=python"),
        *(f"--volume={signed.path}:/repository:ro", f"--volume={signed.signers}:/signers:ro"),
        *(DEPLOYER, "-c", CHECK, good, evil, none),
    ).splitlines()
    assert said[0] == "passes"
    assert [REFUSED in line for line in said] == [False, True, True]
    assert ["(No user" in line for line in said] == [False, False, False]
