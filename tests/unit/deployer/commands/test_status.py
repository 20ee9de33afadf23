"""What a command says of its request once the history tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import Step, append_step, open_bus
from deployer.commands.status import follow


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
