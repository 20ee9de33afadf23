"""A secret ends in no text that leaves a process, however it is spelt or wherever a person put it; nor in a core dump."""

from __future__ import annotations

import base64
import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from bot.settings import BotSettings, read_key
from bus import Logging, SettingsError, load_settings
from bus.logs import star_suspects
from panel.server import PanelSettings

DIGITS = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
KEY = f"0x{DIGITS}"
API_SECRET = base64.urlsafe_b64encode(bytes(range(200, 232))).decode()
RAW = bytes.fromhex(DIGITS)
SPELLINGS = {
    "as it is": KEY,
    "without 0x": DIGITS,
    "in capitals": DIGITS.upper(),
    "mixed": f"0X{DIGITS[:32].upper()}{DIGITS[32:]}",
    "a number": str(int(DIGITS, 16)),
    "bytes": repr(RAW),
    "a list": str(list(RAW)),
    "base 64": base64.b64encode(RAW).decode(),
    "base 64 for URLs": base64.urlsafe_b64encode(RAW).decode().rstrip("="),
    "its text in base 64": base64.b64encode(KEY.encode()).decode(),
    "an API secret": API_SECRET,
    "an API secret in plain base 64": API_SECRET.replace("-", "+").replace("_", "/"),
    "an API secret without its end": API_SECRET.rstrip("="),
    "an API secret in a URL": quote(API_SECRET, safe=""),
    "an API secret's bytes": bytes(range(200, 232)).hex(),
    "byte by byte": RAW.hex(":").upper(),
    "a list of hex": str([hex(byte) for byte in RAW]),
    "escaped bytes": "".join(f"\\x{byte:02x}" for byte in RAW),
    "all in percents": "".join(f"%{ord(letter):02X}" for letter in KEY),
    "all in escapes": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "in groups": "-".join(DIGITS[at : at + 4] for at in range(0, 64, 4)),
    "over two lines": f"{DIGITS[:32]}\n{DIGITS[32:]}",
    "over two literals": f"'{DIGITS[:21]}'\n    '{DIGITS[21:]}'",
    "within a header": base64.b64encode(f"user:{DIGITS}".encode()).decode(),
    "base 64 over lines": base64.encodebytes(KEY.encode()).decode().strip(),
    "base 32": base64.b32encode(RAW).decode().rstrip("="),
    "with commas": f"{int(DIGITS, 16):,}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_starred_in_any_spelling(tmp_path: Path, spelling: str) -> None:
    """In a field, in a structure, in a library's message and in an exception."""
    said = SPELLINGS[spelling]
    with (tmp_path / "log").open("w+b") as file:
        logs = Logging(file.fileno())
        logs.hide(KEY)
        logs.hide(API_SECRET)
        logs.log.info("it", value=said, deep=[{"of": f"<{said}>"}])
        logging.getLogger("library").warning("signing with %s", said)
        try:
            raise ValueError(f"bad key {said}")
        except ValueError:
            logs.log.error("failed", exc_info=True)
        logs.log.info("other", tx="0x" + "ab" * 32)
        logs.close()
        text = (tmp_path / "log").read_text()
    inner = json.dumps(said)[1:-1].strip("b'[]")
    assert inner not in text
    assert said.strip("[]") not in text
    assert text.count("***") >= 4
    assert "0x" + "ab" * 32 in text, "what is no secret stays"


PLACES = (
    "BOT_WALLET",
    "BOT_PAPER_URL",
    "BOT_ASSETS",
    "BOT_CLOB_URL",
    "BOT_POLL_INTERVAL",
    "BOT_VENUE",
    "BOT_TIMEFRAMES",
)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("said", [KEY, DIGITS, f"key={KEY},{KEY}", API_SECRET], ids=["key", "bare", "two", "secret"])
def test_a_key_where_another_setting_belongs_is_in_no_error(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """The error says which setting and what was expected, and shows stars."""
    monkeypatch.setenv(name, said)
    with pytest.raises(SettingsError) as refused:
        load_settings(BotSettings)
    assert name in str(refused.value)
    for part in (DIGITS[:16], DIGITS[-16:], API_SECRET[:16]):
        assert part not in str(refused.value)


def test_a_key_where_its_file_belongs_is_in_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BOT_KEY_FILE and PANEL_TOKEN_FILE name files; people paste what is in them."""
    monkeypatch.setenv("BOT_KEY_FILE", KEY)
    with pytest.raises(SettingsError) as refused:
        read_key(load_settings(BotSettings), tmp_path)
    assert DIGITS not in str(refused.value)
    monkeypatch.setenv("PANEL_HOST", API_SECRET)
    with pytest.raises(SettingsError) as refused:
        load_settings(PanelSettings)
    assert API_SECRET[:20] not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ana:pa55word@host/x", "https://***@host/x"),
        (
            "found 'https://hooks.host/services/T0/aB3dE6gH9jK2mN5pQ8sT1vW4'",
            "found 'https://hooks.host/services/T0/***'",
        ),
        ("tgram://123456789:aB3dE6gH9jK2mN5pQ8sT1vW4/77", "tgram://123456789:***/77"),
        ("http://never-sleeps-paper-1.local:8700/events", "http://never-sleeps-paper-1.local:8700/events"),
        (" ".join(["abandon"] * 12), "***"),
        ("0x" + "1" * 40, "0x" + "1" * 40),
        ("c943cf6" + "0" * 33, "c943cf6" + "0" * 33),
        ("expected the wallet's address, 0x and 40 hex digits", "expected the wallet's address, 0x and 40 hex digits"),
    ],
)
def test_addresses_commits_and_sentences_stay(text: str, shown: str) -> None:
    """Only what looks like a secret goes."""
    assert star_suspects(text) == shown


@pytest.mark.parametrize("program", ["bot", "panel", "deployer"])
def test_no_process_leaves_a_core_dump(program: str) -> None:
    """Keys and tokens are in memory; the limit holds for what it starts, too."""
    code = (
        f"import resource, runpy, sys; sys.argv = ['{program}', '--help']\n"
        f"try: runpy.run_module('{program}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def allow_cores() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=allow_cores,
        env=dict(os.environ),
    )
    assert done.stdout.splitlines()[-1] == "(0, 0)", done.stderr
