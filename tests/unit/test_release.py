"""A release is refused while something of it is missing; nothing is built then, and no tag is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")


class Checkout:
    """A repository with two commits and what a release needs to say of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".ci").mkdir()
        (folder / "bus").mkdir()
        shutil.copy(ROOT / ".ci" / "release", folder / ".ci" / "release")
        (folder / "bus" / "version.py").write_text('VERSION = "9.9.9"\n')
        (folder / "CHANGELOG.md").write_text("# Changes\n\n## 9.9.9\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("one")
        self.commit("two")

    def git(self, *arguments: str) -> str:
        """Run git in it."""
        done = subprocess.run(
            [*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    def commit(self, subject: str) -> None:
        """Commit all there is."""
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)

    def release(self, code: int = 7) -> subprocess.CompletedProcess[str]:
        """Run it where `make` says its words and ends with this code: with 7 nothing more is tried."""
        tools = self.folder.parent / "tools"
        tools.mkdir()
        (tools / "make").write_text(f'#!/bin/sh\necho "make $*"\nexit {code}\n')
        (tools / "make").chmod(0o755)
        return subprocess.run(
            [".ci/release"],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("commit", "expected a clean work tree"),
        ("tag", "v9.9.9 is there already"),
        ("changes", "expected the line '## 9.9.9' in CHANGELOG.md"),
        ("history", "expected the release before in the history"),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_nothing_is_made(tmp_path: Path, missing: str, said: str) -> None:
    """Exit code 2 before anything is run, and what to do."""
    (tmp_path / "checkout").mkdir()
    made = Checkout(tmp_path / "checkout")
    if missing == "commit":
        (made.folder / "new").touch()
    elif missing == "tag":
        made.git("tag", "v9.9.9")
    elif missing == "changes":
        (made.folder / "CHANGELOG.md").write_text("# Changes\n\n## 9.9.9 (not yet released)\n")
        made.commit("three")
    else:
        made.git("checkout", "--quiet", "--orphan", "alone")
        made.commit("alone")
    done = made.release()
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_tag_is_made_where_a_step_failed(tmp_path: Path) -> None:
    """Whatever is complete before: the first step that fails ends it."""
    (tmp_path / "checkout").mkdir()
    made = Checkout(tmp_path / "checkout")
    done = made.release()
    assert (done.returncode, done.stdout) == (7, "make lint\n")
    assert made.git("tag") == ""


def test_a_known_hole_in_a_dependency_is_no_release(tmp_path: Path) -> None:
    """The audit's word is asked before anything is built."""
    (tmp_path / "checkout").mkdir()
    checkout = Checkout(tmp_path / "checkout")
    audit = checkout.folder / ".ci" / "audit"
    audit.write_text("#!/bin/sh\necho Found 1 known vulnerability; exit 1\n")
    audit.chmod(0o755)
    checkout.commit("audit")
    done = checkout.release(0)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "Found 1 known vulnerability")
    assert not (checkout.folder / "dist").exists()
