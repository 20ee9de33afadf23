"""A tiny worker that keeps the deployer's contract, on top of the real bus: lease, epochs, polls, handover, SIGTERM.

It is committed as `bot/__main__.py` into the repositories that tests deploy from. `bot/mode` says how it misbehaves.
"""

import os
import signal
import sys
import time
from pathlib import Path

from bus import (
    Handover,
    Instance,
    InstanceFile,
    Lease,
    Role,
    SystemClock,
    new_anchor,
    new_id,
    open_bus,
    read_handover,
    read_instance,
)
from ledger import Identity, Ledger

MODE = Path(__file__).with_name("mode").read_text()
INTERVAL_MS = round(float(os.environ.get("BOT_POLL_INTERVAL", "0.2")) * 1000)
PUBLISH_MS = 200


class Worker:
    """One instance."""

    def __init__(self) -> None:
        self.bus, self.clock = open_bus(Path(os.environ["BUS_DIR"])), SystemClock()
        color, sha = os.environ["BOT_COLOR"], os.environ["BOT_SHA"]
        self.me = Instance(
            id=new_id(self.clock, color, sha),
            role=Role.WARMING,
            color=color,
            sha=sha,
            unit=os.environ["BOT_UNIT"],
            deploy_id=os.environ["BOT_DEPLOY_ID"],
            pid=os.getpid(),
        )
        self.file = InstanceFile(self.bus, self.clock, self.me)
        self.lease = Lease(self.bus.lease)
        self.ledger: Ledger | None = None
        self.epoch, self.tick, self.free_since = 0, 0, 0
        self.yielded = self.stopping = False

    def run(self) -> None:
        self.say(role=Role.WARMING, why_not="warming")
        next_shadow = next_say = 0
        while not self.stopping:
            now = self.clock.boot_ms()
            if self.ledger is not None:
                if now >= self.anchor.due_ms(self.tick):
                    self.poll(self.ledger)
            else:
                if now >= next_shadow:
                    next_shadow = now + INTERVAL_MS
                    self.shadow_poll()
                self.try_to_take(now)
            if now >= next_say:
                next_say = now + PUBLISH_MS
                self.say()
            time.sleep(0.004)
        if self.ledger is not None:
            self.give_back("", "stopped")
        self.say(role=Role.STOPPED)
        self.file.close()

    def say(self, **changes: object) -> None:
        self.me = self.me.model_copy(update=changes)
        self.file.write(self.me)

    def shadow_poll(self) -> None:
        healthy = MODE != "sick" and (MODE != "waits" or (self.bus.directory / "go").exists())
        retired = self.me.id in read_handover(self.bus).retired
        role = Role.RETIRED if retired else Role.STANDBY if healthy else Role.WARMING
        self.say(role=role, healthy=healthy, why_not=None if healthy else "sick on purpose", polls=self.me.polls + 1)

    def delay_ms(self, handover: Handover) -> int | None:
        if not self.me.healthy or self.me.id in handover.retired:
            return None
        if handover.wanted == self.me.id:
            return 0
        return 500 if self.yielded else 100 if handover.confirmed_sha == self.me.sha else 300

    def try_to_take(self, now: int) -> None:
        delay = self.delay_ms(read_handover(self.bus))
        if delay is None or not self.lease.try_lock():
            self.free_since = 0
            return
        self.free_since = self.free_since or now
        if now - self.free_since >= delay:
            self.take()
        else:
            self.lease.unlock()

    def take(self) -> None:
        self.ledger = ledger = Ledger.hold(self.bus.ledger, Identity("test", "0", "nobody"))
        wall, boot = self.clock.wall_ms(), self.clock.boot_ms()
        self.epoch = ledger.take(
            instance=self.me.id, sha=self.me.sha, color=self.me.color, request="",
            wall_ms=wall, boot_ms=boot, boot_id=self.clock.boot_id,
        )  # fmt: skip
        last = ledger.last_tick()
        anchor = ledger.anchor()
        if anchor is None or anchor.boot_id != self.clock.boot_id or anchor.interval_ms != INTERVAL_MS:
            anchor = new_anchor(self.clock, INTERVAL_MS, last)
            ledger.fasten(self.epoch, anchor)
        self.anchor = anchor
        self.tick = anchor.next_tick(boot) if last is None else last + INTERVAL_MS
        self.skip(ledger, "nobody traded")
        self.yielded, self.free_since = False, 0
        self.say(
            role=Role.ACTIVE, epoch=self.epoch, active_healthy=0, active_unhealthy=0, orders_sent=0, orders_refused=0
        )

    def skip(self, ledger: Ledger, reason: str) -> None:
        current = self.anchor.tick_at(self.clock.boot_ms())
        if current > self.tick:
            ledger.miss(self.tick, current - INTERVAL_MS, (current - self.tick) // INTERVAL_MS, self.epoch, reason)
            self.tick = current

    def poll(self, ledger: Ledger) -> None:
        if MODE == "dies-active":
            sys.exit("died on purpose at its first active poll")
        if MODE == "hangs-active":
            time.sleep(3600)
        lag_ms, began = self.clock.boot_ms() - self.anchor.due_ms(self.tick), time.perf_counter()
        ledger.claim(self.tick, self.epoch, self.clock.boot_ms())
        commit_us = round((time.perf_counter() - began) * 1e6)
        while MODE == "waits-active":  # alive, but never through its poll
            self.say()
            time.sleep(0.1)
        healthy = MODE != "sick-active"
        ledger.complete(self.tick, self.epoch, healthy=healthy, lag_ms=lag_ms, duration_ms=1, state=str(commit_us))
        good, bad = (self.me.active_healthy + 1, 0) if healthy else (0, self.me.active_unhealthy + 1)
        self.say(last_tick=self.tick, polls=self.me.polls + 1, active_healthy=good, active_unhealthy=bad,
                 orders_sent=self.me.orders_sent + 5, orders_refused=self.me.orders_refused + 5 * (MODE == "refused-active"),
                 why_not=None if healthy else "sick on purpose")  # fmt: skip
        self.tick += INTERVAL_MS
        self.skip(ledger, "a poll took long")
        handover = read_handover(self.bus)
        if MODE != "never-yields" and handover.in_force(self.clock) and handover.wanted not in (None, self.me.id):
            named = read_instance(self.bus, handover.wanted or "")
            ready = named.alive and named.document is not None and named.document.healthy
            if ready and not ledger.is_spent(handover.request_id):
                self.give_back(handover.request_id, "handover")

    def give_back(self, request: str, reason: str) -> None:
        assert self.ledger is not None
        wall, boot = self.clock.wall_ms(), self.clock.boot_ms()
        self.ledger.release(self.epoch, request=request, reason=reason, wall_ms=wall, boot_ms=boot)
        self.ledger.close()
        self.ledger, self.yielded = None, True
        self.lease.unlock()
        self.say(role=Role.STANDBY, epoch=None, active_healthy=0, active_unhealthy=0)


def main() -> None:
    """One worker until SIGTERM."""
    if "--version" in sys.argv:
        sys.stdout.write("tiny 1\n")
        return
    if MODE == "dies":
        sys.exit("died on purpose at its start")
    if MODE == "mute":
        time.sleep(3600)
    worker = Worker()

    def stop(*_: object) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    worker.run()


if __name__ == "__main__":
    main()
