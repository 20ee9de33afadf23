"""`./ns init`: makes a repository on the server ready to be pushed to.

A checkout takes pushes into the branch that is checked out, and git brings its files along (updateInstead); a bare repository
takes them as they are. With DEPLOYER_VERIFY=signed a checkout is refused: git would bring files along before anything is
verified. Both get the hook that shows a deploy to its pusher, and the folder that hook and deployer share.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bus import write_atomically
from deployer.errors import RepositoryError, StartError
from deployer.git import Place, configuration_now, configure, git_now, head_of, locate
from deployer.push.checkout import PUSH_CHANGES_FILES, why_no_checkout
from deployer.push.log import FOLDER
from deployer.push.repository import Repository
from deployer.push.verify import SIGNED

HOOK = Path(__file__).parents[1] / "push" / "post-receive"
MARK = "# never-sleeps post-receive"
MAX_NAMED = 5

Say = Callable[[str], None]


def init(path: Path, say: Say, *, verify: str = "") -> None:
    """Prepare a checkout, a bare repository, or make a bare one where nothing is; can be repeated.

    It runs as root where an operator does, in a repository that others push to: git runs nowhere in it (deployer.git).
    verify: DEPLOYER_VERIFY. Raises StartError (it cannot be a push target as it is, and nothing was changed), OSError.
    """
    path = path.resolve()
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            path.mkdir(parents=True, exist_ok=True)
            git_now("init", "--quiet", "--bare", "--initial-branch=main", folder=path)
            say(f"made the bare repository {path}, branch main")
        _prepare(path, _place(path), say, verify)
    except RepositoryError as error:
        raise StartError(str(error)) from error


def _prepare(path: Path, place: Place, say: Say, verify: str) -> None:
    """Raises StartError, RepositoryError, OSError."""
    facts = configuration_now(place)
    bare = place.work_tree is None or facts.get("core.bare") == "true"
    branch = head_of(place).removeprefix("refs/heads/")
    if branch == head_of(place):
        raise StartError(f"no branch is checked out in {path}; check one out, then try again")
    hooks = facts.get("core.hookspath")
    folder = (path / Path(hooks).expanduser() if hooks else place.common / "hooks").resolve()
    if not any(folder.is_relative_to(top.resolve()) for top in (path, place.common)):
        raise StartError(
            f"the hooks of {path} are in {folder}, outside of the repository; "
            f"copy {HOOK} there yourself, or make it a folder inside (core.hooksPath) and try again"
        )
    hook = folder / "post-receive"
    if any(one.is_symlink() for one in (hook, place.directory / FOLDER, place.directory / FOLDER / "pushes")):
        raise StartError(f"{hook} or {place.directory / FOLDER} is a link; expected a file and a folder: remove it")
    if not bare and verify.strip() == SIGNED:
        raise StartError(why_no_checkout(path))
    if not bare:
        _refuse_dirty(path)
    _refuse_foreign(hook)
    shared = facts.get("core.sharedrepository", "") not in ("", "umask", "false", "0")
    pushes = place.directory / FOLDER / "pushes"
    for shown in (pushes.parent, pushes):
        shown.mkdir(exist_ok=True)
        if shared:
            shown.chmod(0o2775)
    hook.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(hook, HOOK.read_bytes(), durable=True, mode=0o644)
    hook.chmod(0o755)
    if not bare:
        configure(place, "receive.denyCurrentBranch", "updateInstead")
        say(
            f"{path} takes pushes to {branch}, and git brings its files along (receive.denyCurrentBranch=updateInstead);"
        )
        say("  a push is refused while files there differ from its newest commit, so commit elsewhere and push")
        say(f"WARNING: {PUSH_CHANGES_FILES}")
    else:
        say(f"{path} takes pushes to {branch}")
    say(f"the hook {hook} shows each deploy to its pusher")
    say("on the machine that you push from:")
    say(f"  git remote add live {_user()}@THIS-MACHINE:{path}      (on this machine: git remote add live {path})")
    say(f"  git push live {branch}")


def _place(path: Path) -> Place:
    if not path.is_dir():
        raise StartError(f"{path} is no folder; name a git repository, or a folder that does not exist yet")
    try:
        return locate(path)
    except RepositoryError as error:
        for above in path.parents:
            with suppress(RepositoryError):
                if locate(above).work_tree is not None:
                    raise StartError(f"{path} is a folder inside the repository {above}; name that one") from error
        raise StartError(
            f"{path} is not a git repository and not empty; run `git init` there, or name another folder"
        ) from error


def _refuse_dirty(path: Path) -> None:
    """Git would refuse every push into it."""
    changed = asyncio.run(Repository(path, shallow=True).changed_in_work_tree())
    if changed:
        more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
        raise StartError(
            f"{path} has changes that are not committed ({', '.join(changed[:MAX_NAMED])}{more}), and git refuses pushes "
            "over them; commit or stash them, then try again"
        )


def _refuse_foreign(hook: Path) -> None:
    if hook.exists() and MARK not in hook.read_text(errors="replace"):
        raise StartError(
            f"{hook} is there already and not ours; rename it, try again, and call it from the new one if it is still needed"
        )


def _user() -> str:
    return os.environ.get("LOGNAME") or "USER"


# `./ns new`: a repository of one's own, with nothing in it but a strategy, its settings, and how they are run.


TEMPLATE = Path(__file__).parents[1] / "template"
FILES = ("README.md", "strategy.py", "settings.env", "Dockerfile", "run.py")
# Its first commit needs an author; whoever goes on there is asked by their own git.
AUTHOR = ("-c", "user.name=deployer new", "-c", "user.email=deployer@localhost")


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
        try:
            git_now(*arguments, folder=path)
        except RepositoryError as error:
            raise StartError(f"git {arguments[-1]} failed in {path}: {error}") from error
    say(f"made {path}: {', '.join(FILES)}; one commit on main")
    say(f"  $EDITOR {path / 'strategy.py'}")
    say("  what to do next is in its README.md")
