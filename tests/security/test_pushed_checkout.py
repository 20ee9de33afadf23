"""A push never replaces what the operator runs, where commits are verified."""

from __future__ import annotations

import asyncio
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from bus import Logging, SystemClock, open_bus
from deployer.commands.init import init
from deployer.errors import BuildError, StartError
from deployer.push.repository import Repository
from deployer.push.signatures import read_signers
from deployer.push.verify import Verify
from deployer.settings import DeployerSettings
from deployer.start import run
from tests.e2e.deployer_rig import GIT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a Makefile, committed."""
    made = tmp_path / "checkout"
    subprocess.run([*GIT, "init", "--quiet", "--initial-branch=main", str(made)], check=True)
    (made / "Makefile").write_text("run:\n\techo good\n")
    for arguments in (("add", "-A"), ("commit", "--quiet", "-m", "one")):
        subprocess.run([*GIT, "-C", str(made), *arguments], check=True)
    return made


def push(checkout: Path, folder: Path) -> int:
    """Push a Makefile of one's own into it."""
    subprocess.run([*GIT, "clone", "--quiet", str(checkout), str(folder)], check=True, capture_output=True)
    (folder / "Makefile").write_text("run:\n\techo evil\n")
    subprocess.run([*GIT, "-C", str(folder), "commit", "--quiet", "-am", "evil"], check=True)
    return subprocess.run([*GIT, "-C", str(folder), "push", "--quiet"], check=False, capture_output=True).returncode


def start(repository: Path, folder: Path, verify: str) -> None:
    """A deployer's start."""
    signers = folder / "signers"
    signers.write_text("ann@localhost ssh-ed25519 AAAA\n")
    settings = DeployerSettings(repository=repository, dir=folder / "run", verify=verify, signers=signers)
    logging = Logging(os.open(folder / "log", os.O_WRONLY | os.O_CREAT))
    try:
        asyncio.run(run(settings, open_bus(folder / "bus"), SystemClock(), logging))
    finally:
        logging.close()


def test_a_checkout_is_no_push_target_where_commits_are_verified(checkout: Path, tmp_path: Path) -> None:
    """`init` refuses it and changes nothing: a push then leaves its Makefile alone, signed or not."""
    with pytest.raises(StartError, match=r"bin/\* and Makefile.*push to a bare repository"):
        init(checkout, print, verify="signed")
    assert push(checkout, tmp_path / "pusher") != 0
    assert "good" in (checkout / "Makefile").read_text()
    init(tmp_path / "bare.git", print, verify="signed")


@pytest.mark.parametrize("value", ["updateInstead", "UPDATEINSTEAD"])
def test_a_deployer_that_verifies_does_not_start_on_a_checkout_that_takes_pushes(
    checkout: Path, tmp_path: Path, value: str
) -> None:
    """One that was prepared before `signed` was set."""
    init(checkout, print)
    subprocess.run([*GIT, "-C", str(checkout), "config", "receive.denyCurrentBranch", value], check=True)
    with pytest.raises(StartError, match=r"receive\.denyCurrentBranch refuse"):
        start(checkout, tmp_path, "signed")


def test_a_checkout_that_takes_pushes_later_stops_builds_and_not_the_deployer(checkout: Path, tmp_path: Path) -> None:
    """Whoever can change the repository's configuration cannot end the supervision of what trades: each build is refused."""
    signers = tmp_path / "signers"
    signers.write_text("ann@localhost ssh-ed25519 AAAA\n")
    read = partial(read_signers, signers, (checkout,))
    verify = Verify(Repository(checkout, tmp_path / "mirror.git"), "signed", limit_s=30, signers=read)
    asyncio.run(verify.begin())
    assert verify.problem is None
    init(checkout, print)
    sha = subprocess.run([*GIT, "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    with pytest.raises(BuildError, match=r"bin/\* and Makefile"):
        asyncio.run(verify.check(sha.stdout.strip()))
    assert verify.problem is not None


def test_without_signatures_it_is_said_that_a_push_replaces_what_the_operator_runs(checkout: Path) -> None:
    """Loudly, by `init`."""
    said: list[str] = []
    init(checkout, said.append)
    assert any(line.startswith("WARNING: whoever may push replaces bin/* and Makefile") for line in said)


def test_a_list_of_signers_in_the_repository_stops_the_start(checkout: Path, tmp_path: Path) -> None:
    """A person is there to read it, rather than each pusher."""
    (checkout / "signers").write_text("x")
    settings = DeployerSettings(
        repository=checkout, dir=tmp_path / "run", verify="signed", signers=checkout / "signers"
    )
    logging = Logging(os.open(os.devnull, os.O_WRONLY))
    with pytest.raises(StartError, match="a push can write to"):
        asyncio.run(run(settings, open_bus(tmp_path / "bus"), SystemClock(), logging))
    logging.close()
