"""The task that tells people: it looks at the bus every second, makes notices into messages, and sends them to each target.

Nothing waits for it. A sending is in a thread of its own with a limit in time; a target that does not answer is tried later and
later, and keeps no other target back. What it holds is bounded. Where it fails itself, the panel goes on without it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import BaseModel

from bus import Bus, Clock, Log
from panel.errors import NotifyOffError
from panel.notify.messages import Message, due, keep
from panel.notify.notices import Memory, Notice, begin, look
from panel.notify.outbox import BACK_OFF_S, Outbox, Queue, load_outbox, save_outbox
from panel.notify.reading import read
from panel.notify.settings import NotifySettings
from panel.notify.targets import Answer, Target, send

LOOK_EVERY_S = 1.0
SEND_LIMIT_S = 20.0
TEST_LIMIT_S = 8.0
CLOSE_LIMIT_S = 0.7
SENDING_SPACING_S = 1.0
RESULTS = ("sent", "failed", "dropped")
Sending = Callable[[Target, Message], Answer]


class TargetView(BaseModel):
    """One target. state: untried, sent or failing; text: its newest answer, in words; time_ms: when (UTC). waiting: messages."""

    name: str
    state: Literal["untried", "sent", "failing"]
    text: str = ""
    time_ms: int | None = None
    waiting: int = 0


class NotifyView(BaseModel):
    """What the page shows. on: there are targets. waiting: notices of which no message was made yet. problem: what is wrong."""

    on: bool
    targets: tuple[TargetView, ...] = ()
    kinds: tuple[str, ...] = ()
    quiet: str = ""
    waiting: int = 0
    problem: str | None = None


class Told(BaseModel):
    """What one target answered to a test. ms: how long that took."""

    name: str
    sent: bool
    text: str
    ms: int


class Tested(BaseModel):
    """What came of a test. sent: every target took it."""

    sent: bool
    targets: tuple[Told, ...]


class NotifyMetrics:
    """Of notifications; they are exported whether there are targets or not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.results = Counter(
            "panel_notifications",
            "Messages to a target: sent, failed attempts, dropped.",
            ["result"],
            registry=registry,
        )
        for result in RESULTS:
            self.results.labels(result)
        self.targets = Gauge("panel_notify_targets", "Targets that are told (PANEL_NOTIFY_FILE).", registry=registry)
        self.failing = Gauge(
            "panel_notify_failing",
            "Targets whose newest sending failed, and 1 more while the task fails.",
            registry=registry,
        )


@dataclass(slots=True)
class _State:
    """One target while the process lives."""

    target: Target
    view: TargetView
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    late: tuple[Message, asyncio.Future[Answer]] | None = None
    """What is being sent. It stays here when it ran into its limit, and may come to its end yet."""
    testing: asyncio.Future[Answer] | None = None
    """The same of a test."""


class Notifier:
    """Tells people. `run` is its task; everything else may be asked at any time, by the event loop.

    file: where the outbox is kept. sending: how one message gets to one target.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        log: Log,
        settings: NotifySettings,
        targets: Sequence[Target],
        file: Path,
        metrics: NotifyMetrics,
        sending: Sending = send,
    ) -> None:
        self._bus, self._clock, self._log, self._settings, self._file = bus, clock, log, settings, file
        self._kinds, self._quiet = settings.kinds, settings.quiet
        self._metrics, self._sending = metrics, sending
        self._states = {target.key: _State(target, TargetView(name=target.name, state="untried")) for target in targets}
        self._outbox, self._saved, self._saving = Outbox(), Outbox(), asyncio.Lock()
        self._problem: str | None = None
        self._since_ms = clock.wall_ms()
        metrics.targets.set(len(self._states))

    def view(self) -> NotifyView:
        """How it goes."""
        return NotifyView(
            on=bool(self._states),
            targets=tuple(
                state.view.model_copy(update={"waiting": len(self._outbox.queues.get(key, Queue()).messages)})
                for key, state in self._states.items()
            ),
            kinds=tuple(kind for kind in self._kinds) if self._states else (),
            quiet=self._settings.notify_quiet,
            waiting=len(self._outbox.waiting),
            problem=self._problem,
        )

    async def test(self) -> Tested:
        """Send a test to every target at once, whatever the time of day. Raises NotifyOffError: there is none."""
        if not self._states:
            raise NotifyOffError
        told = await asyncio.gather(*(self._test(state) for state in self._states.values()))
        return Tested(sent=all(one.sent for one in told), targets=tuple(told))

    async def run(self) -> None:
        """Look and send until cancelled. Without targets it does nothing."""
        if not self._states:
            await asyncio.Event().wait()
        self._outbox = self._saved = (await asyncio.to_thread(load_outbox, self._file)).of_targets(self._states)
        senders = [asyncio.create_task(self._deliver(state), name="notify") for state in self._states.values()]
        try:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for task in senders:
                task.cancel()
            await self._close()

    async def _close(self) -> None:
        """Wait a moment for what is being sent, so that the next start does not repeat it, and keep the rest."""
        late = [(state.target.key, *state.late) for state in self._states.values() if state.late is not None]
        if late:
            await asyncio.wait([sending for _, _, sending in late], timeout=CLOSE_LIMIT_S)
        for key, message, sending in late:
            if sending.done() and sending.result().sent:
                self._set_queue(key, self._queue(key).sent(message))
        with suppress(OSError):  # what was kept last is a second old
            save_outbox(self._file, self._outbox)

    async def _look(self) -> None:
        """One look; what goes wrong is said once, and tried again at the next."""
        try:
            now_ms = self._clock.wall_ms()
            before = self._outbox
            known, notices = await asyncio.to_thread(self._read, before, now_ms)
            waiting, dropped = keep(self._outbox.waiting, notices)
            dropped += self._outbox.dropped
            messages, waiting = due(
                waiting,
                now_ms=now_ms,
                last_ms=self._outbox.last_ms,
                quiet=self._quiet,
                dropped=dropped,
                venue=known.venue,
            )
            longer = self._outbox.with_messages(messages)
            lost = sum(queue.dropped - self._queue(key).dropped for key, queue in longer.queues.items())
            self._metrics.results.labels("dropped").inc(lost)
            self._outbox = longer.model_copy(
                update={
                    "memory": known,
                    "waiting": waiting,
                    "dropped": 0 if messages else dropped,
                    "last_ms": now_ms if messages else self._outbox.last_ms,
                }
            )
            if messages:
                for state in self._states.values():
                    state.wake.set()
            await self._save()
            self._note_problem(None)
        except Exception as error:  # noqa: BLE001  whatever it is: the page and its buttons do not depend on this task
            self._note_problem(f"{type(error).__name__}: {error}")

    def _read(self, outbox: Outbox, now_ms: int) -> tuple[Memory, tuple[Notice, ...]]:
        if outbox.memory is None:
            return begin(read(self._bus, Memory(), now_ms=now_ms, since_ms=self._since_ms)), ()
        seen = read(self._bus, outbox.memory, now_ms=now_ms, since_ms=self._since_ms)
        return look(outbox.memory, seen, self._kinds)

    def _note_problem(self, problem: str | None) -> None:
        if problem != self._problem:
            if problem is not None:
                self._log.error("notify_failed", reason=problem)
            self._problem = problem
        self._count_failing()

    def _count_failing(self) -> None:
        failing = sum(state.view.state == "failing" for state in self._states.values())
        self._metrics.failing.set(failing + (self._problem is not None))

    async def _deliver(self, state: _State) -> None:
        """Send what the target's queue has, one after the other; later and later while that fails."""
        key = state.target.key
        while True:
            queue = self._queue(key)
            fresh = queue.without_old(self._clock.wall_ms())
            self._set_queue(key, fresh, dropped=fresh.dropped - queue.dropped)
            message = fresh.first
            if message is None:
                state.wake.clear()
                await state.wake.wait()
                continue
            answer = await self._send(state, message)
            if answer.sent:
                state.failures = 0
                self._set_queue(key, self._queue(key).sent(message))
                with suppress(OSError):  # at once, lest a kill repeats it; where it fails the next look says so
                    await self._save()
                await asyncio.sleep(SENDING_SPACING_S)
                continue
            state.failures += 1
            await asyncio.sleep(BACK_OFF_S[min(state.failures, len(BACK_OFF_S)) - 1])

    async def _save(self) -> None:
        """Keep what changed. Raises OSError."""
        async with self._saving:  # two at once could leave the older one
            kept = self._outbox
            if kept != self._saved:
                await asyncio.to_thread(save_outbox, self._file, kept)
                self._saved = kept

    def _queue(self, key: str) -> Queue:
        return self._outbox.queues.get(key, Queue())

    def _set_queue(self, key: str, queue: Queue, dropped: int = 0) -> None:
        self._outbox = self._outbox.with_queue(key, queue)
        self._metrics.results.labels("dropped").inc(dropped)

    async def _send(self, state: _State, message: Message) -> Answer:
        """One sending of a message. One that did not come to its end before is waited for first: it may have been sent."""
        if state.late is None:
            state.late = message, self._in_thread(state.target, message)
        was, sending = state.late
        answer = await _answer(sending, SEND_LIMIT_S)
        if answer is None:
            answer = Answer(False, f"it did not answer in {SEND_LIMIT_S:g} s")
        else:
            state.late = None
            if not was.is_same(message):  # given up meanwhile
                return await self._send(state, message)
        self._note_answer(state, answer)
        return answer

    async def _test(self, state: _State) -> Told:
        began = time.monotonic()
        if state.testing is None or state.testing.done():  # one at a time: a target that hangs takes no further thread
            state.testing = self._in_thread(state.target, make_test(self._clock.wall_ms()))
        answer = await _answer(state.testing, TEST_LIMIT_S) or Answer(False, f"it did not answer in {TEST_LIMIT_S:g} s")
        self._note_answer(state, answer)
        ms = round((time.monotonic() - began) * 1000)
        return Told(name=state.target.name, sent=answer.sent, text=answer.text, ms=ms)

    def _note_answer(self, state: _State, answer: Answer) -> None:
        was_failing = state.view.state == "failing"
        state.view = TargetView(
            name=state.target.name,
            state="sent" if answer.sent else "failing",
            text=answer.text,
            time_ms=self._clock.wall_ms(),
        )
        self._metrics.results.labels("sent" if answer.sent else "failed").inc()
        self._count_failing()
        if not answer.sent and not was_failing:
            self._log.warning("notification_not_sent", target=state.target.name, reason=answer.text)
        elif answer.sent and was_failing:
            self._log.info("notification_sent_again", target=state.target.name)

    def _in_thread(self, target: Target, message: Message) -> asyncio.Future[Answer]:
        """In a thread that keeps nobody from ending: one that hangs ends with the process."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not done.done():
                done.set_result(answer)

        def work() -> None:
            answer = self._sending(target, message)
            with suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(settle, answer)

        threading.Thread(target=work, name=f"notify-{target.number}", daemon=True).start()
        return done


async def _answer(sending: asyncio.Future[Answer], limit_s: float) -> Answer | None:
    """The answer, or None where there was none in time; then the sending goes on."""
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(sending)
    except TimeoutError:
        return None


def make_test(now_ms: int) -> Message:
    """What a test sends."""
    return Message(
        title="Never Sleeps: a test", body="Notifications of Never Sleeps reach you here.", level="info", time_ms=now_ms
    )
