"""`git push` to a real deployer: what the pusher sees, whatever happens to the deploy, the deployer or the connection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import read_steps
from tests.e2e.deployer_rig import GIT, DeployerRig
from tests.e2e.rig import until

PUSH_LIMIT_S = 120


class Pusher:
    """Somebody's clone, with the deployer's repository as the remote `live`."""

    def __init__(self, folder: Path, rig: DeployerRig) -> None:
        self.folder, self._rig, self._commits = folder / "clone", rig, 0
        subprocess.run([*GIT, "clone", "--quiet", "--origin=live", str(rig.repository), str(self.folder)], check=True)
        self._began = self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        done = subprocess.run([*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, mode: str = "good") -> str:
        """A new commit here; returns the sha."""
        self._commits += 1
        (self.folder / "bot" / "mode").write_text(mode)
        (self.folder / "bot" / "number.py").write_text(f"NUMBER = '{self._began}-{self._commits}'\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", f"push {self._commits}: {mode}")
        return self.git("rev-parse", "HEAD")

    def change(self, *paths: str) -> str:
        """A new commit here that changes these files alone; returns the sha."""
        self._commits += 1
        for path in paths:
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_text(f"{self._began}-{self._commits}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", f"push {self._commits}: {', '.join(paths)}")
        return self.git("rev-parse", "HEAD")

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """`git push live main` as the person types it."""
        return subprocess.Popen(
            ["git", "push", "live", "main", *arguments],
            cwd=self.folder, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def push(self, *arguments: str) -> str:
        """Push and return what was shown."""
        _, shown = self.begin(*arguments).communicate(timeout=PUSH_LIMIT_S)
        return shown


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployerRig]:
    """A checkout that was prepared by `./ns init`, with one confirmed commit; no spares, so that all are quicker."""
    settings = {"DEPLOYER_HEALTHY_TIMEOUT": "30", "DEPLOYER_SPARES": "0", "DEPLOYER_VERIFY": "test ! -e docs/refused"}
    made = DeployerRig(tmp_path_factory.mktemp("push"), **settings)
    try:
        sha = made.commit()
        done = made.command("init")
        assert done.returncode == 0, done.stderr
        made.start()
        made.until_step(sha, "confirmed")
        yield made
    finally:
        made.stop()


def test_a_push_shows_its_deploy_until_it_is_confirmed_or_failed(rig: DeployerRig, tmp_path: Path) -> None:
    """A good push shows every step, the verdict and the polls missed; the server's files follow; a broken one shows FAILED
    and its last lines; one that leaves a commit behind says so. Nothing of it costs a tick."""
    pusher = Pusher(tmp_path, rig)
    first = pusher.commit()
    shown = pusher.push()
    for step in ("queued", "pushed", "building", "built", "started", "healthy", "handover", "taken", "confirmed"):
        assert step in shown, shown
    assert f"{first[:7]} trades; 0 polls missed" in shown
    assert "CONFIRMED in" in shown
    assert (rig.repository / "bot" / "number.py").read_text() == (pusher.folder / "bot" / "number.py").read_text()
    deploy = rig.deploy_of(first)
    assert deploy is not None
    assert deploy.by == os.environ.get("USER", deploy.by)
    rig.until_step(first, "retired")
    pusher.commit("dies")
    shown = pusher.push()
    assert "FAILED in" in shown, shown
    assert f"{first[:7]} trades on" in shown
    assert "| died on purpose at its start" in shown
    pusher.git("reset", "--quiet", "--hard", "HEAD~2")
    third = pusher.commit()
    shown = pusher.push("--force")
    assert "not a fast-forward" in shown, shown
    assert f"{third[:7]} trades; 0 polls missed" in shown
    rig.assert_steady(third, spares=0)
    assert rig.missed() == 0


def test_a_push_that_changes_nothing_that_runs_replaces_nobody(rig: DeployerRig, tmp_path: Path) -> None:
    """Documents end as UNCHANGED: nothing is started and the confirmed commit trades on. So does the revert of a broken commit,
    through SIGKILL of the deployer. A check refuses a commit before that. What a person asks for by name is deployed."""
    pusher = Pusher(tmp_path, rig)
    runs = pusher.commit()
    pusher.push()
    rig.until_step(runs, "retired")
    units, before = rig.units(), rig.holder()
    assert before is not None
    documents = pusher.change("README.md", "docs/a.txt")
    shown = pusher.push()
    assert "UNCHANGED in" in shown, shown
    assert f"nothing that runs (README.md, docs/a.txt); {runs[:7]} trades on" in shown
    steps = [step.step for step in read_steps(rig.bus) if step.sha == documents and step.step != "answered"]
    assert steps == ["queued", "building", "cancelled"], "a release before this one takes it for ended as well"
    pusher.change("docs/refused")
    assert "did not pass the check of DEPLOYER_VERIFY" in pusher.push()
    pusher.git("rm", "--quiet", "docs/refused")
    pusher.git("commit", "--quiet", "-m", "without it")
    bad = pusher.commit("dies")
    assert "FAILED in" in pusher.push()
    pusher.git("revert", "--no-edit", bad)
    reverted, going = pusher.git("rev-parse", "HEAD"), pusher.begin()
    until("it is being deployed", lambda: rig.deploy_of(reverted))
    rig.kill()
    rig.start()
    _, told = going.communicate(timeout=PUSH_LIMIT_S)
    assert "UNCHANGED in" in told, told
    after = rig.holder()
    assert after is not None
    assert (after.id, rig.units()) == (before.id, units)
    found = json.loads(rig.command("status", "--json").stdout)
    assert (found["confirmed"], found["newest"]["verdict"], found["tip"]) == (runs, "unchanged", reverted)
    assert f"newest {reverted[:7]}, which changes nothing that runs" in rig.command("status").stdout
    assert "1. nothing: it changes nothing that runs" in rig.command("plan").stdout
    assert rig.command("deploy", reverted).returncode == 0
    rig.assert_steady(reverted, spares=0)
    assert rig.missed() == 0


def test_a_closed_connection_stops_nothing_and_a_second_push_wins(rig: DeployerRig, tmp_path: Path) -> None:
    """A pusher that goes away leaves the deploy alone; of two pushes the newer is confirmed and the older is told so."""
    pusher = Pusher(tmp_path, rig)
    left = pusher.commit()
    going = pusher.begin()
    until("it is being deployed", lambda: rig.deploy_of(left))
    os.killpg(going.pid, signal.SIGKILL)
    going.communicate()
    rig.until_step(left, "confirmed")
    rig.until_step(left, "retired")
    older = pusher.commit("mute")
    waiting = pusher.begin()
    rig.until_step(older, "started")
    newer = pusher.commit()
    shown = pusher.push()
    assert f"{newer[:7]} trades" in shown, shown
    _, told = waiting.communicate(timeout=PUSH_LIMIT_S)
    assert f"superseded: {newer[:7]} is newer" in told
    assert "CANCELLED" in told
    assert rig.missed() == 0


def test_a_deployer_that_dies_in_the_middle_is_noticed_and_goes_on(rig: DeployerRig, tmp_path: Path) -> None:
    """SIGKILL of the deployer during a deploy: the pusher is told; when it is back each step is shown once, and the verdict."""
    pusher = Pusher(tmp_path, rig)
    sha = pusher.commit()
    going = pusher.begin()
    until("it is being deployed", lambda: rig.deploy_of(sha))
    rig.kill()
    assert going.stderr is not None
    lines: list[str] = []
    while not lines or "no sign of life" not in lines[-1]:
        lines.append(going.stderr.readline())
        assert lines[-1], lines
    rig.start()
    _, rest = going.communicate(timeout=PUSH_LIMIT_S)
    shown = "".join(lines) + rest
    assert "the deployer is back" in shown
    assert f"{sha[:7]} trades" in shown
    for step in ("queued", "built", "healthy", "taken"):
        assert sum(f"s  {step} " in line for line in shown.splitlines()) == 1, shown


def test_a_burst_of_pushes_ends_with_the_newest_and_leaves_nothing_behind(rig: DeployerRig, tmp_path: Path) -> None:
    """Twelve pushes as fast as git takes them: the newest trades, each pusher has one verdict, no commit ran twice, and trees,
    what builds leave and open pushes are bounded."""
    pusher, pushed, waiting = Pusher(tmp_path, rig), [], []
    before = len(rig.history().deploys)
    for _ in range(12):
        pushed.append(pusher.commit())
        waiting.append(pusher.begin())
        until("git took it", lambda: rig.git("rev-parse", "main") == pushed[-1])
    rig.until_step(pushed[-1], "retired")
    told = [push.communicate(timeout=PUSH_LIMIT_S)[1] for push in waiting]
    ends = [[word for word in ("CONFIRMED", "CANCELLED", "SUPERSEDED", "FAILED") if word in text] for text in told]
    assert all(len(end) == 1 for end in ends), told
    assert ends[-1] == ["CONFIRMED"]
    assert "FAILED" not in [end[0] for end in ends]
    deploys = [deploy.sha for deploy in rig.history().deploys[before:]]
    assert len(deploys) == len(set(deploys)), "a commit was deployed twice"
    assert set(deploys) <= set(pushed)
    run, pushes = rig.folder / "run", rig.repository / ".git" / "never-sleeps" / "pushes"
    # Five are kept, besides the one that trades and the one before it.
    until("old trees are removed", lambda: len(list((run / "trees").iterdir())) <= 5 + 2)
    assert not list((run / "builds").iterdir())
    assert {path.suffix for path in pushes.iterdir()} == {".log"}
    assert rig.git("worktree", "list").count("\n") == 0
    assert rig.missed() == 0


def test_paused_deploys_wait_for_resume_and_without_a_deployer_the_push_says_so(
    rig: DeployerRig, tmp_path: Path
) -> None:
    """While automatic deploys are paused a push is kept and says how to go on; resume deploys it; without a deployer the
    push returns at once and the commit is deployed by the next one."""
    pusher = Pusher(tmp_path, rig)
    assert "paused" in rig.command("pause").stdout
    sha = pusher.commit()
    shown = pusher.push()
    assert "NOT DEPLOYED: automatic deploys are paused by" in shown, shown
    assert rig.deploy_of(sha) is None
    assert "nothing until `./ns resume --deploys`" in rig.command("plan").stdout
    assert "resumed" in rig.command("resume").stdout
    rig.until_step(sha, "retired")
    assert rig.process is not None
    rig.process.terminate()
    rig.process.wait(30)
    later = pusher.commit()
    assert "no deployer runs here" in pusher.push()
    rig.start()
    rig.until_step(later, "confirmed")
