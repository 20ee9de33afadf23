"""One instance through its roles: warming, standby, active, yielding, standby again, retired, stopped.

Cold start, crash, handover and rollback are one path: shadow polls until healthy, win the lease, rebuild from the ledger,
poll. The lease decides who trades; the epoch in the ledger fences whoever does not know yet that it lost it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bot.context import Context
from bot.lifecycle.active import Active
from bot.lifecycle.metrics import Metrics
from bot.lifecycle.polls import shadow_poll
from bot.lifecycle.publisher import Publisher
from bot.lifecycle.roles import TAKE_BACKOFF_MS, Candidate, is_retired, take_delay_ms, yield_to
from bot.strategy.evaluation import Own
from bus import (
    BusError,
    DocumentError,
    Handover,
    InstanceFile,
    Lease,
    LedgerError,
    Role,
    TickTakenError,
    Watch,
    new_anchor,
    read_handover,
    read_instance,
)
from bus.tasks import Guard
from ledger import Epoch, Ledger
from ledger.base import Released
from ledger.schema import SCHEMA

TRY_EVERY_S = 0.02
NAMED_TRY_EVERY_S = 0.005  # the one that the lease is about to be passed to
# Held at so many tries in a row: by a holder, and not by another standby that looks whether the lease is free.
HELD_TRIES = 3
NOT_WANTED_EVERY_S = 0.05
# At its start prices and markets come any moment; each look may ask the venue.
FIRST_RETRY_S, UNHEALTHY_RETRY_S = 0.1, 1.0


class Runner:
    """Runs one instance until `stop` is called.

    Args:
        random_bits: an unpredictable integer of that many bits, for the salt of orders.
        after_poll: called in the quiet after each healthy poll, with the lease or without.
        armed: set once the wallet's key is here; before that the lease is not tried for. None where it always is.
    """

    def __init__(
        self,
        world: Context,
        file: InstanceFile,
        metrics: Metrics,
        guard: Guard,
        random_bits: Callable[[int], int],
        after_poll: Callable[[], None] = lambda: None,
        armed: asyncio.Event | None = None,
    ) -> None:
        self._armed = armed
        self._after_poll = after_poll
        self._world, self._guard, self._random_bits = world, guard, random_bits
        self._log = world.log
        self._seen = Publisher(world, file, metrics)
        self._lease = Lease(world.bus.lease)
        self._lost: Exception | None = None
        self._own = Own()
        self._stopping = False
        self._wake = asyncio.Event()
        self._last_epoch: int | None = None
        self._yielded, self._obeyed = False, ""
        self._named = False
        self._failures = 0
        self._noted: dict[str, str] = {}

    def stop(self) -> None:
        """Yield after the current poll, then end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stopped. Ends with the lease given back and the instance document saying stopped."""
        self._seen.publish(Role.WARMING)
        self._guard.start(self._seen.publish_forever(), "publish")
        self._guard.start(self._seen.status_forever(), "status")
        self._guard.start(self._watch_forever(), "watch")
        try:
            while not self._stopping:
                active = await self._standby()
                if active is not None:
                    await self._trade(active)
        finally:
            self._lease.unlock()
            self._seen.publish(Role.STOPPED)

    # --- standby

    async def _standby(self) -> Active | None:
        """Poll in shadow until the lease is won (the epoch that begins) or the instance is stopped (None)."""
        shadow = asyncio.create_task(self._shadow_forever(), name="shadow")
        stopped = asyncio.create_task(self._wake.wait(), name="stopped")
        won = asyncio.create_task(self._win_lease(), name="lease")
        try:
            await asyncio.wait({shadow, stopped, won}, return_when=asyncio.FIRST_COMPLETED)
            if won.done():
                return won.result()
            if shadow.done():
                shadow.result()  # it never ends by itself: raise what ended it
            return None
        finally:
            for task in (shadow, stopped, won):
                task.cancel()
            await asyncio.gather(shadow, stopped, won, return_exceptions=True)
            if self._seen.active is None:
                self._lease.unlock()

    async def _shadow_forever(self) -> None:
        """Shadow polls: at once, soon again until healthy, then on the grid of ticks."""
        clock, interval_ms = self._world.clock, self._world.settings.interval_ms
        own_grid, soon_s = new_anchor(clock, interval_ms, None), FIRST_RETRY_S
        while True:
            done = await shadow_poll(self._world, self._own)
            self._own = done.own
            anchor = done.anchor if done.anchor is not None and done.anchor.boot_id == clock.boot_id else own_grid
            self._seen.note_shadow(done, anchor.tick_at(clock.boot_ms()))
            self._note_epoch(done.newest)
            if self._seen.healthy:
                self._after_poll()  # before it says so: the first time takes longest, and a lease may be passed to it right after
            self._seen.publish(self._standby_role())
            next_ms = anchor.due_ms(anchor.next_tick(clock.boot_ms())) - clock.boot_ms()
            wait_s = next_ms / 1000 if self._seen.healthy else min(next_ms / 1000, soon_s)
            soon_s = min(UNHEALTHY_RETRY_S, soon_s * 2)
            await asyncio.sleep(wait_s)

    def _note_epoch(self, newest: Epoch | None) -> None:
        self._obeyed = newest.request if newest is not None else ""
        if newest is not None and self._last_epoch is not None and newest.epoch > self._last_epoch:
            self._yielded = False  # somebody else held the lease since

    def _standby_role(self) -> Role:
        if is_retired(self._seen.id, self._handover()):
            return Role.RETIRED
        return Role.STANDBY if self._seen.healthy or self._seen.role is not Role.WARMING else Role.WARMING

    async def _win_lease(self) -> Active:
        """Try for the lease whenever it is free and this instance may have it."""
        if self._armed is not None:
            await self._armed.wait()
        waited, held = False, 0
        while True:
            if not (self._seen.healthy or self._seen.waits_for_venue) or self._seen.role is Role.RETIRED:
                waited = False
                await asyncio.sleep(NOT_WANTED_EVERY_S)
            elif not self._try_lock():
                # Two that wait and meet must not begin anew for ever: proof/lease.pml finds that (M_PROBE_COUNTS).
                held += 1
                waited = waited and held < HELD_TRIES
                await asyncio.sleep(NAMED_TRY_EVERY_S if self._named else TRY_EVERY_S)
            # Only now is the handover read: fifty times a second it would cost a part of a core.
            elif (delay_ms := self._delay_ms()) is None:
                waited = False
                self._lease.unlock()
                await asyncio.sleep(NOT_WANTED_EVERY_S)
            elif delay_ms and not waited:
                self._lease.unlock()  # free, but others come first
                await asyncio.sleep(delay_ms / 1000)
                waited, held = True, 0
            elif (active := await self._take()) is not None:
                return active
            else:
                waited = False
                self._lease.unlock()
                await asyncio.sleep(max(self._backoff_s(), TRY_EVERY_S))

    def _try_lock(self) -> bool:
        try:
            return self._lease.try_lock()
        except OSError as error:
            self._note_once("lease", f"the lease cannot be tried: {error}")
            return False

    def _backoff_s(self) -> float:
        return TAKE_BACKOFF_MS[min(self._failures, len(TAKE_BACKOFF_MS) - 1)] / 1000

    async def _take(self) -> Active | None:
        """The lock is held: begin a new epoch, or say why not and return None."""
        world, clock = self._world, self._world.clock
        if self._delay_ms() is None:
            return None
        ledger: Ledger | None = None
        active: Active | None = None
        try:
            self._lease.check()
            ledger = Ledger.hold(world.bus.ledger, world.identity, SCHEMA)
            handover = self._handover()
            epoch = ledger.take(
                instance=self._seen.id,
                sha=world.settings.sha,
                color=world.settings.color,
                request=handover.request_id if handover and handover.wanted == self._seen.id else "",
                wall_ms=clock.wall_ms(),
                boot_ms=clock.boot_ms(),
                boot_id=clock.boot_id,
            )
            active = Active(
                world,
                ledger,
                epoch,
                instance=self._seen.id,
                random_bits=self._random_bits,
                on_change=self._seen.changed,
                on_failure=self._lose,
                own=self._own,
            )
        except (BusError, OSError) as error:
            self._failures += 1
            self._log.error("take_failed", reason=str(error), failures=self._failures)
            return None
        finally:
            if ledger is not None and active is None:
                ledger.close()
        self._last_epoch, self._yielded = epoch, False
        self._log.info("taken", epoch=epoch)
        self._seen.note_taken(active)
        return active

    # --- active

    async def _trade(self, active: Active) -> None:
        """Poll at every tick until the lease is passed on, lost, or the instance is stopped."""
        beside = Guard(self._log, on_failure=self._lose)
        self._lost = None
        reason, request = Released.STOPPED, ""
        try:
            tick = active.ticks.first()
            active.start(beside)
            while True:
                await self._until(active.ticks.anchor.due_ms(tick))
                if self._stopping or self._lost is not None:
                    break
                tick = await self._poll(active, tick)
                if (request := self._wanted_by(active)) != "":
                    reason = Released.HANDOVER
                    break
        except (BusError, OSError) as error:
            self._lose(error)
        finally:
            await beside.close()
            await self._yield(active, reason, request)

    async def _until(self, due_ms: int) -> None:
        """Wait for a tick; returns early when the instance is stopped or the epoch is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout((due_ms - self._world.clock.boot_ms()) / 1000):
                await self._wake.wait()

    async def _poll(self, active: Active, tick: int) -> int:
        """One poll; returns the next tick."""
        self._lease.check()
        try:
            self._seen.note_poll(await active.poll(tick))
            self._failures = 0
            self._after_poll()
        except TickTakenError:
            self._log.warning("tick_taken", tick=tick)
        return active.ticks.after(tick)

    def _wanted_by(self, active: Active) -> str:
        """The handover request that says that another instance shall hold the lease now, or an empty text."""
        handover = self._handover()
        if handover is None or handover.wanted is None or handover.wanted == self._seen.id:
            return ""
        target = read_instance(self._world.bus, handover.wanted)
        spent = active.ledger.is_spent(handover.request_id)
        return yield_to(self._seen.id, handover, self._world.clock, target, spent=spent) or ""

    async def _yield(self, active: Active, reason: Released, request: str) -> None:
        """Give the lease back; whatever fails on the way, the lock is freed."""
        self._seen.publish(Role.YIELDING)
        try:
            try:
                await active.close(min(1.0, self._world.settings.poll_interval * 0.4))
            finally:
                await self._world.venue.close_orders_channel()
            if self._lost is None:
                clock = self._world.clock
                active.ledger.release(
                    active.epoch,
                    request=request,
                    reason=reason,
                    wall_ms=clock.wall_ms(),
                    boot_ms=clock.boot_ms(),
                    state=active.state(),
                )
        except LedgerError as error:
            self._lose(error)
        finally:
            self._seen.note_yielded()
            active.ledger.close()
            self._lease.unlock()
            self._yielded = True
        if self._lost is None:
            self._log.info("yielded", epoch=active.epoch, reason=reason, request=request)
            return
        self._log.error("lease_lost", epoch=active.epoch, reason=str(self._lost))
        self._failures += 1
        if not self._stopping:
            self._wake.clear()
            await asyncio.sleep(self._backoff_s())

    def _lose(self, error: Exception) -> None:
        """The epoch ends: what it stands on failed."""
        self._lost = self._lost or error
        self._wake.set()

    async def _watch_forever(self) -> None:
        """Follow the bus between polls, so that a halt, a pause or being retired does not wait for a tick."""
        bus = self._world.bus
        while True:
            await self._watch_until_moved(bus.directives)

    async def _watch_until_moved(self, directives: Path) -> None:
        """As long as what people and the deployer say stands in this folder."""
        bus = self._world.bus
        with Watch((bus.control, bus.halt, bus.kept_halt, bus.handover)) as watch:
            while bus.directives == directives:
                changed = await watch.changed(1.0)
                if changed & {bus.control, bus.halt, bus.kept_halt} and self._seen.active is not None:
                    try:
                        self._seen.active.follow_control()
                    except LedgerError as error:
                        self._lose(error)
                    self._seen.changed()
                if bus.handover in changed:
                    handover = self._handover()
                    self._named = handover is not None and handover.wanted == self._seen.id
                    if self._seen.role is Role.STANDBY:
                        self._seen.publish(self._standby_role())

    # --- helpers

    def _delay_ms(self) -> int | None:
        return take_delay_ms(self._me(), self._handover(), self._world.clock)

    def _me(self) -> Candidate:
        return Candidate(
            id=self._seen.id,
            sha=self._world.settings.sha,
            healthy=self._seen.healthy,
            yielded=self._yielded,
            distrusted=self._world.bus.fsync_failed.exists(),
            waits_for_venue=self._seen.waits_for_venue,
            obeyed=self._obeyed,
        )

    def _handover(self) -> Handover | None:
        try:
            handover = read_handover(self._world.bus)
        except DocumentError as error:
            self._note_once("handover", f"the handover cannot be read: {error}")
            return None
        self._noted.pop("handover", None)
        return handover

    def _note_once(self, what: str, reason: str) -> None:
        """Log a problem that is met again and again when it begins, and not a hundred times a second."""
        if self._noted.get(what) != reason:
            self._log.error(f"{what}_unreadable", reason=reason)
        self._noted[what] = reason
