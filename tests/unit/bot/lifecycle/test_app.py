"""Bad input at the start of a bot: one line that says what to do, and exit code 2."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bot.cli import main
from bot.settings import BotSettings
from bus import load_settings, open_bus
from ledger import Identity, Ledger

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the cases name, in the current folder; a bus of its own and a venue that does not answer."""
    for name, text, mode in (
        ("open.key", "0x" + "11" * 32, 0o644),
        ("bad.key", "secret", 0o600),
        ("zero.key", "00" * 32, 0o600),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    for name in list(os.environ):
        if name.startswith(("BOT_", "BUS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BUS_DIR", "bus")
    monkeypatch.setenv("BOT_PAPER_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(capfd: pytest.CaptureFixture[str], words: str, *arguments: str) -> None:
    """The command ends with 2 and one line that holds the words."""
    assert main(list(arguments)) == 2
    told = capfd.readouterr()
    lines = told.err.strip().splitlines()
    assert len(lines) == 1, told.err
    assert lines[0].startswith("bot: ")
    assert words in lines[0]
    assert "Traceback" not in told.out
    assert "11" * 32 not in told.out + told.err


@pytest.mark.parametrize(
    "name", ["CLOB", "GAMMA", "RELAYER", "DATA", "BINANCE", "MARKET_WS", "USER_WS", "PRICES_WS", "BINANCE_WS"]
)
def test_live_takes_encrypted_addresses_alone(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Plain http or ws to another machine is refused on live before anything is sent; on paper, or to this machine, it is not."""
    scheme = "ws" if name.endswith("_WS") else "http"
    for host in ("clob.example", "127.0.0.1.example", "127.0.0.1@clob.example", "10.0.0.7:8700"):
        monkeypatch.setenv("BOT_VENUE", "live")
        monkeypatch.setenv(f"BOT_{name}_URL", f"{scheme}://{host}")
        assert_refused(capfd, f"expected a URL that begins with {scheme}s://")
        monkeypatch.setenv("BOT_VENUE", "paper")
        load_settings(BotSettings)
    monkeypatch.setenv("BOT_VENUE", "live")
    for address in (f"{scheme}s://clob.example", f"{scheme}://127.0.0.1:8700", f"{scheme}://[::1]:8700"):
        monkeypatch.setenv(f"BOT_{name}_URL", address)
        load_settings(BotSettings)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BOT_POLL_INTERVAL", "fast", "BOT_POLL_INTERVAL"),
        ("BOT_POLL_INTERVAL", "0", "BOT_POLL_INTERVAL"),
        ("BOT_POLL_INTERVAL", "nan", "BOT_POLL_INTERVAL"),
        ("BOT_ASSETS", "BTC,b1", "'b1'"),
        ("BOT_ASSETS", "", "at least one asset"),
        ("BOT_TIMEFRAMES", "5m,7", "'7'"),
        ("BOT_METRICS_PORT", "99999", "BOT_METRICS_PORT"),
        ("BOT_RESEND", "always", "BOT_RESEND"),
        ("BOT_PAPER_URL", "paper:8700", "BOT_PAPER_URL"),
        ("BOT_VENUE", "real", "BOT_VENUE"),
        ("BOT_VENUE", "live", "BOT_VENUE=live needs BOT_KEY_FILE"),
        ("BOT_CLOB_URL", "ws://127.0.0.1:1", "BOT_CLOB_URL"),
        ("BOT_USER_WS_URL", "http://127.0.0.1:1", "BOT_USER_WS_URL"),
        ("BOT_WALLET", "0x12", "BOT_WALLET"),
        ("BOT_WALLET", "0x" + "12" * 20, "do not agree"),
        ("BOT_SIGNATURE_TYPE", "3", "give its address"),
        ("BOT_SIGNATURE_TYPE", "4", "BOT_SIGNATURE_TYPE"),
        ("BOT_KEY_FILE", "none", "64 hex digits"),
        ("BOT_KEY_FILE", "open.key", "chmod 600"),
        ("BOT_KEY_FILE", "bad.key", "64 hex digits"),
        ("BOT_KEY_FILE", "zero.key", "no private key"),
        ("BUS_DIR", "open.key", "BUS_DIR"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    words: str,
) -> None:
    """The variable, what was found, what was expected; the key never shows."""
    monkeypatch.setenv(name, value)
    assert_refused(capfd, words)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "run `./ns credentials` once"),
        ("{}", 0o600, "move it away and run `./ns credentials` again"),
        (
            '{"key": "k", "secret": "s", "passphrase": "p", "address": "0x12"}',
            0o600,
            "belong to 0x12, the key is of 0x19E7E",
        ),
        ('{"key": "k", "secret": "s", "passphrase": "p", "address": "0x12"}', 0o644, "chmod 600"),
    ],
)
def test_live_refuses_to_start_without_its_own_stored_credentials(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    content: str | None,
    mode: int,
    words: str,
) -> None:
    """Missing, unreadable, of another key, open to others: one line, and nothing is asked of the venue."""
    (folder / "open.key").chmod(0o600)
    monkeypatch.setenv("BOT_VENUE", "live")
    monkeypatch.setenv("BOT_KEY_FILE", "open.key")
    if content is not None:
        (folder / "open.key.credentials").write_text(content)
        (folder / "open.key.credentials").chmod(mode)
    assert_refused(capfd, words)


def test_live_on_the_bus_of_paper_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A bus that paper traded on is never traded on with money."""
    (folder / "open.key").chmod(0o600)
    monkeypatch.setenv("BOT_VENUE", "live")
    monkeypatch.setenv("BOT_KEY_FILE", "open.key")
    address = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    (folder / "open.key.credentials").write_text(
        json.dumps({"key": "k", "secret": "s", "passphrase": "p", "address": address})
    )
    (folder / "open.key.credentials").chmod(0o600)
    Ledger.hold(open_bus(folder / "bus").ledger, Identity("paper", "137", address)).close()
    assert_refused(capfd, f"this ledger belongs to venue paper, chain 137, wallet {address}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to somebody else")
def test_a_key_of_somebody_else_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A key file that another user owns is not read as ours."""
    (folder / "open.key").chmod(0o600)
    monkeypatch.setenv("BOT_KEY_FILE", "open.key")
    os.chown(folder / "open.key", 4242, -1)
    assert_refused(capfd, f"expected 0600 or 0400 and owner {os.geteuid()}")


def test_a_busy_metrics_port_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another process listens there: the port is named."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        monkeypatch.setenv("BOT_METRICS_PORT", str(busy.getsockname()[1]))
        assert_refused(capfd, "choose another")


def test_the_ledger_of_another_wallet_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A bus belongs to one (venue, chain, wallet): both are named."""
    Ledger.hold(open_bus(folder / "bus").ledger, Identity("paper", "137", "0xSomebodyElse")).close()
    assert_refused(capfd, "this ledger belongs to venue paper, chain 137, wallet 0xSomebodyElse")


def test_a_damaged_ledger_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is no database is not written over."""
    path = open_bus(folder / "bus").ledger
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    before = path.read_bytes()
    assert_refused(capfd, "the ledger is damaged")
    assert path.read_bytes() == before


def test_an_audit_of_nothing_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No ledger, nothing to say."""
    assert_refused(capfd, "there is no ledger", "audit")


def test_a_real_process_ends_with_2_and_one_line(folder: Path) -> None:
    """What a user sees: no traceback, the exit code of bad input."""
    done = subprocess.run(
        [sys.executable, "-m", "bot"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BOT_VENUE": "live"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("bot: BOT_VENUE=live needs BOT_KEY_FILE")
    assert done.stderr.count("\n") == 1
