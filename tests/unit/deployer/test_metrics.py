"""What the deployer shows Prometheus: which bots there are under which place, deploys, gaps."""

from __future__ import annotations

import json
from pathlib import Path

from prometheus_client import CollectorRegistry

from bus import Instance, InstanceView, Role, Step
from deployer.deploys import fold
from deployer.metrics import Metrics, TargetsFile, read_gaps, targets
from deployer.rollout.observed import Policy
from ledger import Identity, Ledger


def bot(number: int, color: str, *, alive: bool = True, metrics: str = "0.0.0.0:9101") -> InstanceView:
    document = Instance(
        id=f"i{number}", role=Role.STANDBY, color=color, sha="a" * 40, unit=f"bot-{color}-{number}", metrics=metrics
    )
    return InstanceView(f"i{number}", alive, document, 1)


def test_fifty_deploys_need_four_places() -> None:
    """Whatever the number of deploys, a bot's place is one of a few: the series of Prometheus do not multiply."""
    before: dict[str, str] = {}
    seen_places = set()
    for deploy in range(50):
        old, new = ("blue", "green") if deploy % 2 else ("green", "blue")
        former = [bot(4 * deploy, old), bot(4 * deploy + 1, old)]
        for fleet in (
            former,
            [*former, bot(4 * deploy + 2, new)],
            [former[0], bot(4 * deploy + 2, new), bot(4 * deploy + 3, new)],
        ):
            made = targets(fleet, before)
            assert len({target.place for target in made}) == len(fleet)
            kept = {target.address: target.place for target in made}
            assert all(kept[address] == place for address, place in before.items() if address in kept)
            before = kept
            seen_places |= set(kept.values())
    assert seen_places == {"blue-1", "blue-2", "green-1", "green-2"}


def test_a_container_is_addressed_by_its_name_and_the_dead_are_left_out() -> None:
    """A bot that listens everywhere is scraped by its unit's name, never by an alias; a dead one is no target."""
    made = targets([bot(1, "blue"), bot(2, "green", alive=False), bot(3, "green", metrics="127.0.0.1:4711")], {})
    assert [(t.address, t.place) for t in made] == [("bot-blue-1:9101", "blue-1"), ("127.0.0.1:4711", "green-1")]


def test_a_new_deployer_goes_on_with_the_places_that_were_written(tmp_path: Path) -> None:
    """After a restart of the deployer nobody changes place; a spoiled file is written anew."""
    TargetsFile(tmp_path).write([bot(1, "blue"), bot(2, "blue")])
    made = TargetsFile(tmp_path).write([bot(2, "blue"), bot(3, "blue")])
    assert {t.address: t.place for t in made} == {"bot-blue-2:9101": "blue-2", "bot-blue-3:9101": "blue-1"}
    (tmp_path / "bots.json").write_text("{")
    assert TargetsFile(tmp_path).write([bot(2, "blue")])[0].place == "blue-1"
    written = json.loads((tmp_path / "bots.json").read_text())
    assert written == [{"targets": ["bot-blue-2:9101"], "labels": {"instance": "blue-1", "color": "blue"}}]


def test_gaps_tell_a_handover_from_a_death(tmp_path: Path) -> None:
    """A handover's gap is from release to take; a death's from the last claim; one across a reboot is not told."""
    with Ledger.hold(tmp_path / "ledger.db", Identity("paper", "137", "0x")) as ledger:

        def take(boot_ms: int, boot_id: str = "b") -> int:
            return ledger.take(
                instance="i",
                sha="a",
                color="blue",
                request="",
                wall_ms=1_000 + boot_ms,
                boot_ms=boot_ms,
                boot_id=boot_id,
            )

        epoch = take(100)
        ledger.claim(1, epoch, 200)
        ledger.release(epoch, request="r", reason="handover", wall_ms=0, boot_ms=300)
        epoch = take(320)
        ledger.claim(2, epoch, 400)
        take(2_400)
        take(50, "other")
        found = [(gap.epoch, gap.kind, gap.seconds) for gap in read_gaps(ledger, 0)]
        assert found == [(2, "handover", 0.02), (3, "death", 2.0)]
        assert [gap.epoch for gap in read_gaps(ledger, 2)] == [3]


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_deploys_are_counted_by_result_and_their_steps_timed() -> None:
    """Each step is timed from the one before; the result is counted from 0, and its time survives a restart."""
    metrics = Metrics(Policy())
    assert value(metrics.registry, "deployer_deploys_total", result="failed") == 0
    times = {"queued": 1, "built": 3, "taken": 7, "confirmed": 8}
    steps = [Step(deploy="d", step=name, time_ms=1_000 * at, sha="a") for name, at in times.items()]
    history = fold(())
    for step in steps:
        metrics.note_step(step, history.find("d"))
        history = history.with_step(step)
    assert value(metrics.registry, "deployer_step_seconds_sum", step="taken") == 4
    assert value(metrics.registry, "deployer_deploy_to_trading_seconds_sum") == 6
    assert value(metrics.registry, "deployer_deploys_total", result="confirmed") == 1
    again = Metrics(Policy())
    again.begin(history)
    assert value(again.registry, "deployer_deploy_timestamp_seconds", result="confirmed") == 8
    assert value(again.registry, "deployer_deploys_total", result="confirmed") == 0
