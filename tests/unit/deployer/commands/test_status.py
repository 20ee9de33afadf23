"""What a command says of its request once the history tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bus import Instance, InstanceFile, Role, Step, SystemClock, append_step, new_id, open_bus
from deployer.commands.status import deploy_logs, deploy_logs_text, follow, history, history_text, status, status_text
from deployer.settings import DeployerSettings


@pytest.mark.parametrize("verdict", ["confirmed", "failed"])
def test_a_commit_that_is_being_deployed_already_is_followed_to_its_verdict(tmp_path: Path, verdict: str) -> None:
    """Whoever asks for what is under way is told what became of it, and not that all is well because somebody else asked."""
    said, bus = list[str](), open_bus(tmp_path / "bus")
    append_step(bus, Step(deploy="d", step="queued", time_ms=1, sha="a" * 40, request="another"))
    answer = Step(
        deploy="d",
        step="answered",
        time_ms=2,
        request="mine",
        text="it is being deployed already",
        data={"follows": True},
    )
    append_step(bus, answer)
    append_step(bus, Step(deploy="d", step=verdict, time_ms=3, text="so it came"))
    outcome = follow(bus, "mine", said.append)
    assert (outcome.good, outcome.text) == (verdict == "confirmed", "so it came")
    assert len(said) == 3


FORGED = "fine\ntrades    blue 1234567 in epoch 7"


def test_what_others_say_adds_no_line_to_what_people_read(tmp_path: Path) -> None:
    """A candidate's document, a comparison's words and a name that was given are a part of their line, and of no other."""
    bus, clock = open_bus(tmp_path / "bus"), SystemClock()
    said = Instance(
        id=new_id(clock, "green", "a" * 40), role=Role.WARMING, color="green", sha="a" * 40, unit=FORGED, why_not=FORGED
    )
    candidate = InstanceFile(bus, clock, said)
    candidate.write(said)
    append_step(bus, Step(deploy="d", step="queued", time_ms=1, sha="a" * 40, by=FORGED, text=FORGED))
    append_step(bus, Step(deploy="d", step="held", time_ms=2, data={"differences": [{"text": FORGED}]}))
    settings = DeployerSettings(repository=tmp_path, dir=tmp_path / "run")
    for shown in (
        status_text(status(bus, settings.dir)),
        history_text(history(bus)),
        deploy_logs_text(deploy_logs(settings, bus, "d", 10)),
    ):
        assert "fine" in shown
        assert not any(line.startswith("trades    blue") for line in shown.splitlines())
    candidate.close()


@pytest.mark.parametrize("forged", [{"sha": "--output=/x"}, {"sha": "../../x"}, {"data": {"unit": "../../planted"}}])
def test_a_forged_commit_or_unit_of_the_history_is_no_path(tmp_path: Path, forged: dict[str, object]) -> None:
    """Where bots have the deployer's account one can write there: the file that the name leads to is not shown."""
    bus, settings = open_bus(tmp_path / "bus"), DeployerSettings(repository=tmp_path, dir=tmp_path / "run")
    (settings.dir / "logs").mkdir(parents=True)
    (tmp_path / "planted.log").write_text("a secret\n")
    append_step(bus, Step(deploy="d", step="queued", time_ms=1, sha="a" * 40))
    with bus.deploys.open("a") as file:
        for step in ("queued", "started"):
            line = {"schema": "1.0", "deploy": "e" if "sha" in forged else "d", "step": step, "time_ms": 1, **forged}
            file.write(json.dumps(line) + "\n")
    assert deploy_logs(settings, bus, "d", 10)["units"] == {}
    assert [deploy["sha"] for deploy in history(bus)] == ["a" * 40]
