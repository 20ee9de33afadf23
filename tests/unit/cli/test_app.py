"""`ns`: each word is carried out by the right part, as processes and in containers, with the same words."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cli import app as tree
from cli.place import Place, Runtime

ROOT = Path(__file__).parents[3]
WORDS = {
    *(
        "run",
        "stop",
        "status",
        "halt",
        "pause",
        "resume",
        "flatten",
        "set",
        "push",
        "deploy",
        "rollback",
        "approve",
        "cancel",
    ),
    *(
        "plan",
        "history",
        "logs",
        "explain",
        "audit",
        "trades",
        "export",
        "adopt",
        "settle",
        "replay",
        "record",
        "paper",
    ),
    *("open", "token", "config", "doctor", "completion", "version"),
    *(
        "calibrate",
        "compare",
        "credentials",
        "init",
        "new",
        "watch",
        "check",
        "backup",
        "restore",
        "move",
        "notify",
        "test-alert",
    ),
}
# What a person types, and what carries it out: a module with its arguments; in containers that of the service named first.
CARRIED_OUT = [
    ("halt", "panel: halt"),
    ("pause", "panel: pause"),
    ("pause --deploys --json", "deployer: pause --json"),
    ("resume --yes", "panel: resume --yes"),
    ("resume --deploys", "deployer: resume"),
    ("flatten", "panel: flatten"),
    ("flatten BTC-5m --json", "panel: flatten BTC-5m --json"),
    ("set risk.max_order=5 slot.BTC-5m=off", "panel: set -- risk.max_order=5 slot.BTC-5m=off"),
    ("deploy main --now", "deployer: deploy --now -- main"),
    ("deploy --no-wait --json abc", "deployer: deploy --no-wait --json -- abc"),
    ("rollback", "deployer: rollback"),
    ("rollback abc", "deployer: rollback -- abc"),
    ("approve", "deployer: approve"),
    ("cancel", "deployer: cancel"),
    ("plan --json", "deployer: plan --json"),
    ("history --json", "deployer: history --json"),
    ("logs abc --lines 5", "deployer: logs --lines=5 -- abc"),
    ("explain BTC-5m --json", "audit: explain BTC-5m --json"),
    (
        "explain BTC-5m --venue http://127.0.0.1:1 --logs a b",
        "audit: explain BTC-5m --venue http://127.0.0.1:1 --logs a b",
    ),
    ("audit --max-missed 0 --json", "audit: audit --json --max-missed=0"),
    ("audit --venue http://127.0.0.1:1", "audit: audit --venue=http://127.0.0.1:1"),
    ("trades --slot BTC-5m --last 3", "panel: rows fills --slot=BTC-5m --last=3"),
    ("export orders", "panel: rows orders --csv --last=0"),
    ("export orders --json", "panel: rows orders --json --last=0"),
    ("adopt --yes --note why", "audit: adopt --yes --note=why"),
    ("compare --last 10m --json", "audit: compare --last 10m --json"),
    ("backup /tmp/x.tar.gz", "deployer: backup /tmp/x.tar.gz"),
    ("new ~/trader", "deployer: new ~/trader"),
    ("notify --test --json", "panel: notify --test --json"),
    ("test-alert --severity look", "deployer: test-alert --severity look"),
    ("settle 0xab --as filled --note why --shares 3", "audit: settle --as=filled --note=why --shares=3 -- 0xab"),
]
ON_THE_HOST = [
    ("replay --tape x.csv@BTC", "bot replay --tape x.csv@BTC"),
    ("record --out tapes", "bot record --out tapes"),
    ("credentials --create", "bot credentials --create"),
    ("paper fault list", "paper fault list"),
    ("paper --help", "paper --help"),
]
Said = Callable[[str, Runtime], list[str]]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What a line of words is carried out by."""
    became: list[list[str]] = []

    def become(_place: Place, command: Sequence[str], **_more: str) -> int:
        became.append(list(command))
        return 0

    def of(line: str, runtime: Runtime) -> list[str]:
        monkeypatch.setattr(Place, "become", become)
        monkeypatch.setattr(tree, "_place", lambda: Place(runtime, ROOT, ROOT, {}))
        monkeypatch.setattr(sys, "argv", ["ns", *shlex.split(line)])
        became.clear()
        assert tree.main() == 0
        return became[0]

    return of


@pytest.mark.parametrize(("line", "by"), CARRIED_OUT)
def test_a_word_is_carried_out_by_its_part_in_both_runtimes(said: Said, line: str, by: str) -> None:
    """As processes it is that part's module; in containers its service; inside of one the module again."""
    service, _, arguments = by.partition(": ")
    module = {"audit": "bot"}.get(service, service)
    as_module = [sys.executable, "-m", module, *shlex.split(arguments)]
    assert said(line, "process") == as_module
    assert said(line, "inside") == as_module
    assert said(line, "docker") == [str(ROOT / "bin" / "compose"), "inside", service, *shlex.split(arguments)]


@pytest.mark.parametrize(
    "line", ["audit --venue paper", "explain BTC-5m --venue paper", "explain BTC-5m --venue=paper"]
)
def test_the_word_paper_is_the_local_exchange_in_both_runtimes(
    said: Said, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """As processes it is where `run` starts it, in containers the service of that name."""
    monkeypatch.setenv("PAPER_PORT", "8755")
    assert "http://127.0.0.1:8755" in " ".join(said(line, "process"))
    assert "http://paper:8700" in " ".join(said(line, "docker"))


@pytest.mark.parametrize(("line", "by"), ON_THE_HOST)
def test_what_needs_no_bus_runs_on_the_host_in_both_runtimes(said: Said, line: str, by: str) -> None:
    """Research and the exchange by itself have options of their own, which are passed on."""
    for runtime in ("process", "docker"):
        assert said(line, runtime) == [sys.executable, "-m", *shlex.split(by)]


def test_there_is_each_word_and_each_says_what_it_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help names every word once, with a first sentence that is not cut; docs/reference/commands.md has them all."""
    monkeypatch.setattr(sys, "argv", ["ns", "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    assert tree.main() == 0
    lines = capsys.readouterr().out.split("Commands:")[1].strip().splitlines()
    assert {line.split()[0] for line in lines} == WORDS
    assert not [line for line in lines if line.endswith("...")]
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert not [word for word in WORDS if f"`ns {word}" not in page]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frob", "No such command 'frob'"),
        ("set", "Missing argument"),
        ("deploy", "Missing argument"),
        ("trades --last x", "should be a valid integer"),
        ("export frobs", "expected orders, fills or outcomes"),
        ("completion tcsh", "expected bash, zsh or fish"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    """Nobody sees a traceback for a mistake of theirs."""
    monkeypatch.setattr(sys, "argv", ["ns", *shlex.split(line)])
    assert tree.main() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    """The script asks ns itself for its words."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "completion", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "_NS_COMPLETE=complete_" in done.stdout


def test_bash_completes_words_by_that_script(tmp_path: Path) -> None:
    """What a person gets for `ns roll<TAB>` in a real bash."""
    command = tmp_path / "ns"
    command.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {shlex.quote(sys.executable)} -m cli "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(ns completion bash)"; COMP_WORDS=(ns roll); COMP_CWORD=1; _ns_completion ns; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "rollback"
