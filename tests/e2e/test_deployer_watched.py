"""What is watched belongs to the bus, and bots need no git: other people's reports of branches."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployer_rig import DeployerRig
from tests.e2e.rig import until
from tests.forked import run


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[DeployerRig]:
    """A confirmed commit on main, and its spare."""
    made = DeployerRig(tmp_path)
    try:
        sha = made.commit()
        made.start()
        made.until_step(sha, "confirmed", 120)
        until("a spare", lambda: len(made.living()) == 2, 120)
        yield made
    finally:
        made.stop()


def status(rig: DeployerRig) -> dict[str, object]:
    """`./ns status --json`."""
    found = json.loads(rig.command("status", "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_a_start_watches_the_branch_that_the_last_one_did(rig: DeployerRig) -> None:
    """An experiment that is checked out when the deployer is started again does not trade; main goes on to be deployed."""
    trades = rig.git("rev-parse", "main")
    rig.git("checkout", "--quiet", "-b", "experiment")
    experiment = rig.commit()
    rig.kill()
    rig.start()
    assert status(rig)["branch"] == "main"
    rig.git("checkout", "--quiet", "main")
    newer = rig.commit()
    rig.until_step(newer, "confirmed", 120)
    assert rig.deploy_of(experiment) is None
    assert [deploy.sha for deploy in rig.history().deploys] == [trades, newer]


def test_another_branch_or_repository_needs_a_persons_word(rig: DeployerRig, tmp_path: Path) -> None:
    """Settings that name another one are refused at the start, and the flag takes them."""
    rig.kill()
    rig.git("branch", "experiment")
    other = tmp_path / "other"
    shutil.copytree(rig.repository, other, symlinks=True)
    for name, value in (("DEPLOYER_BRANCH", "experiment"), ("DEPLOYER_REPOSITORY", str(other))):
        environment = {**os.environ, **rig.environment, name: value}
        refused = run(("deployer", "run"), environment=environment, limit_s=30)
        assert refused.returncode == 2
        assert f"watches main of {rig.repository}, and {name} names {value}; say so once" in refused.stderr
        refused = run(("deployer", "up"), environment=environment, limit_s=30)
        assert "say so once" in refused.stderr
        assert rig.holder() is not None
    assert "experiment" in rig.command("watch", "experiment").stdout
    rig.start()
    assert status(rig)["branch"] == "experiment"
    assert rig.command("watch", "nope").returncode == 2


def _detach(rig: DeployerRig) -> None:
    rig.git("checkout", "--quiet", "--detach")


def _tag(rig: DeployerRig) -> None:
    rig.git("tag", "main", "main")


def _delete(rig: DeployerRig) -> None:
    rig.git("update-ref", "refs/heads/kept", "refs/heads/main")
    rig.git("update-ref", "-d", "refs/heads/main")


def _restore(rig: DeployerRig) -> None:
    rig.git("update-ref", "refs/heads/main", "refs/heads/kept")


def _remove(rig: DeployerRig) -> None:
    rig.repository.rename(rig.repository.with_name("away"))


def _bring_back(rig: DeployerRig) -> None:
    rig.repository.with_name("away").rename(rig.repository)


def _hang(rig: DeployerRig) -> None:
    programs = rig.folder / "programs"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "git").chmod(0o755)
    rig.environment["PATH"] = f"{programs}:{os.environ['PATH']}"


def _say_nothing(rig: DeployerRig) -> None:
    _hang(rig)
    (rig.folder / "programs" / "git").write_text("#!/bin/sh\nexit 0\n")


def _answer(rig: DeployerRig) -> None:
    (rig.folder / "programs" / "git").unlink()


def _no_git(rig: DeployerRig) -> None:
    programs = rig.folder / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if not program.name.startswith("git") and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    rig.environment["PATH"] = str(programs)


def _git_again(rig: DeployerRig) -> None:
    (rig.folder / "programs" / "git").symlink_to(str(shutil.which("git")))


def _spoil_ref(rig: DeployerRig) -> None:
    shutil.copy(rig.repository / ".git" / "refs" / "heads" / "main", rig.folder / "main")
    (rig.repository / ".git" / "refs" / "heads" / "main").write_bytes(b"\0garbage\n")


def _mend_ref(rig: DeployerRig) -> None:
    shutil.copy(rig.folder / "main", rig.repository / ".git" / "refs" / "heads" / "main")


@pytest.mark.parametrize(
    ("breaks", "repairs", "problem"),
    [
        (_detach, lambda rig: rig.git("checkout", "--quiet", "main"), ""),
        (_tag, lambda rig: rig.git("tag", "-d", "main"), ""),
        (_delete, _restore, "the branch 'main' of"),
        (_remove, _bring_back, "there is no folder"),
        (_hang, _answer, "git has not answered"),
        (_say_nothing, _answer, "git answered"),
        (_no_git, _git_again, "git cannot be run"),
        (_spoil_ref, _mend_ref, "refs/heads/main"),
    ],
    ids=["detached", "tag", "deleted", "no repository", "git hangs", "git says nothing", "no git", "broken ref"],
)
def test_whatever_git_cannot_answer_bots_go_on_and_dead_ones_are_replaced(  # type: ignore[no-untyped-def]
    rig: DeployerRig, breaks, repairs, problem: str
) -> None:
    """At a start too: it is said in status, a bot that dies is replaced, and the branch is deployed again once it can be read."""
    rig.kill()
    breaks(rig)
    rig.start()
    if problem:
        until("status says why", lambda: problem in str(status(rig)["problem"]), 30)
    for seen in rig.living():
        assert seen.document is not None
        os.kill(seen.document.pid, 9)
    holder = until("somebody trades", rig.holder, 120)
    until("a spare", lambda: len(rig.living()) == 2, 120)
    assert holder.document is not None
    repairs(rig)
    newer = rig.commit()
    rig.until_step(newer, "confirmed", 120)


def test_commands_ask_the_repository_that_the_bus_names(rig: DeployerRig, tmp_path: Path) -> None:
    """`plan` and `export`, called where the settings name another folder or none."""
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    environment = {**os.environ, **rig.environment, "DEPLOYER_REPOSITORY": str(stranger)}
    head = rig.git("rev-parse", "main")
    planned = run(("deployer", "plan", "--json"), environment=environment, limit_s=30)
    assert json.loads(planned.stdout)["sha"] == head
    for word in ("status", "logs"):  # the deployer's own folder is on the bus as well
        elsewhere = {name: value for name, value in environment.items() if name != "DEPLOYER_DIR"}
        asked = run(("deployer", word, *((head,) if word == "logs" else ())), environment=elsewhere, limit_s=30)
        assert (f"watches   main of {rig.repository}" if word == "status" else "--- bot-blue") in asked.stdout
        assert "is not kept any more" not in asked.stdout
    exported = run(("deployer", "export", "main", str(tmp_path / "files")), environment=environment, limit_s=30)
    assert exported.stdout.strip() == head
    assert (tmp_path / "files" / "bot" / "__main__.py").exists()
