"""A real panel that notifies a real server: what happens arrives, whoever dies in between, and the address is found nowhere."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus import SystemClock
from panel.__main__ import main
from tests.e2e.rig import until
from tests.security.planted import holds
from tests.unit.panel.notifying import Sink, World, sink
from tests.unit.panel.running import RunningPanel, environment, running_panel

SECRET = "S3cretPathOfATarget"


def targets(folder: Path, *addresses: str) -> Path:
    """The file of addresses."""
    file = folder / "targets"
    file.touch(mode=0o600)
    file.write_text("".join(f"{address}\n" for address in addresses))
    return file


def wall_ms() -> int:
    return SystemClock().wall_ms()


def began(folder: Path) -> None:
    """Wait until the panel's first look was kept: what happens from then on is news."""
    until("the first look", (folder / "run" / "token-notify.json").exists)


def waiting(folder: Path) -> list[int]:
    """How many messages each target's queue has, as it is kept."""
    kept = json.loads((folder / "run" / "token-notify.json").read_text())
    return sorted(len(queue["messages"]) for queue in kept["queues"].values())


@dataclass
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def ns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`python -m panel WORDS`, as `ns WORDS` calls it, with a file of addresses or without one."""

    def run(file: Path | None, *words: str) -> Said:
        with monkeypatch.context() as given:
            for name in [name for name in os.environ if name.startswith(("PANEL_", "BUS_"))]:
                given.delenv(name)
            for name, value in environment(tmp_path).items():
                given.setenv(name, value)
            if file is not None:
                given.setenv("PANEL_NOTIFY_FILE", str(file))
            code = main(words)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def shown(panel: RunningPanel) -> list[bytes]:
    """What the panel shows to those who ask."""
    paths = ("/api/notifications", "/api/status", "/api/writes", "/metrics", "/api/openapi.json")
    return [panel.call("GET", path).body for path in paths]


def test_what_happens_on_the_bus_reaches_a_target_and_a_dead_one_costs_nothing(tmp_path: Path) -> None:
    """Halt, deploy, death at once, each fill once in the message of its minute, through a kill and a stop of the panel."""
    world = World(tmp_path / "bus")
    with sink() as one:
        file = targets(tmp_path, f"json://127.0.0.1:9/{SECRET}dead", one.address(SECRET))
        settings = {"PANEL_NOTIFY_FILE": str(file), "PANEL_NOTIFY_QUIET": "00:00-23:59"}
        with running_panel(tmp_path, **settings) as panel:
            began(tmp_path)
            assert panel.post("halt", generation=1).status == 200
            assert "from 127.0.0.1; exits go on" in one.wait_for("Halted")
            until("a dead and a good target", lambda: states(panel) == ["failing", "sent"])
            answers = shown(panel)
            until("the sending is on record", lambda: waiting(tmp_path) == [0, 1])
            panel.process.send_signal(signal.SIGKILL)
            panel.process.wait(10)
        nobody = wall_ms()
        world.step("nobody-trades", nobody, text="no bot is healthy", data={"code": "not-healthy"})
        dead, fill = world.death(), world.fill(nobody - 70_000)
        deploy, sha = world.queued(nobody)
        world.step("confirmed", nobody, deploy=deploy, sha=sha, text="3 healthy polls; 0 polls missed")
        settings["PANEL_NOTIFY_QUIET"] = ""
        with running_panel(tmp_path, **settings) as panel:
            one.wait_for("no bot is healthy")
            one.wait_for(dead)
            one.wait_for(f"{sha[:7]} 'subject {sha[:7]}' by branch main: 3 healthy polls; 0 polls missed")
            one.wait_for(fill)
            answers += shown(panel)
        with running_panel(tmp_path, **settings) as panel:
            panel.post("resume", generation=panel.generation(), confirm=True)
            one.wait_for("Resumed")
            answers += shown(panel)
    world.close()
    everything = "\n".join(one.words)
    assert [everything.count(text) for text in ("Halted", dead, fill, "no bot is healthy", f"{sha[:7]} 'subject")] == [
        1
    ] * 5
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert [path.name for path in kept if holds(path.read_bytes(), SECRET)] == []
    assert not [answer for answer in answers if holds(answer, SECRET)]


def states(panel: RunningPanel) -> list[str]:
    """How the newest sending to each target went, as the page is told."""
    return [target["state"] for target in panel.call("GET", "/api/notifications").json["targets"]]


def test_a_test_says_what_each_target_answered(tmp_path: Path, ns: Callable[..., Said]) -> None:
    """The command and the page's button: exit 1 and no 200 for all where one did not take it; no address in any word."""
    with sink() as one, sink() as other:
        file = targets(tmp_path, one.address(SECRET), "# the second", other.address(SECRET))
        good = ns(file, "notify", "--test")
        assert (good.code, good.err) == (0, "")
        assert [line.split(": ")[0] for line in good.out.splitlines()] == ["json in line 1", "json in line 3"]
        other.status = 403
        half = ns(file, "notify", "--test", "--json")
        assert half.code == 1
        assert [target["sent"] for target in json.loads(half.out)["targets"]] == [True, False]
        with running_panel(tmp_path, PANEL_NOTIFY_FILE=str(file)) as panel:
            tested = panel.call("POST", "/api/notify-test", {})
            read = Path(f"{panel.listening['token_file']}-read").read_text().strip()
            assert panel.call("POST", "/api/notify-test", {}, token=read).status == 403
        assert tested.json["sent"] is False
        assert [target["text"] for target in tested.json["targets"]] == ["sent", "it answered with status 403"]
        assert _tests(one) == 3
    said = ns(file, "notify")
    assert "told of: deaths, deploys" in said.out
    for text in (good.out, half.out, half.err, tested.body.decode(), said.out):
        assert SECRET not in text


def _tests(one: Sink) -> int:
    return sum(word.startswith("Never Sleeps: a test") for word in one.words)


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, ns: Callable[..., Said]) -> None:
    """A file that others may read starts no panel and sends no test; without a file the command says what to set."""
    file = targets(tmp_path, f"json://127.0.0.1:9/{SECRET}")
    file.chmod(0o644)
    for words in ((), ("notify", "--test")):
        done = ns(file, *words)
        assert done.code == 2
        assert done.err == (
            f"panel: others may use the file {file} (PANEL_NOTIFY_FILE, mode 0644), and addresses are secrets: chmod 600 {file}\n"
        )
    none = ns(None, "notify")
    assert none.code == 2
    assert "docs/how-to/notifications.md" in none.err
