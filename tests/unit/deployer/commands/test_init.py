"""`./ns init`: what it prepares, what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployer.commands.init import init
from deployer.errors import StartError
from tests.e2e.deployer_rig import GIT


def git(folder: Path, *arguments: str) -> str:
    """Run git."""
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "file").write_text("one")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


def test_a_clean_checkout_takes_pushes_and_can_be_prepared_twice(checkout: Path) -> None:
    """It gets updateInstead, the hook and the shared folder, and is told how to push; again changes nothing."""
    said: list[str] = []
    init(checkout, said.append)
    init(checkout, said.append)
    assert git(checkout, "config", "receive.denyCurrentBranch") == "updateInstead"
    hook = checkout / ".git" / "hooks" / "post-receive"
    assert hook.stat().st_mode & 0o111
    assert (checkout / ".git" / "never-sleeps" / "pushes").is_dir()
    assert any("updateInstead" in line and "brings its files along" in line for line in said)
    assert f"  git push live {'main'}" in said
    assert git(checkout, "status", "--porcelain") == ""


def test_a_dirty_checkout_is_refused_and_left_as_it_is(checkout: Path) -> None:
    """Changes that are not committed are named, and nothing is prepared."""
    (checkout / "file").write_text("two")
    with pytest.raises(StartError, match=r"changes that are not committed \(file\).*commit or stash"):
        init(checkout, print)
    assert not (checkout / ".git" / "never-sleeps").exists()
    assert not (checkout / ".git" / "hooks" / "post-receive").exists()


def test_a_missing_folder_becomes_a_bare_repository(tmp_path: Path) -> None:
    """A path where nothing is becomes a bare repository of branch main with the hook; an existing one is prepared."""
    for _ in range(2):
        init(tmp_path / "new.git", lambda _line: None)
    assert git(tmp_path / "new.git", "rev-parse", "--is-bare-repository") == "true"
    assert (tmp_path / "new.git" / "hooks" / "post-receive").exists()
    assert (tmp_path / "new.git" / "never-sleeps" / "pushes").is_dir()


def test_somebody_elses_hook_and_folders_that_are_no_repository_are_refused(checkout: Path, tmp_path: Path) -> None:
    """A foreign post-receive hook, a folder with files, a folder inside a repository: each is one line that says what to do."""
    (checkout / ".git" / "hooks" / "post-receive").write_text("#!/bin/sh\necho mine\n")
    with pytest.raises(StartError, match="not ours; rename it"):
        init(checkout, print)
    with pytest.raises(StartError, match="is not a git repository and not empty"):
        init(tmp_path, print)
    (checkout / "inside").mkdir()
    (checkout / "inside" / "file").touch()
    with pytest.raises(StartError, match="is a folder inside the repository"):
        init(checkout / "inside", print)
