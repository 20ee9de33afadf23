"""What goes wrong in a run, and when: drawn by seed, one thing after the other, until the quiet part begins."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from proof.simulation.bots import Bot
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
