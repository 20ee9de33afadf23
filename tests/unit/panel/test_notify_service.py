"""The task that sends: a target that is dead or hangs keeps nobody back, and a new start goes on where the last one ended."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bus import Logging, SystemClock
from panel.errors import NotifyOffError
from panel.notify import service
from panel.notify.messages import Message
from panel.notify.service import Notifier, NotifyMetrics
from panel.notify.settings import NotifySettings
from panel.notify.targets import Answer, Target
from tests import patience
from tests.unit.panel.notifying import World

GOOD, DEAD = Target(1, "json", "good", "json://good"), Target(2, "json", "dead", "json://dead")


class Rig:
    """A notifier on a bus, and what its targets were sent."""

    def __init__(self, folder: Path, answer: Callable[[Target], Answer]) -> None:
        self.world, self.folder = World(folder / "bus"), folder
        self.registry = CollectorRegistry()
        self.got: list[tuple[str, Message]] = []
        self._answer = answer
        self._tasks: list[asyncio.Task[None]] = []
        self.notifier: Notifier

    def start(self, *targets: Target) -> None:
        """A new start on what was kept."""
        self.registry = CollectorRegistry()
        self.notifier = Notifier(
            self.world.bus,
            SystemClock(),
            Logging(descriptor=2).log,
            NotifySettings(notify_kinds="halts,deploys,deaths"),
            targets,
            self.folder / "kept.json",
            NotifyMetrics(self.registry),
            self._send,
        )
        self._tasks.append(asyncio.create_task(self.notifier.run()))

    def _send(self, target: Target, message: Message) -> Answer:
        answer = self._answer(target)
        if answer.sent:
            self.got.append((target.key, message))
        return answer

    async def stop(self) -> None:
        """As the panel ends it."""
        task = self._tasks.pop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def number(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = patience.now() + 30
        while not what():
            assert patience.now() < deadline, [message.body for _, message in self.got]
            await asyncio.sleep(0.02)

    async def began(self) -> None:
        """The first look is over: what happens from now on is news."""
        await self.until(lambda: (self.folder / "kept.json").exists())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks, limits and back-offs in hundredths of a second."""
    monkeypatch.setattr(service, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(service, "SENDING_SPACING_S", 0.0)
    monkeypatch.setattr(service, "SEND_LIMIT_S", 0.2)
    monkeypatch.setattr(service, "TEST_LIMIT_S", 0.2)
    monkeypatch.setattr(service, "BACK_OFF_S", (0.05,))


def now() -> int:
    return SystemClock().wall_ms()


async def test_a_dead_target_costs_the_others_nothing_and_is_told_when_it_lives_again(tmp_path: Path) -> None:
    """The good one has it at once; the dead one is said to fail, and gets the same message later, once."""
    lives = threading.Event()
    rig = Rig(tmp_path, lambda target: Answer(target is GOOD or lives.is_set(), "x"))
    rig.start(GOOD, DEAD)
    await rig.began()
    who = rig.world.write("halt", now())
    await rig.until(lambda: [key for key, _ in rig.got] == ["good"])
    assert who in rig.got[0][1].body
    await rig.until(lambda: rig.number("panel_notifications_total", result="failed") > 2)
    assert rig.number("panel_notify_failing") == 1
    assert [target.state for target in rig.notifier.view().targets] == ["sent", "failing"]
    assert [target.waiting for target in rig.notifier.view().targets] == [0, 1]
    lives.set()
    await rig.until(lambda: len(rig.got) == 2)
    await rig.until(lambda: rig.number("panel_notify_failing") == 0)
    assert rig.got[0][1] == rig.got[1][1]
    await rig.stop()


async def test_a_target_that_hangs_takes_one_thread_and_its_late_answer_counts(tmp_path: Path) -> None:
    """No second sending begins while the first hangs; when it comes to its end after all, nothing is sent twice."""
    free, began = threading.Event(), []

    def answer(target: Target) -> Answer:
        if target is DEAD:
            began.append(target)
            free.wait(30)
        return Answer(True, "sent")

    rig = Rig(tmp_path, answer)
    rig.start(GOOD, DEAD)
    await rig.began()
    rig.world.write("halt", now())
    await rig.until(lambda: rig.number("panel_notifications_total", result="failed") >= 3)
    assert len(began) == 1
    assert [key for key, _ in rig.got] == ["good"]
    free.set()
    await rig.until(lambda: not rig.notifier.view().targets[1].waiting)
    assert sorted(key for key, _ in rig.got) == ["dead", "good"]
    await rig.stop()


async def test_a_new_start_neither_repeats_nor_loses(tmp_path: Path) -> None:
    """What happened while nobody looked is told, what was told before is not; a target that went away is forgotten."""
    rig = Rig(tmp_path, lambda target: Answer(target is GOOD, "x"))
    rig.start(GOOD, DEAD)
    await rig.began()
    first = rig.world.write("halt", now())
    await rig.until(lambda: len(rig.got) == 1)
    await rig.stop()
    second, old = rig.world.write("halt", now()), rig.world.write("halt", now() - 2 * 3_600_000)
    rig.start(GOOD)
    await rig.until(lambda: len(rig.got) > 1)
    await rig.stop()
    text = "\n".join(message.body for _, message in rig.got)
    assert (text.count(first), text.count(second), text.count(old)) == (1, 1, 0)
    assert "While nobody looked, 2.0 h: 1 halt" in text
    assert list(json.loads((tmp_path / "kept.json").read_text())["queues"]) == ["good"]
    assert (tmp_path / "kept.json").stat().st_mode & 0o077 == 0


async def test_kinds_that_were_not_asked_for_are_not_told(tmp_path: Path) -> None:
    """Nothing of them waits, and what was asked for comes."""
    rig = Rig(tmp_path, lambda _target: Answer(True, "sent"))
    rig.start(GOOD)
    await rig.began()
    rig.world.fill(now() - 120_000)
    rig.world.write("pause", now())
    dead = rig.world.death()
    await rig.until(lambda: len(rig.got) == 1)
    assert dead in rig.got[0][1].body
    assert rig.notifier.view().waiting == 0
    await rig.stop()


async def test_a_test_is_answered_by_each_target_within_its_limit(tmp_path: Path) -> None:
    """Whatever else hangs; without targets it says what to set."""
    free = threading.Event()

    def answer(target: Target) -> Answer:
        if target is DEAD:
            free.wait(30)
        return Answer(True, "sent")

    rig = Rig(tmp_path, answer)
    rig.start(GOOD, DEAD)
    began = time.monotonic()
    tested = await rig.notifier.test()
    assert time.monotonic() - began < 10
    assert (tested.sent, [one.sent for one in tested.targets]) == (False, [True, False])
    assert "did not answer" in tested.targets[1].text
    free.set()
    await rig.stop()
    rig.start()
    with pytest.raises(NotifyOffError, match="PANEL_NOTIFY_FILE"):
        await rig.notifier.test()
    assert not rig.notifier.view().on
    await rig.stop()


async def test_a_bus_that_cannot_be_read_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said while it lasts, counted as failing, and then told on."""
    rig = Rig(tmp_path, lambda _target: Answer(True, "sent"))
    rig.start(GOOD)
    await rig.began()

    def fails(*_: object, **__: object) -> None:
        raise ValueError("odd")

    with monkeypatch.context() as broken:
        broken.setattr(service, "look", fails)
        await rig.until(lambda: rig.notifier.view().problem == "ValueError: odd")
        assert rig.number("panel_notify_failing") == 1
        rig.world.write("halt", now())
    # The message may be sent before the look that made it is over.
    await rig.until(lambda: len(rig.got) == 1 and rig.notifier.view().problem is None)
    await rig.stop()
