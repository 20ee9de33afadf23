"""The set-up of a checkout: isolated from the user's settings of Python, pip and uv, but for the way to the packages."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.forked import ROOT

HOSTILE = {
    "PYTHONPATH": "/planted",
    "PYTHONHOME": "/planted",
    "PYTHONSTARTUP": "/planted",
    "PIP_TARGET": "/planted",
    "PIP_USER": "1",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PIP_NO_BINARY": ":all:",
    "PIP_CONSTRAINT": "/planted",
    "UV_SYSTEM_PYTHON": "1",
    "UV_EXCLUDE_NEWER": "2001-01-01",
    "UV_NO_BINARY": "1",
    "UV_PROJECT_ENVIRONMENT": "/planted",
    "VIRTUAL_ENV": "/planted",
    "CONDA_PREFIX": "/planted",
}


@pytest.fixture
def set_up() -> ModuleType:
    """The program as a module."""
    loader = importlib.machinery.SourceFileLoader("set_up", str(ROOT / "bin" / "set-up"))
    spec = importlib.util.spec_from_loader("set_up", loader)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    loader.exec_module(made)
    return made


def commands(
    set_up: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, pip: str = ""
) -> list[tuple[list[str], dict[str, str]]]:
    """What it runs and with which environment; `pip` is what `pip config list` says."""
    ran: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], environment: dict[str, str], *_: str) -> None:
        ran.append((command, dict(environment)))

    def told(*_: Any, **__: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 0, pip.encode(), b"")

    monkeypatch.setattr(set_up, "run", run)
    monkeypatch.setattr(set_up.subprocess, "run", told)
    monkeypatch.chdir(folder)
    (folder / "env").mkdir(exist_ok=True)
    set_up.main("env")
    return ran


def test_nothing_of_the_users_settings_has_a_say(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither variables nor files; Python itself runs isolated."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    ran = commands(
        set_up, tmp_path, monkeypatch, "global.target='/planted'\ninstall.user='true'\n:env:.no-binary=':all:'\n"
    )
    assert [command[3:5] for command, _ in ran] == [["venv", "--clear"], ["pip", "install"], ["uv", "pip"]]
    for command, environment in ran:
        assert command[1] == "-I"
        assert not set(environment) & set(HOSTILE)
        assert "/planted" not in environment.values()
    for _, environment in ran[1:]:
        assert (environment["PIP_CONFIG_FILE"], environment["UV_NO_CONFIG"]) == ("/dev/null", "1")


def test_the_way_to_the_packages_is_the_users(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes, proxies and certificates of the environment and of the files of pip and uv."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test")
    monkeypatch.setenv("SSL_CERT_FILE", "/certs")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text(
        'native-tls = true\n[pip]\ntarget = "/planted"\n[[index]]\nurl = "https://uv.test"\ndefault = true\n'
    )
    ran = commands(set_up, tmp_path, monkeypatch, "global.index-url='https://pip.test'\n:env:.find-links='/a\\n/b'\n")
    _, environment = ran[-1]
    expected = {
        "HTTPS_PROXY": "http://proxy.test",
        "SSL_CERT_FILE": "/certs",
        "PIP_INDEX_URL": "https://pip.test",
        "PIP_FIND_LINKS": "/a /b",
        "UV_OFFLINE": "1",
        "UV_NATIVE_TLS": "true",
        "UV_DEFAULT_INDEX": "https://uv.test",
    }
    assert expected.items() <= environment.items()


def test_a_home_that_cannot_be_written_is_not_needed(
    set_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packages' cache is in the checkout then."""
    for name in ("XDG_CACHE_HOME", "UV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    ran = commands(set_up, tmp_path, monkeypatch)
    assert ran[-1][1]["UV_CACHE_DIR"] == str(tmp_path / ".run" / "uv-cache")


def test_what_fails_is_one_line_that_says_what_to_do(set_up: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the last lines of what failed above it."""
    with pytest.raises(SystemExit) as ended:
        set_up.run(["/bin/sh", "-c", "echo why; exit 1"], {}, "it could not be made", "do this")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "why\nmake: it could not be made; do this\n"


@pytest.mark.parametrize(("place", "said"), [("a:b", "has a colon"), ("linked", "is a link to")])
def test_what_could_not_be_made_or_would_empty_another_is_refused(tmp_path: Path, place: str, said: str) -> None:
    """A path with a colon, and an environment that is a link to somebody else's; nothing is touched."""
    (tmp_path / place).mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").touch()
    (tmp_path / "linked" / ".venv").symlink_to(tmp_path / "other") if place == "linked" else None
    done = subprocess.run(
        [sys.executable, "-I", str(ROOT / "bin" / "set-up"), ".venv"],
        cwd=tmp_path / place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr
    assert (tmp_path / "other" / "kept").exists()


def test_make_sets_up_again_when_the_interpreter_went_away(tmp_path: Path) -> None:
    """A link to a Python that was removed counts as no environment; so does a path with a space in it."""
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements-uv.lock", "requirements-dev.lock"):
        (folder / name).touch()
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "ready").touch()

    def planned() -> str:
        return subprocess.run(
            ["make", "-n", ".venv/ready"], cwd=folder, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    python = folder / ".venv" / "bin" / "python"
    python.symlink_to("/bin/sh")
    assert "bin/set-up" not in planned()
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    assert "bin/set-up .venv" in planned()
