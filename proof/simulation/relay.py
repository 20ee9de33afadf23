"""Somebody who passes the lease around without end: asks, asks wrongly, asks again, retires, and starts anew what died."""

from __future__ import annotations

import asyncio
import random

from bus import Handover, new_id, write_handover
from proof.simulation.bots import Bot, Commit
from proof.simulation.host import Host

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
