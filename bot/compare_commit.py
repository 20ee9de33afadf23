"""`bot compare REF`: what a commit would have decided. Its own code says it, in a folder of its own beside the bus.

It runs with the interpreter that runs this, so with its packages: a commit of other packages may not be importable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus import Bus, SettingsError

GIT_LIMIT_S, LIMIT_S = 120.0, 600.0
COMPARES = Path("bot", "tools", "decision_diff.py")
# A repository of one's own (`deployer new`) has no bot in it: it is run on this one.
OWN = "run.py"
HOME = Path(__file__).absolute().parents[1]


def compare_commit(bus: Bus, ref: str, last_ms: int, by: str, *, as_json: bool, say: Callable[[str], None]) -> int:
    """Print what differs, and return the exit code of `compare`. ref: of the git repository in the current folder.

    Raises SettingsError: git does not know the commit, the commit does not know `compare`, it did not end, it said nothing.
    """
    with tempfile.TemporaryDirectory(prefix="never-sleeps-compare-") as folder:
        tree, beside = Path(folder) / "tree", Path(folder) / "bus"
        sha = _extract(ref, Path(folder) / "tree.tar", tree)
        beside.mkdir()
        (beside / bus.inputs.name).symlink_to(bus.inputs)
        command, environment = _program(tree, sha)
        try:
            done = subprocess.run(
                [*command, "compare", "--json", "--last", f"{max(1, last_ms // 1000)}s", *(["--by", by] if by else [])],
                cwd=tree, env={**environment, "BUS_DIR": str(beside)}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise SettingsError(f"{sha[:7]} did not compare within {LIMIT_S:g} s; try a shorter --last") from error
    if done.stderr:
        sys.stderr.write(done.stderr)
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        say(json.dumps(found) if as_json else "\n".join(_lines(found)))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{sha[:7]} said nothing that could be read; it ended with {done.returncode}") from error
    return done.returncode


def _extract(ref: str, tar: Path, tree: Path) -> str:
    """Write the commit's files into a new folder; returns its sha."""
    if ref.startswith("-"):
        raise SettingsError(f"expected a branch, tag or sha, found {ref!r}")
    sha = _git("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    _git("-C", _git("rev-parse", "--show-toplevel"), "archive", "--format=tar", f"--output={tar}", sha)
    with tarfile.open(tar) as archive:
        archive.extractall(tree, filter="data")
    return sha


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"git could not be asked ({error}); `compare REF` needs it and a checkout") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SettingsError(f"git {arguments[0]}: {said[-1] if said else done.returncode}; run this in the checkout")
    return done.stdout.strip()


def _program(tree: Path, sha: str) -> tuple[list[str], dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if (tree / COMPARES).is_file():
        return [sys.executable, "-m", "bot"], environment
    if (tree / OWN).is_file() and not (tree / "bot").exists():
        return [sys.executable, OWN], {**environment, "PYTHONPATH": str(HOME)}
    # It would take the word for no command at all, and trade.
    raise SettingsError(f"{sha[:7]} does not know `compare`: expected {COMPARES} or {OWN} in it, found neither")


def _lines(found: dict[str, Any]) -> list[str]:
    """As this release's own `compare` prints them, whichever release said it."""
    differences = [str(one["text"]) for one in found["differences"]]
    more = [f"and {found['differ'] - len(differences)} more"] if found["differ"] > len(differences) else []
    return [
        str(found["text"]),
        *differences,
        *more,
        *(f"{times} times: {text}" for text, times in found["notes"].items()),
    ]
