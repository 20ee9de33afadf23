"""`ns push`: the commit that is checked out where the person is, to the repository that is deployed from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bus import bus_to_read
from cli.place import EXIT_BAD_INPUT, Place, PlaceError
from deployer.errors import StartError
from deployer.push.watched import read_watched

GIT_LIMIT_S = 30.0


def push_here(place: Place, remote: str) -> int:
    """Push HEAD to the watched branch of `remote`, or of the remote whose address is the watched repository."""
    watched, branch = watched_by(place)
    here = _git(place.caller, "rev-parse", "--show-toplevel")
    if not here:
        return _refuse(f"{place.caller} is in no git repository; go to the one whose commit shall trade")
    if not remote:
        if watched is not None and Path(here).resolve() == watched.resolve():
            return _refuse(
                f"{here} is itself what is watched: a commit on {branch or 'its branch'} is the deploy; nothing to push"
            )
        remote = next((name for name in _git(Path(here), "remote").split() if _leads_to(Path(here), name, watched)), "")
        if not remote:
            names = ", ".join(_git(Path(here), "remote").split()) or "none"
            return _refuse(
                f"no remote of {here} is {watched or 'the watched repository'}; name one: ns push REMOTE (found: {names})"
            )
    target = branch or _git(Path(here), "symbolic-ref", "--short", "HEAD") or "main"
    # It shows the deploy itself: the repository's hook streams each step (docs/how-to/push.md).
    return subprocess.run(["git", "-C", here, "push", remote, f"HEAD:refs/heads/{target}"], check=False).returncode


def watched_by(place: Place) -> tuple[Path | None, str]:
    """The repository and branch that the bus watches; None and nothing where nothing ran yet. Raises PlaceError."""
    directory = place.root / place.environment.get("BUS_DIR", "volumes/bus")
    try:
        watched = read_watched(bus_to_read(directory))
    except (StartError, OSError) as error:
        raise PlaceError(f"what is watched cannot be read: {error}") from error
    return (Path(watched.repository), watched.branch) if watched is not None else (None, "")


def _leads_to(here: Path, remote: str, watched: Path | None) -> bool:
    url = _git(here, "remote", "get-url", "--push", remote)
    # On another machine the address has a host before the path: name:/path, ssh://host/path.
    path = url.rpartition(":")[2] if "://" not in url else "/" + url.split("://", 1)[1].partition("/")[2]
    return watched is not None and bool(path) and (here / path).resolve() == watched.resolve()


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=GIT_LIMIT_S,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _refuse(text: str) -> int:
    print(f"ns: {text}", file=sys.stderr)
    return EXIT_BAD_INPUT
