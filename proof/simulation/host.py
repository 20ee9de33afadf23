"""The machine that everything runs on: the loop, the clocks, the disk, the network, the exchange, and who was started."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.inside import Paper
from bench.virtual import VirtualClock
from bot.venue.types import (
    BASE_UNITS,
)
from bus import Control, Log, RiskLimits, open_bus, read_control, write_control
from proof.simulation.bots import TIMEFRAMES, Bot, Commit
from proof.simulation.effects import Disk, install
from proof.simulation.loop import SimulatedLoop
from proof.simulation.network import Network
from proof.simulation.watch import Watch

# The way to the exchange: answers that come late, get lost, or never; requests that outlive their process.


# The machine that everything runs on: the loop, the clocks, the disk, the network, the exchange, and who was started.


BEGIN_MS = 1_641_384_000_000
STEP_S, QUOTE_S = 1.0, 2.0
MOST_AT_STAKE = Decimal(14)  # two of the four slots' orders at once, so that what is pending counts


class SteppingClock(VirtualClock):
    """The host's clock; its wall can be set. offset_ms: by how much it was."""

    offset_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.offset_ms


@dataclass(frozen=True, slots=True)
class _Trace:
    """A log into the trace."""

    say: Callable[[str], None]
    who: str = ""

    def debug(self, event: str, /, **fields: Any) -> None:
        """Said."""
        named = {name: value for name, value in fields.items() if name not in ("exc_info", "instance")}
        self.say(f"{self.who}: {event} {named}")

    info = warning = error = debug

    def bind(self, **_fields: Any) -> Log:
        """The same."""
        return self


class Host:
    """One run's machine. bots: all that were ever started, oldest first. deaths: of bots, those that were stopped included."""

    def __init__(self, folder: Path, seed: int, loop: SimulatedLoop, trace: Callable[[str], None]) -> None:
        self.loop, self.seed, self._trace = loop, seed, trace
        self.rng = random.Random(f"{seed}:host")
        self.clock = SteppingClock(loop, BEGIN_MS)
        self._venue_clock = VirtualClock(loop, BEGIN_MS)
        self.disk = Disk(random.Random(f"{seed}:disk"))
        self.network = Network(random.Random(f"{seed}:network"))
        self.bus = open_bus(folder / "bus")
        self.bots: list[Bot] = []
        self.deaths = 0
        self.watch = Watch(loop, self.bus, self.clock.boot_ms, self)
        install(self.disk)
        self.watch.install()
        self.watch.most_at_stake = int(MOST_AT_STAKE * BASE_UNITS)
        self.paper = Paper(
            folder / "paper", {}, seed, round(STEP_S * 1000), round(QUOTE_S * 1000), self._venue_clock.wall_ms,
            timeframes=TIMEFRAMES, resolution_delay=0.5,
        )  # fmt: skip
        risk = RiskLimits(max_total=MOST_AT_STAKE, orders_per_minute=100_000, daily_loss=Decimal(100_000))
        self.set_control(lambda found: found.changed(generation=1, risk=risk))

    def set_control(self, change: Callable[[Control], Control]) -> None:
        """A person writes control."""
        generation = read_control(self.bus).generation if self.bus.control.exists() else 0
        write_control(self.bus, generation, change, by="somebody", clock=self.clock)

    def log(self, who: str) -> Log:
        """A log of one process."""
        return _Trace(self._trace, who)

    def start(self, commit: Commit, *, color: str = "blue", unit: str = "", deploy_id: str = "") -> Bot:
        """Start a bot. Raises OSError, BusError."""
        number = len(self.bots) + 1
        bot = Bot(
            number,
            commit,
            loop=self.loop,
            bus=self.bus,
            clock=self.clock,
            paper=self.paper,
            network=self.network,
            log=self.log(f"bot-{number}"),
            rng=random.Random(f"{self.seed}:bot:{number}"),
            leaves=self.watch.leaves,
            dies=self._note_death,
            color=color,
            unit=unit,
            deploy_id=deploy_id,
        )
        self.bots.append(bot)
        self.loop.say(None, f"{bot.process.name} starts: {commit.sha[:7]} {commit.kind} {bot.id}")
        return bot

    @property
    def to_venue_ms(self) -> int:
        """Added to a CLOCK_BOOTTIME in ms it gives the venue's UTC ms."""
        return self._venue_clock.wall_ms() - self._venue_clock.boot_ms()

    @property
    def living(self) -> list[Bot]:
        """The bots that live."""
        return [bot for bot in self.bots if bot.alive]

    @property
    def holder(self) -> Bot | None:
        """Who has the lease."""
        return next((bot for bot in self.bots if bot.holds), None)

    def kill(self, bot: Bot, why: str) -> None:
        """SIGKILL."""
        self.loop.say(bot.process, f"is killed: {why}")
        bot.process.kill()

    def _note_death(self, bot: Bot) -> None:
        self.deaths += 1
        if bot.holds and self.watch.free_from_ms is None:
            self.watch.free_from_ms = self.clock.boot_ms()

    async def run_exchange(self) -> None:
        """Prices, quotes and resolutions, until cancelled."""
        while True:
            living = self.living
            tokens = list(dict.fromkeys(token for bot in living for token in bot.world.tokens_soon()))
            await self.paper.tick([_Delivered(bot) for bot in living], tokens)  # type: ignore[misc]  # as Routes
            for bot in living:
                bot.price(self.paper.exchange.feed.lead, self.paper.exchange.feed.settlement)
            await asyncio.sleep(max(0.001, STEP_S - self.loop.time() % STEP_S))


class _Delivered:
    """A bot's routes as a stream sees them: what it sends arrives in the bot's own time."""

    def __init__(self, bot: Bot) -> None:
        self._bot, self.books = bot, bot.routes.books

    def event(self, event: Any) -> None:
        """Sent."""
        self._bot.process.call(self._bot.routes.event, event)
