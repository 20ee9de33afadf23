"""`deployer init`: makes a repository on the server ready to be pushed to.

A checkout takes pushes into the branch that is checked out, and git brings its files along (updateInstead); a bare repository
takes them as they are. Both get the hook that shows a deploy to its pusher, and the folder that hook and deployer share.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bus import write_atomically
from deployer.errors import StartError
from deployer.push.log import FOLDER
from deployer.push.repository import git_environment

HOOK = Path(__file__).parents[1] / "push" / "post-receive"
MARK = "# never-sleeps post-receive"
LIMIT_S = 20.0
MAX_NAMED = 5

Say = Callable[[str], None]


def init(path: Path, say: Say) -> None:
    """Prepare a checkout, a bare repository, or make a bare one where nothing is; can be repeated.

    Raises StartError (it cannot be a push target as it is, and nothing was changed), OSError.
    """
    path = path.resolve()
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        path.mkdir(parents=True, exist_ok=True)
        _git(path, "init", "--quiet", "--bare", "--initial-branch=main")
        say(f"made the bare repository {path}, branch main")
    git_directory = _git_directory(path)
    bare = _is_bare(path)
    branch = _branch(path)
    hook = path / _git(path, "rev-parse", "--git-path", "hooks/post-receive")  # where core.hooksPath says
    if not bare:
        _refuse_dirty(path)
    _refuse_foreign(hook)
    shared = _git(path, "config", "--default", "", "--get", "core.sharedRepository") not in ("", "umask", "false", "0")
    pushes = git_directory / FOLDER / "pushes"
    for folder in (pushes.parent, pushes):
        folder.mkdir(exist_ok=True)
        if shared:
            folder.chmod(0o2775)
    hook.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(hook, HOOK.read_bytes(), durable=True)
    hook.chmod(0o755)
    if not bare:
        _git(path, "config", "receive.denyCurrentBranch", "updateInstead")
        say(
            f"{path} takes pushes to {branch}, and git brings its files along (receive.denyCurrentBranch=updateInstead);"
        )
        say("  a push is refused while files there differ from its newest commit, so commit elsewhere and push")
    else:
        say(f"{path} takes pushes to {branch}")
    say(f"the hook {hook} shows each deploy to its pusher")
    say("on the machine that you push from:")
    say(f"  git remote add live {_user()}@THIS-MACHINE:{path}      (on this machine: git remote add live {path})")
    say(f"  git push live {branch}")


def _git_directory(path: Path) -> Path:
    if not path.is_dir():
        raise StartError(f"{path} is no folder; name a git repository, or a folder that does not exist yet")
    try:
        found = Path(_git(path, "rev-parse", "--absolute-git-dir"))
    except StartError as error:
        raise StartError(
            f"{path} is not a git repository and not empty ({error}); run `git init` there, or name another folder"
        ) from error
    top = found if _is_bare(path) else Path(_git(path, "rev-parse", "--show-toplevel"))
    if top.resolve() != path.resolve():
        raise StartError(f"{path} is a folder inside the repository {top}; name that one")
    return found


def _is_bare(path: Path) -> bool:
    return _git(path, "rev-parse", "--is-bare-repository") == "true"


def _branch(path: Path) -> str:
    try:
        return _git(path, "symbolic-ref", "--quiet", "--short", "HEAD")
    except StartError as error:
        raise StartError(f"no branch is checked out in {path}; check one out, then try again") from error


def _refuse_dirty(path: Path) -> None:
    """Git would refuse every push into it."""
    changed = _git(path, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        named = ", ".join(line.strip().split(" ", 1)[-1].strip() for line in changed[:MAX_NAMED])
        more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
        raise StartError(
            f"{path} has changes that are not committed ({named}{more}), and git refuses pushes over them; "
            "commit or stash them, then try again"
        )


def _refuse_foreign(hook: Path) -> None:
    if hook.exists() and MARK not in hook.read_text(errors="replace"):
        raise StartError(
            f"{hook} is there already and not ours; rename it, try again, and call it from the new one if it is still needed"
        )


def _git(path: Path, *arguments: str) -> str:
    """Raises StartError with git's last line."""
    try:
        done = subprocess.run(
            ["git", "-C", str(path), *arguments],
            capture_output=True, encoding="utf-8", errors="replace", timeout=LIMIT_S, check=False, env=git_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"git cannot be run in {path} ({error}); install it, or look at that disk") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise StartError(lines[-1] if lines else f"git {arguments[0]} failed with exit code {done.returncode}")
    return done.stdout.rstrip("\n")


def _user() -> str:
    return os.environ.get("LOGNAME") or "USER"


# `deployer new`: a repository of one's own, with nothing in it but a strategy, its settings, and how they are run.


TEMPLATE = Path(__file__).parents[1] / "template"
FILES = ("README.md", "strategy.py", "settings.env", "Dockerfile", "run.py")
# Its first commit needs an author; whoever goes on there is asked by their own git.
AUTHOR = ("-c", "user.name=deployer new", "-c", "user.email=deployer@localhost", "-c", "commit.gpgsign=false")
NEW_LIMIT_S = 20.0


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
            ["git", "-C", str(path), *arguments], env=git_environment(), capture_output=True, encoding="utf-8", errors="replace",
            timeout=NEW_LIMIT_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StartError(f"git {arguments[-1]} failed in {path}: {done.stderr.strip()}")
    say(f"made {path}: {', '.join(FILES)}; one commit on main")
    say(f"  $EDITOR {path / 'strategy.py'}")
    say("  what to do next is in its README.md")
