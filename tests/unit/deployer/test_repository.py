"""The deployer's mirror of what is watched."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deployer.errors import BuildError, RepositoryError
from deployer.push.repository import Repository
from deployer.runtimes.builder import Builder
from tests.e2e.deployer_rig import GIT

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4' * 64}\nsize 12345\n"


class Source:
    """A checkout of one file, and the mirror."""

    def __init__(self, folder: Path) -> None:
        self.path, self.mirror = folder / "source", folder / "run" / "mirror.git"
        subprocess.run([*GIT, "init", "--quiet", "--initial-branch=main", str(self.path)], check=True)
        self.repository = Repository(self.path, self.mirror)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        """Run git in it."""
        done = subprocess.run([*GIT, *arguments], cwd=at or self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Commit files; the sha."""
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A", "-f")
        self.git("commit", "--quiet", "--allow-empty", "-m", "a commit")
        return self.git("rev-parse", "HEAD")

    def objects(self, where: Path) -> int:
        """How many a git directory has."""
        lines = self.git("cat-file", "--batch-all-objects", "--batch-check", at=where).splitlines()
        return len(lines)

    def builder(self, folder: Path) -> Builder:
        """As the process runtime has it."""
        return Builder(
            self.repository, folder / "run", python=Path(sys.executable), command="-m bot", check="-m bot", limit_s=60
        )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """With one commit."""
    made = Source(tmp_path)
    made.commit(file="one")
    return made


async def test_a_tag_of_a_branchs_name_is_not_the_branch(source: Source) -> None:
    """Neither for what is watched nor for what a person asks for."""
    old = source.git("rev-parse", "HEAD")
    source.git("tag", "main")
    new = source.commit(file="two")
    assert await source.repository.checked_out_branch() == "main"
    assert await source.repository.tip("main") == new
    assert await source.repository.resolve("main") == new
    assert await source.repository.resolve("refs/tags/main") == old


async def test_branches_that_come_and_go_and_take_each_others_place_are_followed(source: Source) -> None:
    """A branch `a` becomes `a/b`; one that is gone has no commit; a commit that was kept is known still."""
    source.git("branch", "a")
    await source.repository.resolve("a")
    source.git("branch", "-D", "a")
    source.git("branch", "a/b")
    first = source.git("rev-parse", "HEAD")
    assert await source.repository.resolve("a/b") == first
    second = source.commit(file="two")
    await source.repository.tip("main")
    await source.repository.tidy([second])
    source.git("reset", "--quiet", "--hard", first)
    source.git("reflog", "expire", "--expire=now", "--all")
    source.git("gc", "--quiet", "--prune=now")
    assert await source.repository.resolve(second) == second
    source.git("checkout", "--quiet", "--detach")
    source.git("branch", "-D", "main")
    with pytest.raises(RepositoryError, match=r"the branch 'main' of .* has no commit"):
        await source.repository.tip("main")
    with pytest.raises(RepositoryError, match="no branch is checked out"):
        await source.repository.checked_out_branch()
    assert await source.repository.resolve("HEAD") == first


async def test_shallow_and_linked_and_cloned_repositories_are_read(source: Source, tmp_path: Path) -> None:
    """A clone of one commit, a work tree beside another one, and a clone that shares its objects."""
    newest = source.commit(file="two")
    source.git("clone", "--quiet", "--depth=1", f"file://{source.path}", str(tmp_path / "shallow"))
    source.git("clone", "--quiet", "--shared", str(source.path), str(tmp_path / "shared"))
    source.git("worktree", "add", "--quiet", "-b", "beside", str(tmp_path / "linked"))
    for name, branch in (("shallow", "main"), ("shared", "main"), ("linked", "beside")):
        repository = Repository(tmp_path / name, tmp_path / f"{name}.git")
        assert await repository.checked_out_branch() == branch
        assert await repository.tip(branch) == newest
        assert await repository.resolve("HEAD") == newest
        assert not await repository.differs()
        (tmp_path / name / "file").write_text("three")
        assert await repository.differs()


async def test_a_mirror_that_is_damaged_or_locked_by_a_git_that_was_killed_is_made_anew(source: Source) -> None:
    """It is a cache: nothing of it is needed that the repository has."""
    tip = await source.repository.tip("main")
    (source.mirror / "refs" / "never-sleeps" / "watched.lock").touch()
    assert await Repository(source.path, source.mirror).tip("main") == tip
    for pack in source.mirror.rglob("objects/??/*"):
        pack.chmod(0o644)
        pack.write_bytes(b"rubbish")
    newer = source.commit(file="two")
    assert await Repository(source.path, source.mirror).tip("main") == newer


async def test_saved_files_leave_nothing_in_the_checkout_and_nothing_for_ever(source: Source, tmp_path: Path) -> None:
    """--worktree: blobs go into the mirror, and what nothing names any more is pruned."""
    before = source.objects(source.path / ".git")
    for number in range(20):
        (source.path / "file").write_text(f"saved {number}")
        made = await source.repository.worktree_commit(tmp_path / "index")
    assert source.objects(source.path / ".git") == before
    grown = source.objects(source.mirror)
    await source.repository.tidy([made])
    # The newest one has a commit, a tree and a blob beside those of the branch.
    assert source.objects(source.mirror) == before + 3 < grown
    assert await source.repository.resolve(made) == made


async def test_saved_files_are_found_again_after_the_mirror_is_made_anew(source: Source, tmp_path: Path) -> None:
    """One look fails at most."""
    (source.path / "file").write_text("saved")
    made = await source.repository.worktree_commit(tmp_path / "index")
    shutil.rmtree(source.mirror)
    again = Repository(source.path, source.mirror)
    with pytest.raises(RepositoryError):
        await again.worktree_commit(tmp_path / "index")
    assert await again.worktree_commit(tmp_path / "index") == made


async def test_a_file_that_is_committed_stands_for_no_check(source: Source, tmp_path: Path) -> None:
    """Whatever mark a build may leave: the commit is tried all the same."""
    marks = {".ready": "own", "ready": "", ".built": "", ".verified": ""}
    sha = source.commit(**{"bot/__init__.py": "", "bot/__main__.py": "raise SystemExit('broken')"}, **marks)
    made = source.builder(tmp_path)
    with pytest.raises(BuildError):
        await made.build(sha)
    assert made.built() == frozenset()
    again = source.builder(tmp_path)
    with pytest.raises(BuildError):
        await again.build(sha)
    assert again.built() == frozenset()


async def test_pointers_and_submodules_are_said_by_the_build(source: Source, tmp_path: Path) -> None:
    """By one that is well and by one that fails for it."""
    inner = source.path / "library"
    source.git("init", "--quiet", str(inner))
    source.git("commit", "--quiet", "--allow-empty", "-m", "inner", at=inner)
    source.git("add", "library")
    files = {"bot/__init__.py": "", "bot/__main__.py": "print(1)", "weights.bin": POINTER}
    sha = source.commit(**files)
    remarks = await source.builder(tmp_path).build(sha)
    assert any("submodules are not fetched" in line and "library" in line for line in remarks)
    assert any("pointers of Git LFS" in line and "weights.bin" in line for line in remarks)
    broken = source.commit(**{"bot/__main__.py": "import library.thing"})
    with pytest.raises(BuildError, match="submodules are not fetched") as caught:
        await source.builder(tmp_path).build(broken)
    assert "weights.bin" in caught.value.output


async def test_a_checkout_with_large_files_in_place_of_pointers_does_not_differ(source: Source) -> None:
    """What Git LFS puts into the work tree is no change."""
    source.commit(**{"weights.bin": POINTER})
    (source.path / "weights.bin").write_text("the weights")
    assert not await source.repository.differs()
    (source.path / "file").write_text("changed")
    assert await source.repository.changed_in_work_tree() == ["file"]


async def test_any_bytes_in_names_and_messages_are_read(source: Source, tmp_path: Path) -> None:
    """A name that is no UTF-8, a subject in Latin-1, control characters and emoji."""
    (source.path / "caf\udce9").write_text("x")
    source.git("add", "-A")
    source.git("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "--quiet", "-m", "schön \x1b[2J 🚀")
    sha = await source.repository.tip("main")
    await source.repository.subject(sha)
    (tmp_path / "tree").mkdir()
    await source.repository.archive(sha, tmp_path / "tree")
    assert (tmp_path / "tree" / "caf\udce9").read_text() == "x"
    await source.repository.tar(sha, tmp_path / "tree.tar")
    with tarfile.open(tmp_path / "tree.tar") as archive:
        assert "caf\udce9" in archive.getnames()


def test_two_processes_may_read_at_once(source: Source) -> None:
    """`plan` beside a deployer."""

    async def read(repository: Repository) -> str:
        for _ in range(5):
            await repository.resolve("main")
        return await repository.tip("main")

    async def both() -> list[str]:
        return await asyncio.gather(*(read(Repository(source.path, source.mirror)) for _ in range(3)))

    assert len(set(asyncio.run(both()))) == 1
