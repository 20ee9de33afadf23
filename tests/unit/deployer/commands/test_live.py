"""`./ns status --watch`, for those who are no terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from bus import SystemClock, open_bus
from deployer.commands.status import watch


class Ended(Exception):  # noqa: N818  # as KeyboardInterrupt: somebody has seen enough
    """So many looks were made."""


def limit_looks(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """End the watch after so many looks."""
    left = iter(range(looks - 1))

    def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise Ended

    monkeypatch.setattr(time, "sleep", sleep)


def test_what_is_no_terminal_gets_a_line_when_somebody_else_trades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five looks at the same trader are one line: it is shown by `make run` in containers, and stays in a log."""
    limit_looks(monkeypatch, 5)
    with pytest.raises(Ended):
        watch(open_bus(tmp_path), tmp_path, SystemClock(), as_json=False, console=Console(force_terminal=False))
    assert capsys.readouterr().out == "nobody trades yet\n"


def test_json_is_one_document_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line by itself is JSON, whoever trades."""
    limit_looks(monkeypatch, 3)
    with pytest.raises(Ended):
        watch(open_bus(tmp_path), tmp_path, SystemClock(), as_json=True, console=Console(force_terminal=False))
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3
