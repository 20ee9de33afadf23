"""What goes wrong in a run, and when: drawn by seed, one thing after the other, until the quiet part begins."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from bus import Handover, new_id, write_handover
from proof.simulation.bots import Bot, Commit
from proof.simulation.host import Host

CLOCK_STEPS_MS = (-7_200_000, -900, 900, 3_000, 7_200_000)


class Faults:
    """Makes them. times: how often each was made.

    Args:
        most_pause_s: of a process.
        often: how often faults come; 1: every 0.5 s, 1.5 s or 4 s on average, as the seed has it.
        more: kinds that only this run has.
    """

    def __init__(
        self,
        host: Host,
        seed: int,
        *,
        most_pause_s: float,
        often: float,
        more: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        self._host, self._random, self._most_pause_s = host, random.Random(f"{seed}:faults"), most_pause_s
        self._more = more or {}
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "death between steps": self._death_between_steps,
            "death before an effect": self._death_before_effect,
            "death": self._death,
            "pause": self._pause,
            "lost requests": self._lost_requests,
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "clock step": self._clock_step,
            "frozen feed": self._frozen_feed,
            "lease file replaced": self._lease_replaced,
            "halt": self._halt,
            "pause by a person": self._pause_by_person,
            **self._more,
        }
        # Some runs see little of a kind and much of another: what one hides another shows.
        self._weights = [self._random.choice((0, 1, 1, 3, 6)) for _ in self._kinds]
        if not any(self._weights):
            self._weights[0] = 1
        self._mean_s = self._random.choice((0.5, 1.5, 4.0)) / often
        self.times: Counter[str] = Counter()

    async def run(self, until_s: float) -> None:
        """Until that loop time; what lasts is over then."""
        loop = self._host.loop
        kinds = list(self._kinds)
        beside: list[asyncio.Future[None]] = []
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._mean_s))
            if loop.time() >= until_s:
                break
            kind = self._random.choices(kinds, self._weights)[0]
            self.times[kind] += 1
            loop.say(None, f"fault: {kind}")
            beside.append(asyncio.ensure_future(self._kinds[kind]()))
        await asyncio.gather(*beside)

    def pick(self) -> Bot | None:
        """Whom it strikes: the holder more often than others."""
        holder, living = self._host.holder, self._host.living
        if holder is not None and self._random.random() < 0.6:
            return holder
        return self._random.choice(living) if living else None

    async def _death(self) -> None:
        if (bot := self.pick()) is not None:
            self._host.kill(bot, "a fault")

    async def _death_between_steps(self) -> None:
        if (bot := self.pick()) is not None:
            bot.process.die_after_steps(self._random.randrange(80))

    async def _death_before_effect(self) -> None:
        if (bot := self.pick()) is not None:
            bot.process.die_at_effect(self._random.randrange(12))

    async def _pause(self) -> None:
        if (bot := self.pick()) is not None:
            bot.process.sleep(self._random.uniform(0.05, self._most_pause_s))

    async def _lost_requests(self) -> None:
        network = self._host.network
        network.faulty = self._random.choice((0.2, 0.5, 1.0))
        await asyncio.sleep(self._random.uniform(0.5, 4.0))
        network.faulty = 0.0

    async def _slow_disk(self) -> None:
        disk = self._host.disk
        disk.slow_s = self._random.choice((0.01, 0.1, 0.5))
        await asyncio.sleep(self._random.uniform(0.3, 2.0))
        disk.slow_s = 0.0

    async def _full_disk(self) -> None:
        disk = self._host.disk
        disk.full = True
        await asyncio.sleep(self._random.uniform(0.1, 3.0))
        disk.full = False

    async def _clock_step(self) -> None:
        clock = self._host.clock
        step_ms = self._random.choice(CLOCK_STEPS_MS)
        clock.offset_ms += step_ms
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        clock.offset_ms -= step_ms

    async def _frozen_feed(self) -> None:
        if (bot := self.pick()) is not None:
            bot.frozen_until = self._host.loop.time() + self._random.uniform(4.0, 9.0)

    async def _lease_replaced(self) -> None:
        """Somebody removes the lease file, which nobody ever should: two may hold a lock now, and the fence alone is left."""
        lease = self._host.bus.lease
        lease.unlink()
        os.close(os.open(lease, os.O_RDWR | os.O_CREAT, 0o644))

    async def _halt(self) -> None:
        bus = self._host.bus
        bus.halt.touch()
        await asyncio.sleep(self._random.uniform(0.2, 2.5))
        bus.halt.unlink(missing_ok=True)

    async def _pause_by_person(self) -> None:
        if self._host.disk.full:
            return  # the panel could not write either
        self._host.set_control(lambda found: found.changed(mode="pause"))
        await asyncio.sleep(self._random.uniform(0.2, 2.5))
        self._host.set_control(lambda found: found.changed(mode="run"))


# Somebody who passes the lease around without end: asks, asks wrongly, asks again, retires, and starts anew what died.


LOOK_EVERY_S = 0.1
COMMITS = (Commit("a" * 40), Commit("b" * 40))


class Relay:
    """Keeps `count` bots, and asks for a handover as soon as the one before came about, or was not heeded, within a while.

    haste: how likely it asks at each look.
    """

    def __init__(self, host: Host, seed: int, *, count: int, haste: float) -> None:
        self._host, self._random, self._count, self._haste = host, random.Random(f"{seed}:relay"), count, haste
        self._handover = Handover(confirmed_sha=COMMITS[0].sha)
        self._asked = 0

    def fill_up(self) -> None:
        """Start bots in the place of those that died."""
        for _ in range(self._count - len(self._host.living)):
            self._host.start(self._random.choice(COMMITS))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * LOOK_EVERY_S)
            if self._random.random() < 0.2:
                self.fill_up()
            holder, draw = self._host.holder, self._random.random()
            if draw < 0.003:
                self._retire()
            elif holder is None:
                if draw < 0.02:
                    self._ask()  # in the midst of a handover
            elif self._is_open(holder):
                if draw < 0.03:
                    self._ask()  # before it was heeded
            elif draw < self._haste:
                self._ask()

    def _is_open(self, holder: Bot) -> bool:
        """Whether the last request may still be heeded."""
        asked = self._handover
        return asked.wanted != holder.id and self._host.clock.boot_ms() < asked.expires_boot_ms

    def _ask(self) -> None:
        holder = self._host.holder
        others = [bot for bot in self._host.living if bot is not holder]
        draw = self._random.random()
        wanted: str | None = None
        if draw < 0.9 and others:
            wanted = self._random.choice(others).id
        elif draw < 0.93 and self._host.bots:
            wanted = self._random.choice(self._host.bots).id  # it may be dead, or the holder itself
        elif draw < 0.95:
            wanted = new_id(self._host.clock, "green", "f" * 7)  # nobody's
        request = self._handover.request_id
        if draw < 0.97 or not request:  # else the same request again, which may be spent
            self._asked += 1
            request = f"relay/{self._asked}"
        life_ms = self._random.choice((50, 400, 1_000, 1_000, 1_000, 5_000) if draw < 0.9 else (50, 400))
        self._write(wanted=wanted, request_id=request, expires_boot_ms=self._host.clock.boot_ms() + life_ms)

    def _retire(self) -> None:
        """One that does not hold the lease is retired; it is stopped some time later, and another one comes in its place."""
        spare: list[Bot] = [bot for bot in self._host.living if not bot.holds and not bot.trades]
        if not spare or len(self._host.living) < 2:
            return
        bot = self._random.choice(spare)
        living = {one.id for one in self._host.living}
        self._write(retired=tuple(sorted({*self._handover.retired, bot.id} & living)))
        self._host.loop.call_later(self._random.uniform(0.0, 1.0), bot.stop)
        self._host.start(self._random.choice(COMMITS))

    def _write(self, **changes: object) -> None:
        if self._host.disk.full:
            return  # as everybody's writes
        self._handover = self._handover.changed(**changes, expires_boot_id=self._host.clock.boot_id)
        self._host.watch.asked(self._host.bus, self._handover)
        write_handover(self._host.bus, self._handover, writer="relay", sequence=0, clock=self._host.clock)
