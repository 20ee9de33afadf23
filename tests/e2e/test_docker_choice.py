"""Which runtime `make run` takes: with an Engine, without one, with one that cannot be used. The command docker is a stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.rig import ROOT

ANSWERS = 'case "$1 $2" in "version --format") echo 1.45 ;; "context inspect") echo unix:///run/x.sock ;; esac'
NO_ENGINE = (
    "echo 'Cannot connect to the Docker daemon at unix:///run/x.sock. Is the docker daemon running?' >&2; exit 1"
)
FORBIDDEN = "echo 'permission denied while trying to connect to the docker API at unix:///run/x.sock' >&2; exit 1"
OLD = ANSWERS.replace("1.45", "1.40")
REMOTE = ANSWERS.replace("unix:///run/x.sock", "ssh://somebody@elsewhere")
NO_COMPOSE = f'[ "$1" = compose ] && exit 1; {ANSWERS}'


def choose(folder: Path, docker: str | None, asked: str = "", recorded: str = "") -> tuple[int, str]:
    """Exit code and words of `bin/runtime` in a checkout."""
    bin_folder, tools = folder / "bin", folder / "tools"
    for made in (bin_folder, tools, folder / "volumes" / "bus"):
        made.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "bin" / "runtime", bin_folder)
    for name in ("sh", "cat", "printf", "tail", "id", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(found)
    (tools / "docker").unlink(missing_ok=True)
    if docker is not None:
        (tools / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (tools / "docker").chmod(0o755)
    if recorded:
        (folder / "volumes" / "bus" / "runtime").write_text(f"{recorded}\n")
    done = subprocess.run(
        [str(bin_folder / "runtime")],
        env={"PATH": str(tools), "RUNTIME": asked, "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.strip() or done.stderr.strip()


@pytest.mark.parametrize(
    ("docker", "asked", "recorded", "chosen"),
    [
        (ANSWERS, "", "", "docker"),
        (NO_ENGINE, "", "", "process"),
        (None, "", "", "process"),
        (ANSWERS, "process", "", "process"),
        (ANSWERS, "", "process", "process"),
        (FORBIDDEN, "process", "", "process"),
        (ANSWERS, "docker", "docker", "docker"),
    ],
)
def test_the_first_run_chooses_and_the_bus_remembers(
    tmp_path: Path, docker: str | None, asked: str, recorded: str, chosen: str
) -> None:
    """Containers where an Engine answers, else processes; a bus of processes stays one when an Engine comes."""
    assert choose(tmp_path, docker, asked, recorded) == (0, chosen)


@pytest.mark.parametrize(
    ("docker", "asked", "recorded", "said"),
    [
        (FORBIDDEN, "", "", "this user may not use it: sudo usermod -aG docker"),
        (OLD, "", "", "speaks API 1.40; expected 1.41 or newer"),
        (REMOTE, "", "", "is at ssh://somebody@elsewhere; expected one on this machine"),
        (NO_COMPOSE, "", "", "Docker Compose v2 is missing"),
        (NO_ENGINE, "", "docker", "belongs to Docker, and no Docker Engine answers"),
        (None, "docker", "", "there is no command docker"),
        (ANSWERS, "process", "docker", "belongs to the runtime docker"),
        (ANSWERS, "docker", "process", "belongs to the runtime process"),
        (ANSWERS, "podman", "", "expected docker or process"),
    ],
)
def test_what_cannot_be_used_is_said_and_never_passed_over(
    tmp_path: Path, docker: str | None, asked: str, recorded: str, said: str
) -> None:
    """Exit code 2 and one line that says what to do; no silent change to another runtime."""
    code, words = choose(tmp_path, docker, asked, recorded)
    assert code == 2, words
    assert said in words
    assert "\n" not in words
