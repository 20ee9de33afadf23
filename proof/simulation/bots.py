"""One bot as a process of the simulation: the real Runner on the real bus, fed by the exchange in here."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from bench.inside import Paper, make_world, settle
from bot.lifecycle.instance import Runner
from bot.market_data.binance_messages import PriceUpdate, Source
from bot.settings import BotSettings
from bot.strategy.api import Decision, Inputs
from bot.strategy.guard import GuardedStrategy
from bot.venue.types import BASE_UNITS
from bus import Bus, Clock, Instance, InstanceFile, Log, Role
from bus.tasks import Guard
from ledger.values import Outcome
from proof.simulation.loop import Process, SimulatedLoop
from proof.simulation.network import LIMIT_S, Network, SimulatedVenue

# A strategy that keeps orders on the way at every handover: it enters each window soon, and leaves most of them again.


SHARES = 10 * BASE_UNITS
_LATE = 0.2  # the part of a window in which every price is looked at
_REACH = Decimal("0.03")  # beyond the best price, so that it is met in spite of the hold


@dataclass(frozen=True, slots=True)
class _Nothing:
    """It has no parameters."""


class BrokenError(Exception):
    """What a broken commit's strategy raises."""


class Restless:
    """Equal inputs give equal decisions. kind: of the commit; a sick one raises, always or once it trades."""

    parameters = _Nothing

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def decide(self, inputs: Inputs, parameters: _Nothing) -> Decision:  # noqa: ARG002  # it has none
        """What to do in one slot now."""
        look_from_ms = inputs.end_ms - int(_LATE * (inputs.end_ms - inputs.start_ms))
        looks = inputs.streak + 1 if inputs.streak_window == inputs.window else 1
        return replace(
            self._decide(inputs), every_price_from_ms=look_from_ms,
            streak_window=inputs.window, streak_outcome=Outcome.UP, streak=looks, streak_ms=inputs.seen_ms,
        )  # fmt: skip

    def _decide(self, inputs: Inputs) -> Decision:
        if self._kind == "sick" or (self._kind == "sick-active" and not inputs.blocked.startswith("standby")):
            raise BrokenError(f"this commit is {self._kind}")
        length = inputs.end_ms - inputs.start_ms
        passed = (inputs.now_ms - inputs.start_ms) / length
        number = inputs.start_ms // length + len(inputs.slot) + ord(inputs.slot[0])
        if inputs.blocked:
            return Decision("none", inputs.blocked)
        if inputs.held is not None:
            bids = inputs.bids_up if inputs.held is Outcome.UP else inputs.bids_down
            size = inputs.held_shares // 10_000 * 10_000
            if number % 4 == 0 or not 0.2 <= passed < 0.95 or not bids or size < inputs.min_size:
                return Decision("none", "holding")
            return Decision("exit", "left early", inputs.held, max(inputs.tick, bids[0].price - _REACH), size)
        outcome = Outcome.UP if number % 3 else Outcome.DOWN
        asks = inputs.asks_up if outcome is Outcome.UP else inputs.asks_down
        if not -0.9 <= passed < 0.8 or not asks or asks[0].price > Decimal("0.9"):
            return Decision("none", "not now")
        return Decision("enter", "restless", outcome, min(asks[0].price + _REACH, 1 - inputs.tick), SHARES)


# One bot as a process of the simulation: the real Runner on the real bus, fed by the exchange in here.


INTERVAL_S = 0.5
ASSETS, TIMEFRAMES = ("BTC", "ETH"), ("5s",)
HANG_S = 60.0


class Nothing:
    """Stands in for metrics: takes everything, keeps nothing."""

    def __getattr__(self, _name: str) -> Nothing:
        return self

    def __call__(self, *_arguments: object, **_options: object) -> Nothing:
        return self


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. kind: good, or how it is broken (see `KINDS`)."""

    sha: str
    kind: str = "good"


KINDS = ("no-build", "dies", "sick", "dies-active", "sick-active", "hangs-active")


class Bot:
    """A bot process.

    Args:
        number: of its start, which names it and seeds what it draws.
        leaves: called right before the bytes of an order of this bot leave.
        dies: called at its death, while it has all that it has.
    """

    def __init__(
        self,
        number: int,
        commit: Commit,
        *,
        loop: SimulatedLoop,
        bus: Bus,
        clock: Clock,
        paper: Paper,
        network: Network,
        log: Log,
        rng: random.Random,
        leaves: Callable[[Bot, str], None],
        dies: Callable[[Bot], None],
        color: str = "blue",
        unit: str = "",
        deploy_id: str = "",
    ) -> None:
        self.commit, self.unit, self._clock, self._loop = commit, unit, clock, loop
        self.id = f"20220105T{number:06d}-{color}-{commit.sha[:7]}-{number:06x}"
        self.process = Process(loop, f"bot-{number}", random.Random(rng.getrandbits(64)))
        self.frozen_until = 0.0
        self._taken_at: float | None = None
        self._began_at = loop.time()
        self._random = rng
        settings = BotSettings(
            poll_interval=INTERVAL_S, assets=ASSETS, timeframes=TIMEFRAMES, request_limit=LIMIT_S, redeem="off",
            orders_per_second=1000, requests_per_second=30, basis_after=1, resend=rng.choice(("exits", "entries")),
            color=color, sha=commit.sha, unit=unit, deploy_id=deploy_id,
        )  # fmt: skip
        venue = SimulatedVenue(paper, log, rng.getrandbits(32), self.process, network, lambda body: leaves(self, body))
        strategy = GuardedStrategy(Restless(commit.kind), "simulation", cpu_ns=lambda: 0, wall_ns=lambda: 0)
        self.world, self.routes = make_world(paper, bus, clock, log, settings, venue, strategy, rng)
        document = Instance(
            id=self.id, role=Role.WARMING, color=color, sha=commit.sha, unit=unit, deploy_id=deploy_id,
            started_ms=clock.wall_ms(), why_not="warming",
        )  # fmt: skip
        self.failures: list[Exception] = []
        self.file = InstanceFile(bus, clock, document)
        self._guard = Guard(log, on_failure=self._fail)
        metrics: Any = Nothing()
        self.runner = Runner(self.world, self.file, metrics, self._guard, rng.getrandbits)
        self.process.at_death(lambda: dies(self))
        self.process.at_death(self._close_files)
        self.process.start(self._run(), "bot")
        if commit.kind == "dies":
            self.process.die_after_steps(rng.randrange(60))

    @property
    def alive(self) -> bool:
        """Whether its process is."""
        return self.process.alive

    @property
    def holds(self) -> bool:
        """Whether it has the lock of the lease file that is on disk now."""
        lease = self.runner._lease
        if not self.alive or lease._descriptor is None:
            return False
        mine, on_disk = os.fstat(lease._descriptor), lease.path.stat()
        return mine.st_ino == on_disk.st_ino

    @property
    def held_for_s(self) -> float:
        """How long it has traded already, in s."""
        return self._loop.time() - self._taken_at if self.holds and self._taken_at is not None else 0.0

    def untroubled_s(self) -> float:
        """For how long nothing has gone wrong for it: no pause, no frozen feed, no broken commit, nobody retired it."""
        if self.commit.kind != "good" or self.process.asleep or self.runner._seen.role is Role.RETIRED:
            return 0.0
        return self._loop.time() - max(self._began_at, self.frozen_until, self.process.slept_until)

    @property
    def ready(self) -> bool:
        """Whether it is a healthy standby, by its own word."""
        return self.alive and self.runner._seen.role is Role.STANDBY and self.runner._seen.healthy

    @property
    def trades(self) -> bool:
        """Whether it believes that it does."""
        return self.alive and self.runner._seen.active is not None

    def price(self, lead: dict[str, float], settlement: dict[str, float]) -> None:
        """Lead and settlement prices reach it, unless its feed is frozen."""
        if self._loop.time() >= self.frozen_until:
            self.process.call(self._hear, lead, settlement)

    def stop(self) -> None:
        """SIGTERM."""
        self.process.call(self.runner.stop)

    def taken(self) -> None:
        """It just took the lease: a broken commit shows it now."""
        self._taken_at = self._loop.time()
        if self.commit.kind == "dies-active":
            self.process.die_after_steps(self._random.randrange(120))
        elif self.commit.kind == "hangs-active":
            self.process.sleep(HANG_S)

    async def _run(self) -> None:
        """As `bot.lifecycle.app` does. The process ends with it, whatever ends it."""
        how = "ends"
        try:
            self.file.write(self.file.document)
            self._guard.start(self.world.account.run(), "account")
            self._guard.start(self.world.markets.run(), "markets")
            await self.runner.run()
            await self._guard.close()
        except Exception as error:  # noqa: BLE001  # as a traceback on stderr
            how = f"ends by {error!r}"
        self._loop.say(self.process, how)
        self.process.kill()

    def _fail(self, error: Exception) -> None:
        self.failures.append(error)
        self.runner.stop()

    def _hear(self, lead: dict[str, float], settlement: dict[str, float]) -> None:
        now = self._clock.boot_ms()
        for asset in ASSETS:
            self.world.feed._last_boot_ms[asset] = now
            self.routes.price(PriceUpdate(asset, lead[asset], Source.BOOK, None, now))
        settle(self.world.prices, settlement, self._clock)

    def _close_files(self) -> None:
        self.runner._lease.unlock()
        os.close(self.file._descriptor)
