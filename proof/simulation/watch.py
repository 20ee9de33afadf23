"""What must hold at every moment of a run. It asks the bus itself, and not the code that it watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import apsw

import bus.history
import bus.requests
import deployer.service
from bot.lifecycle.active import Active
from bot.lifecycle.instance import Runner
from bus import Bus, Handover, Step, is_alive, is_halted
from deployer.deploys import fold
from ledger import Ledger
from proof.simulation.bots import Bot
from proof.simulation.effects import replace_in
from proof.simulation.loop import SimulatedLoop

MOST = 20
AGAIN_S = 2.5
BACKED_OFF_S = 12.0
UNFIT_S = 5.0
PASSED_ON_MS = 5_000
LOOK_EVERY_S = 0.1


# The worst that all open entries may still cost, in base units: each one's cost less what its trades cost already.
AT_STAKE = """
    SELECT sum(max(0, cost - spent)) FROM (
        SELECT cost, coalesce((
            SELECT sum(f.value + f.fee) FROM fills f WHERE f.order_id = i.order_id AND f.status = 'MATCHED'), 0) AS spent
        FROM intents i WHERE side = 'BUY' AND NOT EXISTS (
            SELECT 1 FROM orders o WHERE o.order_id = i.order_id AND o.state IN ('abandoned', 'refused', 'done')))
"""


class Everybody(Protocol):
    """Who is there."""

    @property
    def bots(self) -> Iterable[Bot]:
        """All bots that were ever started."""


class Watch:
    """Collects violations.

    Attributes: requests: every handover that was written, by request. handovers, takeovers: epochs after a release, and after a
    death or a loss. gaps_ms: from the release to the take; free_ms: from a death to the next take.
    """

    def __init__(self, loop: SimulatedLoop, there: Bus, boot_ms: Callable[[], int], everybody: Everybody) -> None:
        self._loop, self._bus, self._boot_ms, self._everybody = loop, there, boot_ms, everybody
        self._reader: apsw.Connection | None = None
        self._free_since: float | None = None
        self._unfit_since = loop.time()
        self.violations: list[str] = []
        self.found = asyncio.Event()
        self.requests: dict[str, Handover] = {}
        self.handovers = self.takeovers = self.orders = 0
        self.gaps_ms: list[int] = []
        self.free_ms: list[int] = []
        self.free_from_ms: int | None = None
        self.confirm_polls = 0
        self._left: tuple[int, dict[str, Any]] = (0, {})
        self.most_at_stake = 0

    def broken(self, text: str) -> None:
        """Note a violation."""
        self._loop.say(None, f"BROKEN: {text}")
        self.found.set()
        if len(self.violations) < MOST:
            self.violations.append(f"{self._loop.time():.3f} s: {text}")

    def install(self) -> None:
        """Look at every take, yield, handover document and step from now on."""

        def takes(own: Callable[..., int]) -> Callable[..., int]:
            def take(ledger: Ledger, **of: Any) -> int:
                before = ledger.newest_epoch()
                epoch = own(ledger, **of)
                self._taken(of["instance"], before.released if before is not None else None, epoch)
                return epoch

            return take

        def wants(own: Callable[..., str]) -> Callable[..., str]:
            def wanted_by(runner: Runner, active: Any) -> str:
                request = own(runner, active)
                if request:
                    self._yields(request)
                return request

            return wanted_by

        def looked_at(look: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
            def before(own: Callable[..., None]) -> Callable[..., None]:
                def function(*arguments: Any, **options: Any) -> None:
                    look(*arguments, **options)
                    own(*arguments, **options)

                return function

            return before

        def ends(own: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            async def close(active: Active, limit_s: float) -> None:
                await own(active, limit_s)
                self._left = active.epoch, dict(active._state)

            return close

        def begins(own: Callable[..., None]) -> Callable[..., None]:
            def init(active: Active, *arguments: Any, **options: Any) -> None:
                own(active, *arguments, **options)
                self._goes_on(active)

            return init

        replace_in(Ledger, "take", takes)
        replace_in(Active, "close", ends)
        replace_in(Active, "__init__", begins)
        replace_in(Runner, "_wanted_by", wants)
        replace_in(deployer.service, "write_handover", looked_at(self.asked))
        replace_in(deployer.service, "append_step", looked_at(self._step))

    def leaves(self, bot: Bot, body: str) -> None:
        """An order's bytes are about to leave: written before sent, under the newest epoch, and for an entry no halt and no
        more at stake in open entries than the limit allows.
        """
        self.orders += 1
        rows = self._ask("SELECT order_id, side FROM intents WHERE body = ?", (body,))
        if not rows:
            self.broken(f"I3: bytes leave {bot.process.name} that no durable intent holds")
            return
        order_id, side = rows[0]
        newest = self._newest()
        if newest is None or newest[1] != bot.id or newest[2]:
            self.broken(f"I4: order {order_id[:10]} leaves {bot.process.name} although epoch {newest} is the newest")
        if side == "BUY" and is_halted(self._bus):
            self.broken(f"I6: entry {order_id[:10]} leaves {bot.process.name} after a halt")
        if side == "BUY" and (stake := int(self._ask(AT_STAKE)[0][0] or 0)) > self.most_at_stake:
            self.broken(
                f"I6: entry {order_id[:10]} leaves with {stake} units at stake, the limit is {self.most_at_stake}"
            )
        if json.loads(body)["order"]["side"] != side:
            self.broken(f"I3: order {order_id[:10]} is not what its intent says")

    async def look_forever(self, may_trade: Callable[[], bool]) -> None:
        """Whoever could trade does so within a stated time. may_trade: whether the disk lets anybody."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            bots = [bot for bot in self._everybody.bots if bot.alive]
            self._look_at_fitness(bots, may_trade=may_trade())
            able = [bot for bot in bots if bot.ready and not bot.process.asleep]
            if not may_trade() or not able or any(bot.holds or bot.trades for bot in bots):
                self._free_since = None
                continue
            now = self._loop.time()
            self._free_since = self._free_since or now
            failing = any(bot.runner._failures for bot in able)
            if now - self._free_since > (BACKED_OFF_S if failing else AGAIN_S):
                self.broken(f"nobody trades for {now - self._free_since:.1f} s although {able[0].process.name} could")
                self._free_since = now

    # --- inside

    def _look_at_fitness(self, bots: list[Bot], *, may_trade: bool) -> None:
        """Of those that nothing troubles one is fit to trade, or trades, before long."""
        now = self._loop.time()
        well = [bot for bot in bots if bot.untroubled_s() > UNFIT_S]
        if not may_trade or not well or any(bot.ready or bot.trades for bot in bots):
            self._unfit_since = now
        elif now - self._unfit_since > UNFIT_S:
            self.broken(f"nobody is fit to trade for {now - self._unfit_since:.1f} s, {well[0].process.name} for one")
            self._unfit_since = now

    def _taken(self, instance: str, released: bool | None, epoch: int) -> None:
        bots = [bot for bot in self._everybody.bots if bot.alive]
        holders = [bot.id for bot in bots if bot.holds]
        if holders != [instance]:
            self.broken(f"I1: epoch {epoch} begins for {instance}, the lease is held by {holders}")
        handover = self._handover_on_disk()
        if handover is not None and instance in handover.retired:
            self.broken(f"{instance} takes the lease although it is retired")
        now = self._boot_ms()
        if released:
            self.handovers += 1
            at = self._ask("SELECT boot_ms FROM releases WHERE epoch = ?", (epoch - 1,))
            self.gaps_ms.append(now - int(at[0][0]))
        elif released is False:
            self.takeovers += 1
            if self.free_from_ms is not None:
                self.free_ms.append(now - self.free_from_ms)
        self.free_from_ms = None
        for bot in bots:
            if bot.id == instance:
                bot.taken()

    def _goes_on(self, active: Active) -> None:
        """Right after a release its taker goes on from all that was counted, and loses no confirmation."""
        epoch, left = self._left
        released = self._ask("SELECT boot_ms FROM releases WHERE epoch = ?", (active.epoch - 1,))
        if not released or epoch != active.epoch - 1 or self._boot_ms() - int(released[0][0]) > PASSED_ON_MS:
            return
        if active._state != left:
            self.broken(f"epoch {active.epoch} goes on from {dict(active._state)}, its former one left {left}")

    def _yields(self, request: str) -> None:
        asked = self.requests.get(request)
        if asked is None or asked.wanted is None:
            self.broken(f"yielded to the request {request!r}, which nobody made")
            return
        if self._boot_ms() >= asked.expires_boot_ms:
            self.broken(
                f"yielded to the request {request!r} {self._boot_ms() - asked.expires_boot_ms} ms after its end"
            )
        if self._ask("SELECT 1 FROM releases WHERE request = ?", (request,)):
            self.broken(f"yielded to the request {request!r} a second time")
        if not is_alive(self._bus, asked.wanted):
            self.broken(f"yielded to {asked.wanted}, which is dead")

    def asked(self, _bus: Bus, handover: Handover, **_options: Any) -> None:
        """A handover document is about to be written."""
        if handover.request_id:
            self.requests[handover.request_id] = handover

    def _step(self, there: Bus, step: Step) -> None:
        if step.step != "confirmed":
            return
        rows = self._ask(
            "SELECT count(*) FROM polls_completed p JOIN epochs e ON e.epoch = p.epoch WHERE e.instance = ? AND p.healthy = 1",
            (step.instance,),
        )
        if int(rows[0][0]) < self.confirm_polls:
            self.broken(f"deploy {step.deploy} is confirmed after {rows[0][0]} healthy polls of {step.instance}")
        history = fold(bus.history.read_steps(there))
        deploy = history.find(step.deploy)
        if deploy is None or deploy.verdict is not None:
            self.broken(f"deploy {step.deploy} is confirmed although it is {deploy.verdict if deploy else 'unknown'}")

    def _handover_on_disk(self) -> Handover | None:
        try:
            return bus.requests.read_handover(self._bus)
        except bus.DocumentError:
            return None

    def _newest(self) -> tuple[int, str, bool] | None:
        rows = self._ask(
            "SELECT epoch, instance, EXISTS (SELECT 1 FROM releases r WHERE r.epoch = e.epoch) FROM epochs e "
            "ORDER BY epoch DESC LIMIT 1"
        )
        return (int(rows[0][0]), str(rows[0][1]), bool(rows[0][2])) if rows else None

    def _ask(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """By a connection of its own: what it sees is committed."""
        if self._reader is None:
            self._reader = apsw.Connection(str(self._bus.ledger))
            self._reader.pragma("query_only", True)
            self._reader.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return list(self._reader.execute(sql, values))
