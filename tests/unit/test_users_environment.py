"""What a user's shell and Python are set to has no say in what the commands of a checkout do."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.forked import ROOT

SCRIPTS = [
    ROOT / "ns",
    *(path for room in ("bin", ".ci") for path in sorted((ROOT / room).iterdir()) if path.is_file()),
]
HOSTILE = {
    "PYTHONHOME": "/nowhere",
    "PYTHONINSPECT": "1",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONEXECUTABLE": "/nowhere/python",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "PYTHONPATH": "/planted",
    "GIT_DIR": "/nowhere",
    "FORCE_COLOR": "1",
    "SSL_CERT_FILE": "/nowhere",
    "TMPDIR": "/nowhere",
}


def asked(words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout, by a path that does not begin with a dot or a slash where that can be."""
    environment = {name: value for name, value in os.environ.items() if name not in {*HOSTILE, "CDPATH"}}
    return subprocess.run(
        ["/bin/sh", "-c", words], cwd=ROOT, env={**environment, "RUNTIME": "", **more}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_variables_of_python_and_git_change_nothing() -> None:
    """All at once: `ns` says the same, and ends with the same code."""
    for words in ("./ns version", "./ns config --json"):
        expected, found = asked(words), asked(words, **HOSTILE)
        assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout), found.stderr
        assert expected.returncode == 0, expected.stderr


def test_a_search_path_of_cd_leads_nowhere_else(tmp_path: Path) -> None:
    """With CDPATH `cd bin/..` may be another checkout: its bus would say another runtime, and two would trade one account."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "volumes" / "bus").mkdir(parents=True)
    (tmp_path / "volumes" / "bus" / "runtime").write_text("docker\n")
    for words in ("bin/runtime", "bin/with-config pwd"):
        expected, found = asked(words, BUS_DIR=""), asked(words, BUS_DIR="", CDPATH=str(tmp_path))
        assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout), found.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_forgets_the_search_path_of_cd(script: Path) -> None:
    """Before it goes anywhere."""
    text = script.read_text()
    going = re.search(r"^.*\bcd -?P? ?\"", text, re.MULTILINE)
    if going is None or not text.startswith("#!"):
        return
    assert "unset CDPATH" in text[: going.start()], f"{script.name} goes somewhere before `unset CDPATH`"
