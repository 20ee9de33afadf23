"""Building commits of real git repositories, with real environments but no network."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from deployer.errors import BuildError, RepositoryError
from deployer.push.repository import Repository
from deployer.runtimes.api import read_build_inputs
from deployer.runtimes.builder import Builder
from tests import patience
from tests.e2e.deployer_rig import GIT
from tests.e2e.rig import until


class Source:
    """A git repository with a bot of one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "source"
        self.path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        done = subprocess.run([*GIT, *arguments], cwd=self.path, check=True, capture_output=True, text=True, timeout=30)
        return done.stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "a commit")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty repository."""
    return Source(tmp_path)


def builder(
    source: Source, folder: Path, *, python: Path | None = Path(sys.executable), limit_s: float = 60
) -> Builder:
    """A builder beside the repository."""
    return Builder(
        Repository(source.path),
        folder / "run",
        python=python,
        command="-m bot",
        check="-m bot --version",
        limit_s=limit_s,
    )


async def test_a_commit_is_built_from_git_and_not_from_the_work_tree(source: Source, tmp_path: Path) -> None:
    """What is built is what was committed, whatever the work tree holds by now."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": "print('committed')"})
    (source.path / "bot" / "__main__.py").write_text("raise SystemExit('not committed')")
    made = builder(source, tmp_path)
    await made.build(sha)
    assert made.built() == {sha}
    assert (made.tree(sha) / "bot" / "__main__.py").read_text() == "print('committed')"


async def test_an_environment_is_made_once_for_a_lock_file(source: Source, tmp_path: Path) -> None:
    """Two commits with the same requirements.lock share one environment; another lock file gets its own."""
    files = {"bot/__init__.py": "", "bot/__main__.py": "print('v1')", "requirements.lock": ""}
    first = source.commit(files)
    second = source.commit({**files, "bot/__main__.py": "print('v2')"})
    third = source.commit({**files, "requirements.lock": "# another\n"})
    made = builder(source, tmp_path, python=None)
    for sha in (first, second, third):
        await made.build(sha)
    assert made.built() == {first, second, third}
    assert made.command(first) == made.command(second) != made.command(third)
    started = await asyncio.create_subprocess_exec(
        *made.command(second), cwd=made.tree(second), stdout=asyncio.subprocess.PIPE
    )
    async with patience.timeout(30):
        out, _ = await started.communicate()
    assert out == b"v2\n"


async def test_a_revert_to_files_that_were_tried_is_not_tried_again(source: Source, tmp_path: Path) -> None:
    """Its files come from git anew; what was tried is said. It is tried where the other is gone, or is checked in another way."""
    tries = tmp_path / "tries"
    code = f"open({str(tries)!r}, 'a').write('x')"
    good = source.commit({"bot/__init__.py": "", "bot/__main__.py": code})
    made = builder(source, tmp_path)
    assert await made.build(good) == ()
    source.commit({"bot/__main__.py": "raise SystemExit(1)"})
    source.git("revert", "--no-edit", "HEAD")
    reverted = source.git("rev-parse", "HEAD")
    (made.tree(good) / "bot" / "__main__.py").write_text("changed by what ran there")
    assert await made.build(reverted) == (
        f"its files are those of {good[:7]}, which was built and tried: it is not tried again",
    )
    assert tries.read_text() == "x"
    assert (made.tree(reverted) / "bot" / "__main__.py").read_text() == code
    assert made.built() == {good, reverted}
    source.git("commit", "--quiet", "--allow-empty", "-m", "the same")
    again = source.git("rev-parse", "HEAD")
    for sha in (good, reverted):
        shutil.rmtree(made.tree(sha))
        (tmp_path / "run" / "ready" / sha).unlink()
    assert await made.build(again) == ()
    assert tries.read_text() == "xx"
    other = Builder(
        Repository(source.path), tmp_path / "run", python=Path(sys.executable), command="-m bot", check="-m bot --x",
        limit_s=60,
    )  # fmt: skip
    assert await other.build(good) == ()
    assert tries.read_text() == "xxx"


async def test_what_was_removed_by_hand_counts_only_once_it_is_built_again(source: Source, tmp_path: Path) -> None:
    """The mark of the tree before counts for nothing while the new one is only being tried."""
    gate = tmp_path / "go"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": code})
    made = builder(source, tmp_path)
    gate.touch()
    await made.build(sha)
    gate.unlink()
    shutil.rmtree(made.tree(sha))
    building = asyncio.create_task(made.build(sha))
    while not made.tree(sha).exists():
        await asyncio.wait([building], timeout=0.01)
    assert made.built() == frozenset()
    gate.touch()
    await building
    assert made.built() == {sha}


async def test_an_environment_whose_interpreter_went_away_is_made_anew(source: Source, tmp_path: Path) -> None:
    """Python was updated or removed under it: the commit counts as not built, and is built again."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": "", "requirements.lock": ""})
    made = builder(source, tmp_path, python=None)
    await made.build(sha)
    python = Path(made.command(sha)[0])
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    assert made.built() == frozenset()
    await made.build(sha)
    assert made.built() == {sha}


async def test_a_missing_lock_file_is_said(source: Source, tmp_path: Path) -> None:
    """A repository of something else fails in a sentence that says what was expected."""
    sha = source.commit({"README.md": "not a bot"})
    with pytest.raises(BuildError, match=r"no requirements\.lock; expected the bot's locked dependencies"):
        await builder(source, tmp_path, python=None).build(sha)


async def test_a_syntax_error_anywhere_in_the_bot_fails(source: Source, tmp_path: Path) -> None:
    """A module that nothing imports at the start is compiled as well; the output names it."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": "", "bot/orders.py": "def (:\n"})
    made = builder(source, tmp_path)
    with pytest.raises(BuildError, match="SyntaxError") as failed:
        await made.build(sha)
    assert "orders.py" in failed.value.output
    assert made.built() == frozenset()


async def test_a_build_that_was_cut_off_is_made_anew(source: Source, tmp_path: Path) -> None:
    """A half-extracted tree of a deployer that was killed is thrown away."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": ""})
    made = builder(source, tmp_path)
    left_over = tmp_path / "run" / "trees" / f".{sha}.new"
    left_over.mkdir(parents=True)
    (left_over / "half").touch()
    await made.build(sha)
    assert not left_over.exists()
    assert not (made.tree(sha) / "half").exists()


async def test_a_build_has_its_arguments_and_shows_no_secret(source: Source, tmp_path: Path) -> None:
    """What runs for a build finds the arguments and the folder of secrets; a secret that it prints is blackened in its error."""
    (tmp_path / "args").write_text("INDEX=here\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").touch(mode=0o600)
    (tmp_path / "secrets" / "token").write_text("s3cr3t-w0rd")
    code = (
        'import os; raise SystemExit(os.environ["INDEX"] + ": " + open(os.environ["BUILD_SECRETS"] + "/token").read())'
    )
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": code})
    made = Builder(
        Repository(source.path), tmp_path / "run", python=Path(sys.executable), command="-m bot", check="-m bot --version",
        limit_s=60, inputs=partial(read_build_inputs, tmp_path / "args", tmp_path / "secrets"),
    )  # fmt: skip
    with pytest.raises(BuildError, match=r"here: \*\*\*$") as failed:
        await made.build(sha)
    assert "s3cr3t" not in failed.value.output
    (tmp_path / "secrets" / "token").chmod(0o644)
    with pytest.raises(BuildError, match="chmod 600 it"):
        await made.build(sha)


async def test_a_build_has_the_lowest_priority_for_processor_and_disk(source: Source, tmp_path: Path) -> None:
    """What runs for a build is nice 19 and idle for the disk, so that it gets only what the trader leaves."""
    if shutil.which("ionice") is None:
        pytest.skip("ionice is missing (util-linux)")
    code = 'import os; os.system(f"nice; ionice -p {os.getpid()}"); raise SystemExit(1)'
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": code})
    with pytest.raises(BuildError) as failed:
        await builder(source, tmp_path).build(sha)
    assert failed.value.output.splitlines() == ["19", "idle"]


COUNTS = """
import pathlib, time
number = 0
while not pathlib.Path("../../go").exists():
    number += 1
    pathlib.Path("../../count.new").write_text(str(number))
    pathlib.Path("../../count.new").rename("../../count")
    time.sleep(0.01)
"""


async def test_a_build_that_a_killed_deployer_left_is_ended_by_the_next_one(source: Source, tmp_path: Path) -> None:
    """What runs for it is killed, though it was stopped, nothing of it is left, and the commit builds again."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": COUNTS})
    made, run = builder(source, tmp_path), tmp_path / "run"
    building = asyncio.create_task(made.build(sha))
    while not (run / "count").exists():
        await asyncio.wait([building], timeout=0.02)
    pid = int(next((run / "builds").glob("*.pid")).read_text())
    os.killpg(pid, signal.SIGSTOP)
    later = builder(source, tmp_path)
    with pytest.raises(BuildError, match=r"exit code -9") as ended:
        await building
    assert ended.value.interrupted, "not the commit's doing"
    assert not list((run / "builds").iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    (run / "go").touch()
    await later.build(sha)
    assert later.built() == {sha}


async def test_an_import_that_hangs_ends_with_the_time_limit(source: Source, tmp_path: Path) -> None:
    """A bot whose import never ends fails the build within the limit, and its process is gone."""
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": "import time; time.sleep(600)"})
    began = time.monotonic()
    with pytest.raises(BuildError, match="not ready within 2 s"):
        await builder(source, tmp_path, limit_s=2).build(sha)
    assert time.monotonic() - began < 10


async def test_a_cancelled_build_ends_what_it_runs(source: Source, tmp_path: Path) -> None:
    """A build that gives way to a newer commit leaves no process behind."""
    mark = tmp_path / "began"
    code = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": code})
    task = asyncio.create_task(builder(source, tmp_path).build(sha))
    async with patience.timeout(30):
        await asyncio.to_thread(until, "the import began", lambda: mark.exists() and mark.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{mark.read_text()}").exists()


async def test_pruning_keeps_what_is_needed(source: Source, tmp_path: Path) -> None:
    """Old trees go; those that are named and the newest few stay."""
    made = builder(source, tmp_path)
    shas = []
    for number in range(5):
        shas.append(source.commit({"bot/__init__.py": "", "bot/__main__.py": f"print({number})"}))
        await made.build(shas[-1])
    made.prune(frozenset({shas[0]}), newest=2)
    assert made.built() == {shas[0], shas[3], shas[4]}


async def test_pruning_leaves_alone_what_is_being_built(source: Source, tmp_path: Path) -> None:
    """Room is made while a needed commit is built: its tree stays under the names that it has meanwhile, others' go."""
    made = builder(source, tmp_path)
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": ""})
    await made.build(sha)
    trees = made.tree(sha).parent
    for name in (f".{sha}.new", f".{sha}.old", f".{'0' * 40}.new"):
        (trees / name).mkdir()
    made.prune(frozenset({sha}), newest=0)
    assert {tree.name for tree in trees.iterdir()} == {sha, f".{sha}.new", f".{sha}.old"}


async def test_what_git_cannot_tell_is_said_with_what_to_do(source: Source, tmp_path: Path) -> None:
    """A missing folder, a folder without a repository, a missing branch and a wrong ref are one clear line each."""
    with pytest.raises(RepositoryError, match="there is no folder"):
        await Repository(tmp_path / "nowhere").git_directory()
    (tmp_path / "plain").mkdir()
    with pytest.raises(RepositoryError, match="is not a git repository"):
        await Repository(tmp_path / "plain").git_directory()
    repository = Repository(source.path)
    with pytest.raises(RepositoryError, match=r"the branch 'main' of .* has no commit"):
        await repository.tip("main")
    for wrong in ("--all", "", "no-such-thing"):
        with pytest.raises(RepositoryError):
            await repository.resolve(wrong)


def test_only_what_declares_it_knows_the_command_compare(source: Source, tmp_path: Path) -> None:
    """The package that is run holds `tools/decision_diff.py`; a worker without it would take the word for no command."""
    plain = source.commit({"bot/__init__.py": "", "bot/__main__.py": ""})
    knows = source.commit({"bot/tools/decision_diff.py": ""})
    made = builder(source, tmp_path)
    for sha in (plain, knows):
        asyncio.run(made.build(sha))
    assert made.built() == {plain, knows}
    assert made.comparable() == {knows}


async def test_a_commits_files_are_on_the_disk_before_its_tree_has_its_name(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a power cut never leaves a tree of empty files, which would make a broken commit of a good one."""
    made = builder(source, tmp_path)
    sha = source.commit({"bot/__init__.py": "", "bot/__main__.py": ""})
    synced: list[bool] = []

    def sync(folder: Path) -> None:
        synced.append((folder / "bot" / "__main__.py").exists() and not made.tree(sha).exists())

    monkeypatch.setattr("deployer.runtimes.builder.sync_disk", sync)
    await made.build(sha)
    assert synced == [True]
