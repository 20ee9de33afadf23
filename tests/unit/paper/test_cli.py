"""The command as a process: bad calls, ports, signals, restarts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paper.engine.faults import KINDS
from paper.settings import Settings
from tests import forked
from tests.forked import Forked, listening
from tests.plain import plain_environment

LIMIT_S = 30  # of every wait: a busy machine is slow


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return forked.run(["paper", *arguments], environment=os.environ | (env or {}), limit_s=2 * LIMIT_S)


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[tuple[Forked, dict[str, Any]]]:
    with tempfile.NamedTemporaryFile(prefix="paper-", suffix=".log") as made:
        log = Path(made.name)
        command = ["paper", "--port", "0", "--data", str(data), *arguments]
        process = Forked(command, environment={**plain_environment(), **os.environ}, stdout=log, stderr=log)
        try:
            yield process, listening(process, log)
        finally:
            process.kill()
            process.wait(LIMIT_S)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--timeframes", "5m,7w"], "--timeframes (or PAPER_TIMEFRAMES): a timeframe is a number and s, m or h"),
        (["--port", "99999"], "--port (or PAPER_PORT)"),
        (["--start-balance", "much"], "expected a decimal number"),
        (["--tape", "nowhere.csv@BTC"], "nowhere.csv: cannot be read"),
        (["--tape", "ltc-2018.csv"], "asset 'LTC' is unknown; write FILE@ASSET"),
        (["--data", "/proc/paper"], "data folder /proc/paper cannot be used"),
        (["record", "--data", "/nowhere"], "/nowhere/paper.db does not exist"),
        (["--faults", "error,gremlins"], "unknown kind of fault 'gremlins'; kinds are lost_before"),
    ],
)
def test_bad_calls_end_with_one_line(arguments: list[str], found: str) -> None:
    """A mistake of the caller gives one line that says what to do, no traceback, and exit code 2."""
    done = run(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert found in done.stderr


def test_bad_row_of_a_tape_is_named(tmp_path: Path) -> None:
    """A bad row ends the start with the file, the line and the fault."""
    tape = tmp_path / "btc.csv"
    tape.write_text("time,open,high,low,close,volume\n2018-04-04T00:00:00Z,1,0.5,1,1,1\n")
    for words in (("check",), ("serve",)):
        assert not (tmp_path / "data").exists()
        done = run(*words, "--data", str(tmp_path / "data"), "--tape", str(tape))
        assert done.returncode == 2
        assert f"tape {tape}, line 2: expected 0 < low <= open" in done.stderr


def test_busy_port_and_busy_folder_are_refused(tmp_path: Path) -> None:
    """A port or a data folder that another uses is refused in one line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]), "--data", str(tmp_path / "a"))
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    with serving(tmp_path / "b"):
        done = run("--port", "0", "--data", str(tmp_path / "b"))
    assert done.returncode == 2
    assert "in use by another exchange" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with code 0."""
    with serving(tmp_path) as (process, _):
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0


def test_restart_carries_on(tmp_path: Path) -> None:
    """A restarted exchange knows its markets, references and prices; another seed does not change what happened."""
    with serving(tmp_path, "--timeframes", "15m") as (_, first):
        slug = f"btc-updown-15m-{int(time.time()) // 900 * 900}"
        before = get(first["url"] + f"/events/slug/{slug}")
        lead = get(first["url"] + "/paper/state")["lead"]
    with serving(tmp_path, "--timeframes", "15m", "--seed", "2") as (_, second):
        after = get(second["url"] + f"/events/slug/{slug}")
        now = get(second["url"] + "/paper/state")["lead"]
    for event in (before, after):
        assert event["eventMetadata"]["priceToBeat"] == before["eventMetadata"]["priceToBeat"]
        assert event["markets"][0]["clobTokenIds"] == before["markets"][0]["clobTokenIds"]
    assert all(now[asset] == pytest.approx(lead[asset], rel=0.02) for asset in lead)


def test_environment_gives_settings_and_the_command_line_wins(tmp_path: Path) -> None:
    """PAPER_* sets what the command line does not."""
    done = run(env={"PAPER_TIMEFRAMES": "x", "PAPER_DATA": str(tmp_path)})
    assert "a timeframe is a number" in done.stderr
    os.environ["PAPER_SEED"] = "77"
    try:
        with serving(tmp_path, "--timeframes", "10s,90s") as (_, said):
            state = get(said["url"] + "/paper/state")
    finally:
        del os.environ["PAPER_SEED"]
    assert (state["ready"], state["seed"], state["timeframes"]) == (True, 77, ["10s", "90s"])


def test_help_stands_by_itself() -> None:
    """--help names every setting, and the other commands; that of `fault` names every kind."""
    done = run("--help")
    assert done.returncode == 0
    assert [name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in done.stdout] == []
    assert "python -m paper fault" in " ".join(done.stdout.split())
    done = run("fault", "--help")
    assert (done.returncode, [kind for kind in KINDS if kind not in done.stdout]) == (0, [])


def test_running_exchange_is_shown_and_broken_from_the_command_line(tmp_path: Path) -> None:
    """`fault` arms, lists and clears what `show` then prints beside prices and books; mistakes get one line."""
    with serving(tmp_path, "--timeframes", "30s") as (_, said):
        to = ("--url", said["url"])
        assert json.loads(run("fault", "slow", "--seconds", "2", "--path", "/book", *to).stdout)["delay_s"] == 2
        assert [one["kind"] for one in json.loads(run("fault", "list", *to).stdout)] == ["slow"]
        shown = run("show", *to).stdout
        assert run("fault", "clear", *to).returncode == 0
        assert json.loads(run("fault", "list", *to).stdout) == []
        wrong = run("fault", "slow", "--count", "0", *to)
        with urllib.request.urlopen(said["url"] + "/paper", timeout=LIMIT_S) as answer:
            page = answer.read().decode()
        view = get(said["url"] + "/paper/view")
    assert "btc-updown-30s-" in shown
    assert "slow  /book" in shown
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "count: Input should be greater than or equal to 1" in wrong.stderr
    assert [part for part in view if f"s.{part}" not in page] == []  # the page shows every part of the view
    gone = run("show", *to)
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "no exchange answers" in gone.stderr
