"""How processes read and write text: in any locale, with any text, and when nobody reads any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bus import Step, append_step, open_bus
from tests.forked import ROOT

SUBJECT = "faster \N{ROCKET} caf\u00e9 \ud800 end"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a command, on a bus with a deploy whose subject is odd."""
    bus = open_bus(tmp_path / "bus")
    append_step(bus, Step(deploy="1-abc", step="queued", time_ms=0, sha="a" * 40, text=SUBJECT.replace("\ud800", "")))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return {**clean, "BUS_DIR": str(bus.directory), "DEPLOYER_DIR": str(tmp_path / "run")}


def run(shell: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which $P is Python."""
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {shell}"],
        env={**environment, "P": sys.executable}, cwd=ROOT, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def latin1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale of ISO-8859-1, made from the machine's own sources."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is missing")
    made = folder / "de_DE.ISO-8859-1"
    subprocess.run(
        ["localedef", "--no-archive", "-i", "de_DE", "-f", "ISO-8859-1", str(made)], capture_output=True, check=False
    )
    if not made.exists():
        pytest.skip("the sources of locales are missing (Debian: locales)")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1"}


def test_an_emoji_is_printed_in_an_iso_8859_1_locale(environment: dict[str, str], latin1: dict[str, str]) -> None:
    """As UTF-8, and whatever is no text at all with a sign in its place; it ends no process."""
    told = run('"$P" -c "import locale; print(locale.getpreferredencoding(False))"', {**environment, **latin1})
    assert told.stdout.strip() == b"ISO-8859-1", "the locale is what the test needs"
    done = run('"$P" -m deployer history', {**environment, **latin1})
    assert done.returncode == 0, done.stderr.decode()
    assert "faster \N{ROCKET} caf\u00e9".encode() in done.stdout


def test_every_file_is_utf_8_in_an_iso_8859_1_locale(environment: dict[str, str], latin1: dict[str, str]) -> None:
    """Also those that name no encoding, in each program."""
    show = "import sys, locale; sys.exit(f'{sys.flags.utf8_mode} {locale.getpreferredencoding(False)} {sys.stdout.errors}')"
    for begin in ("bus.main", "paper.stdio"):
        done = run(f'"$P" -c "from {begin} import begin; begin(); {show}"', {**environment, **latin1})
        assert done.stderr.strip().lower() == b"1 utf-8 replace", done


def test_what_is_no_text_is_replaced(environment: dict[str, str]) -> None:
    """A lone surrogate, as file names of another encoding become, ends no process."""
    done = run("\"$P\" -c \"from bus.main import begin; begin(); print('a' + chr(0xd800) + 'b')\"", environment)
    assert (done.returncode, done.stdout) == (0, b"a?b\n"), done.stderr


COMMANDS = ("deployer history", "deployer --help", "bot --help", "panel --help", "paper --help")


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_reads_any_more(environment: dict[str, str], command: str) -> None:
    """A pipe whose reader is gone, or no standard output at all: silence, and exit code 0."""
    piped = run(f'{{ sleep 0.2; "$P" -u -m {command}; }} | true', environment)
    assert (piped.returncode, piped.stderr) == (0, b"")
    closed = run(f'"$P" -m {command} >&-', environment)
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_closed_stream_is_never_a_file_of_the_program(environment: dict[str, str]) -> None:
    """With standard output and error closed the bus's files get other numbers, so nothing that is printed goes into them."""
    done = run(
        '"$P" -c "import os; from bus.main import begin; begin(); os._exit(os.open(\'/dev/null\', 0))" <&- >&- 2>&-',
        environment,
    )
    assert done.returncode >= 3


ODD = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028)))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("begin", ["bus.main", "paper.stdio"])
def test_nothing_that_a_terminal_obeys_is_printed(environment: dict[str, str], begin: str, stream: str) -> None:
    """Titles, cursors, colours, eight-bit controls, reversed text: a terminal shows signs in their place."""
    odd = "\x1b]0;PWNED\x07\x1b[2J\x1b[31m\x9b2J\r" + ODD
    code = f"from {begin} import begin; begin(); from sys import {stream} as s; print({odd!r}, file=s); s.writelines([{odd!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    text = (done.stdout if stream == "stdout" else done.stderr).decode()
    assert "PWNED" in text
    assert not [letter for letter in text if letter in ODD and letter not in "\t\n"]


def test_what_ends_a_process_is_printed_as_text_too(environment: dict[str, str]) -> None:
    """A traceback whose error has an escape in it."""
    code = "from bus.main import begin; begin(); raise ValueError(chr(27) + ']0;PWNED' + chr(7))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert b"PWNED" in done.stderr
    assert not {b"\x1b", b"\x07"} & {bytes([byte]) for byte in done.stderr}


def test_what_is_printed_in_colours_is_text_too(environment: dict[str, str]) -> None:
    """A console's colours and its cursor are its own; a cleared screen, a title and a concealed word in a text are signs."""
    code = (
        "from bus.main import begin, console; begin(); from rich.live import Live; c = console(); "
        "t = chr(27) + '[2J' + chr(27) + '[8m' + chr(27) + ']0;T' + chr(7); "
        "e = t.replace('[', chr(92) + '['); c.print('[red]a[/red]' + e, highlight=False); "
        "c.print_json(data=[t]); Live('b' + e, console=c).start()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "TERM": "xterm", "FORCE_COLOR": "1"}, cwd=ROOT,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"\x1b[31ma\x1b[0m" in done.stdout, done
    assert b"\x1b[?25l" in done.stdout, "the live view hides the cursor"
    for sequence in (b"\x1b[2J", b"\x1b[8m", b"\x1b]0;T", b"\x07"):
        assert sequence not in done.stdout, done


@pytest.mark.parametrize("command", ["history", "logs 1-abc", "status"])
def test_a_commits_subject_reaches_no_terminal_as_it_is(
    tmp_path: Path, environment: dict[str, str], command: str
) -> None:
    """What people type shows the subject of a commit, of whose author nobody knows."""
    bus = open_bus(Path(environment["BUS_DIR"]))
    odd = "\x1b]0;PWNED\x07\x1b[2Jsneaky"
    append_step(bus, Step(deploy="2-def", step="queued", time_ms=1, sha="d" * 40, text=odd))
    done = run(f'"$P" -m deployer {command.replace("1-abc", "2-def")}', environment)
    assert not {0x1B, 0x07} & {*done.stdout, *done.stderr}
    assert command == "status" or b"sneaky" in done.stdout, done
