"""`deployer new`: a repository of one's own, with nothing in it but a strategy, its settings, and how they are run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from deployer.errors import StartError
from deployer.push.repository import git_environment

TEMPLATE = Path(__file__).with_name("template")
FILES = ("README.md", "strategy.py", "settings.env", "Dockerfile", "run.py")
# Its first commit needs an author; whoever goes on there is asked by their own git.
AUTHOR = ("-c", "user.name=deployer new", "-c", "user.email=deployer@localhost", "-c", "commit.gpgsign=false")
LIMIT_S = 20.0


def new(path: Path, say: Callable[[str], None]) -> None:
    """Make the repository with one commit on `main`. Raises StartError (the folder has something in it), OSError."""
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StartError(f"{path} is there already and not empty; name a folder that does not exist yet")
    path.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(TEMPLATE / name, path / name)
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*AUTHOR, "commit", "--quiet", "--message=A trader of my own"),
    ):
        done = subprocess.run(
            ["git", "-C", str(path), *arguments], env=git_environment(), capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StartError(f"git {arguments[-1]} failed in {path}: {done.stderr.strip()}")
    say(f"made {path}: {', '.join(FILES)}; one commit on main")
    say(f"  $EDITOR {path / 'strategy.py'}")
    say("  what to do next is in its README.md")
