"""What others see of this instance: its document on the bus, the status while it is active, and the metrics."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bot.context import Context
from bot.lifecycle.active import Active
from bot.lifecycle.metrics import Metrics, MetricsSampler
from bot.lifecycle.polls import Poll, ShadowPoll
from bot.reasons import Reason, ReasonCode
from bus import InstanceFile, LedgerError, Role, write_status

PUBLISH_EVERY_S = 0.5
STATUS_EVERY_S = 1.0
STATUS_SPACING_S = 0.1


class Publisher:
    """Keeps the numbers that are published. active: the epoch of this instance, or None. waits_for_venue: the last poll was not
    healthy, and only for want of the venue's answers.

    A document that cannot be written is a warning and never more: trading does not depend on being seen.
    """

    def __init__(self, world: Context, file: InstanceFile, metrics: Metrics) -> None:
        self._world, self._file, self._metrics = world, file, metrics
        self._log = world.log
        self._dirty = asyncio.Event()
        self._polls = 0
        self._last_tick: int | None = None
        self._in_snipe = False
        self._good = self._bad = 0
        self._sent = self._refused = 0
        self._status_sequence = 0
        self._why_not: Reason | None = Reason(ReasonCode.STARTING, "no poll yet")
        self.waits_for_venue = False
        self.active: Active | None = None
        MetricsSampler(world, metrics, lambda: self.active is not None)

    @property
    def id(self) -> str:
        """The instance's id."""
        return self._file.document.id

    @property
    def role(self) -> Role:
        """The role that was published last."""
        return self._file.document.role

    @property
    def healthy(self) -> bool:
        """Whether the last poll, shadow or not, was healthy."""
        return self._why_not is None

    def changed(self) -> None:
        """Something that status shows changed: write it soon."""
        self._dirty.set()

    def note_taken(self, active: Active) -> None:
        """A new epoch began."""
        self.active = active
        self._good = self._bad = 0
        self._metrics.active.set(1)
        self._metrics.epoch.set(active.epoch)
        self.publish(Role.ACTIVE)

    def note_yielded(self) -> None:
        """The epoch is over."""
        if self.active is not None:
            self._note_sendings(self.active)
        self.active = None
        self._metrics.active.set(0)

    def note_shadow(self, done: ShadowPoll, tick: int) -> None:
        """A shadow poll was made at `tick`."""
        self._polls += 1
        self._last_tick = tick
        self._in_snipe = any(e.decision.in_snipe for e in done.evaluations)
        self.waits_for_venue = done.waits_for_venue
        self._note_health(done.why_not)
        self._metrics.note_shadow()

    def note_poll(self, done: Poll) -> None:
        """An active poll was made."""
        self._polls += 1
        self._last_tick = done.tick
        self._in_snipe = any(e.decision.in_snipe for e in done.evaluations)
        self.waits_for_venue = done.waits_for_venue
        self._note_health(done.why_not)
        # A market that nobody can trade is no fault of a candidate: the version before it would find the same.
        good = done.why_not is None or done.not_traded
        self._good, self._bad = (self._good + 1, 0) if good else (0, self._bad + 1)
        self._metrics.note_poll(done, self.active.ticks.commit_s if self.active is not None else None)
        self.publish(Role.ACTIVE)

    def publish(self, role: Role) -> None:
        """Write the instance's document."""
        active = self.active
        self._metrics.note_role(role)
        try:
            self._file.write(
                self._file.document.model_copy(
                    update={
                        "role": role,
                        "polls": self._polls,
                        "healthy": self.healthy,
                        "why_not": self._why_not,
                        "why_not_code": "" if self._why_not is None else self._why_not.code,
                        "waits_for_venue": self.waits_for_venue,
                        "last_tick": self._last_tick,
                        "epoch": active.epoch if active else None,
                        "active_healthy": self._good if active else 0,
                        "active_unhealthy": self._bad if active else 0,
                        "in_snipe": self._in_snipe,
                        **self._orders(),
                    }
                )
            )
        except OSError as error:
            self._log.warning("instance_not_published", reason=str(error))

    def _orders(self) -> dict[str, int]:
        """Of the epoch that is, or that was: a deploy compares its candidate with them."""
        if self.active is not None:
            self._sent, self._refused = self.active.desk.sendings.sent, self.active.desk.sendings.refused
        return {"orders_sent": self._sent, "orders_refused": self._refused}

    async def publish_forever(self) -> None:
        """The document's sequence shows that the event loop runs."""
        loop = asyncio.get_running_loop()
        while True:
            wake_at = loop.time() + PUBLISH_EVERY_S
            await asyncio.sleep(PUBLISH_EVERY_S)
            self._metrics.loop_lag.observe(max(0.0, loop.time() - wake_at))
            self.publish(self.role)

    async def status_forever(self) -> None:
        """Write status on every change and at least once a second, while active."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_EVERY_S):
                    await self._dirty.wait()
            self._dirty.clear()
            self._write_status()
            await asyncio.sleep(STATUS_SPACING_S)

    def _write_status(self) -> None:
        if self.active is None:
            return
        self._status_sequence += 1
        try:
            status = self.active.status()
            write_status(self._world.bus, status, self._status_sequence, self._world.clock.wall_ms())
            self._metrics.note_status(status)
            self._note_sendings(self.active)
        except (OSError, LedgerError) as error:
            self._log.warning("status_not_written", reason=str(error))

    def _note_sendings(self, active: Active) -> None:
        for sent in active.desk.sendings.drain():
            due_ms = active.ticks.anchor.due_ms(sent.tick)
            answer_ms = sent.answered_boot_ms - sent.sent_boot_ms
            self._metrics.note_order(sent.outcome, (sent.sent_boot_ms - due_ms) / 1000, answer_ms / 1000)

    def _note_health(self, why_not: Reason | None) -> None:
        if why_not != self._why_not:
            if why_not is None:
                self._log.info("healthy", polls=self._polls)
            else:
                self._log.warning("unhealthy", reason=why_not, code=why_not.code)
        self._why_not = why_not
        self._metrics.healthy.set(self.healthy)
        self._metrics.polled.set(self._world.clock.wall_ms() / 1000)
