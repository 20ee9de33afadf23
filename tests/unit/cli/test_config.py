"""never-sleeps.toml: what it may say, what stands above it, and what is said where it is wrong."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.config import FILE, ConfigError, merged, read_config, with_file
from cli.place import Place
from cli.settings import defaults, panel_url, paper_url, settings_of

ROOT = Path(__file__).parents[3]


def written(folder: Path, text: str) -> Path:
    """The file with this text."""
    path = folder / FILE
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_and_a_key_are_a_variable_and_lists_are_joined(tmp_path: Path) -> None:
    """`[bot] timeframes = ["30s", "90s"]` is BOT_TIMEFRAMES=30s,90s; numbers and switches keep their spelling."""
    path = written(
        tmp_path, '[bot]\ntimeframes = ["30s", "90s"]\npoll_interval = 1\n[panel]\nbehind_proxy = true\nport = 8801\n'
    )
    assert read_config(path, defaults()) == {
        "BOT_TIMEFRAMES": "30s,90s",
        "BOT_POLL_INTERVAL": "1",
        "PANEL_BEHIND_PROXY": "true",
        "PANEL_PORT": "8801",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[bot]\npoll_intervall = 5\n", "is poll_interval meant?"),
        ("[boot]\npoll_interval = 5\n", "is bot meant?"),
        ("poll_interval = 5\n", "expected the tables"),
        ("[bot\n", "expected TOML"),
        ("[bot]\npoll_interval = {a = 1}\n", "found dict"),
        (f'[bot]\nwallet = "{"a1" * 32}"\n', "looks like a secret"),
        ('[bot]\nstrategy = """a\nb"""\n', "expected one line"),
        ("[bot]\npoll_interval = 2026-01-01\n", "found date"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_the_place_and_the_cure(tmp_path: Path, text: str, says: str) -> None:
    """No odd file is read as something else, and none ends in a traceback."""
    with pytest.raises(ConfigError) as raised:
        read_config(written(tmp_path, text), defaults())
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "a1a1" not in str(raised.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_an_error(data: bytes) -> None:
    """Whatever is in the file, it is read or refused."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"never-sleeps-config-{os.getpid()}.toml"
    path.write_bytes(data)
    with suppress(ConfigError):
        read_config(path)
    path.unlink()


def test_the_environment_stands_above_the_file_and_the_file_above_the_default(tmp_path: Path) -> None:
    """Of one setting in all three places the environment's counts, and `ns config` says so."""
    written(tmp_path, "[bot]\npoll_interval = 2\nrequest_limit = 7\n")
    by_name = {one.name: one for one in settings_of(tmp_path, {"BOT_POLL_INTERVAL": "3"})}
    assert (by_name["BOT_POLL_INTERVAL"].value, by_name["BOT_POLL_INTERVAL"].source) == ("3", "environment")
    assert (by_name["BOT_REQUEST_LIMIT"].value, by_name["BOT_REQUEST_LIMIT"].source) == ("7", "file")
    assert by_name["BOT_VENUE"].source == "default"
    assert with_file(tmp_path, {"BOT_POLL_INTERVAL": "3"}) == {"BOT_POLL_INTERVAL": "3", "BOT_REQUEST_LIMIT": "7"}


def test_what_the_running_system_has_otherwise_is_named() -> None:
    """A setting that the last run was given otherwise, or not at all, is a difference; an equal one is none."""
    settings = merged(
        {"BOT_A": "1", "BOT_B": "1", "BOT_C": "1"}, {"BOT_A": "2", "BOT_B": "2"}, {}, {"BOT_A": "2", "BOT_C": "3"}
    )
    assert {one.name: one.running for one in settings if one.running != one.value} == {"BOT_B": "1", "BOT_C": "3"}


def test_the_page_and_the_exchange_are_where_they_were_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ns open` in another shell finds the port that `make run` was given; what this shell says comes first."""
    place = Place("process", tmp_path, tmp_path, {})
    (tmp_path / ".run").mkdir()
    (tmp_path / ".run" / "settings.env").write_text("PANEL_PORT=18090\nPANEL_HOST=127.0.0.1\nPAPER_PORT=18700\n")
    for name in ("PANEL_PORT", "PANEL_HOST", "PAPER_PORT", "BOT_PAPER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert panel_url(place) == "http://127.0.0.1:18090"
    assert paper_url(place).endswith(":18700")
    monkeypatch.setenv("PANEL_PORT", "18091")
    assert panel_url(place) == "http://127.0.0.1:18091"


@pytest.mark.parametrize("python", ["", "python3"])
def test_scripts_read_the_same_file(tmp_path: Path, python: str) -> None:
    """bin/with-config gives a command what the file sets, in the set-up environment and by the standard library alone."""
    checkout = tmp_path / "checkout with a space"
    for name in ("bin/with-config", "cli/config.py"):
        place = checkout / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / name).read_bytes())
        place.chmod(0o755)
    (checkout / "cli" / "__init__.py").touch()
    written(checkout, "[bot]\npoll_interval = 2\n")
    command = [str(checkout / "bin" / "with-config"), "sh", "-c", 'echo "$BOT_POLL_INTERVAL $BOT_VENUE"']
    plain = {"PATH": os.environ["PATH"], "BOT_VENUE": "paper"}
    given_ = {**plain, "PYTHON": python} if python else plain
    done = subprocess.run(command, env=given_, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "2 paper\n"
    written(checkout, "[bot\n")
    done = subprocess.run(command, env=given_, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "expected TOML" in done.stderr
