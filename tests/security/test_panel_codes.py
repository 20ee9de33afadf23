"""No token stands in a link, a log or a browser's history: a link carries a code that is worth a token once."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import SystemClock
from panel.__main__ import main
from panel.codes import LIFE_MS, codes_file, make_code, spend_code
from tests.unit.panel.running import RunningPanel, environment, running_panel


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[RunningPanel]:
    with running_panel(tmp_path) as running:
        yield running


def exchange(panel: RunningPanel, link: str, **more: str) -> tuple[int, dict[str, str]]:
    """What the page does with a link."""
    answer = panel.call("POST", "/api/exchange", {"code": link.partition("#code=")[2]}, token="", headers=more or None)
    return answer.status, answer.json


def test_a_code_is_worth_the_token_once(panel: RunningPanel) -> None:
    """The first exchange gets it, the second is told what to do."""
    link = panel.link()
    assert panel.token not in link
    assert exchange(panel, link) == (200, {"token": panel.token})
    status, said = exchange(panel, link)
    assert (status, "used before" in said["error"]) == (403, True)


def test_a_newer_code_ends_the_one_before_and_a_wrong_one_ends_none(panel: RunningPanel) -> None:
    """A stranger's guesses spend nothing."""
    old, new = panel.link(), panel.link()
    assert exchange(panel, old)[0] == 403
    for wrong in ("", "x", "#code=" + "x" * 32):
        assert exchange(panel, wrong)[0] == 403
    assert panel.call("POST", "/api/exchange", ["code"], token="").status == 403
    assert exchange(panel, new)[0] == 200


def test_a_code_lives_ten_minutes_whatever_becomes_of_the_clock(tmp_path: Path) -> None:
    """Neither later, nor before it was made."""
    file = tmp_path / "code"
    for later, worth in ((LIFE_MS + 1, False), (LIFE_MS, True), (0, True), (-1, False)):
        code = make_code(file, 1_000_000)
        assert spend_code(file, code, 1_000_000 + later) is worth


def test_another_page_or_a_flood_gets_no_token(panel: RunningPanel) -> None:
    """The guard's rules hold for it: own page, JSON, the strangers' rate."""
    link = panel.link()
    assert exchange(panel, link, Origin="http://elsewhere.example")[0] == 403
    assert exchange(panel, link, Host="elsewhere.example")[0] == 403
    assert exchange(panel, link, **{"Content-Type": "text/plain"})[0] == 415
    assert 429 in {exchange(panel, "#code=guess")[0] for _ in range(40)}


def test_neither_token_nor_code_stands_in_what_the_panel_says(panel: RunningPanel, tmp_path: Path) -> None:
    """Its log is a file here, as it is for `make run`; what is kept of a code is a hash, for its owner alone."""
    link = panel.link()
    assert exchange(panel, link)[0] == 200
    link = panel.link()
    said = "".join(path.read_text() for path in tmp_path.glob("panel-*.log"))
    kept = codes_file(Path(panel.listening["token_file"]))
    assert panel.token not in said
    assert "code=" not in said
    assert link.partition("#code=")[2] not in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "link" not in json.dumps(panel.listening)


def test_the_command_prints_a_link_that_works(
    panel: RunningPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m panel link`, for whoever may read the token file."""
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert main(["link", "--url", panel.listening["url"]]) == 0
    link = capsys.readouterr().out.strip()
    assert link.startswith(panel.listening["url"] + "/#code=")
    assert exchange(panel, link)[0] == 200


def test_a_code_that_is_a_link_elsewhere_is_not_read(tmp_path: Path) -> None:
    """The file is opened as everything else is."""
    elsewhere, file = tmp_path / "elsewhere", tmp_path / "code"
    code = make_code(elsewhere, SystemClock().wall_ms())
    file.symlink_to(elsewhere)
    with pytest.raises(OSError, match="link"):
        spend_code(file, code, SystemClock().wall_ms())
    assert spend_code(elsewhere, code, SystemClock().wall_ms())
