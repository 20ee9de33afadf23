"""One look at everything that the rollout decides upon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from bus import (
    Bus,
    Clock,
    DocumentCorruptError,
    Handover,
    InstanceView,
    LedgerError,
    Log,
    read_handover,
    read_instances,
    read_requests,
    write_atomically,
)
from bus.errors import Reason
from deployer.deploys import History
from deployer.errors import RepositoryError
from deployer.push.branch import BranchWatch
from deployer.push.log import PushLog
from deployer.push.repository import Repository
from deployer.rollout.differences import Compared
from deployer.rollout.observed import Asked, Now, Observed, timers
from deployer.runtimes.api import Runtime
from deployer.trading import read_quiet_ms
from ledger import Epoch, Ledger

# Signs of life, by the deployer's own samples.
#
# A duration here counts the deployer's own wake-ups: a sample adds at most MAX_GAP_MS, so that a machine or a deployer that
# slept does not make everybody look stuck. Nothing counts while the deployer's own probe write to the bus fails: then it is the
# bus that stands, and killing would help nobody.


MAX_GAP_MS = 500
PROBE_EVERY_S = 0.5
PROBE_FRESH_MS = 2_000


class Stillness:
    """How long each living instance's sequence has stood still, in ms."""

    def __init__(self) -> None:
        self._last_ms: int | None = None
        self._sequences: dict[str, int] = {}
        self._still_ms: dict[str, int] = {}

    def sample(self, instances: Iterable[InstanceView], boot_ms: int, *, bus_answers: bool) -> Mapping[str, int]:
        """Take one sample; returns the durations."""
        gap_ms = 0 if self._last_ms is None else min(MAX_GAP_MS, max(0, boot_ms - self._last_ms))
        self._last_ms = boot_ms
        living = {view.id: view.sequence for view in instances if view.alive and view.document is not None}
        still: dict[str, int] = {}
        for instance_id, sequence in living.items():
            if bus_answers and self._sequences.get(instance_id) == sequence:
                still[instance_id] = self._still_ms.get(instance_id, 0) + gap_ms
            else:
                still[instance_id] = 0
        self._sequences, self._still_ms = living, still
        return dict(still)


class Since:
    """When keys were first seen, as long as they are seen without a break. Times in ms of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def note(self, keys: Iterable[str], boot_ms: int) -> Mapping[str, int]:
        """Take one sample; returns the times."""
        self._first = {key: self._first.get(key, boot_ms) for key in keys}
        return dict(self._first)


class Probe:
    """Writes a file to the bus again and again, in a thread, so that a disk that hangs does not hang the deployer."""

    def __init__(self, bus: Bus, clock: Clock, on_written: Callable[[float], None] = lambda _seconds: None) -> None:
        """on_written: called with the seconds that a write took."""
        self._path, self._clock, self._on_written = bus.directory / ".deployer-probe", clock, on_written
        self._answered_ms: int | None = None

    def answers(self) -> bool:
        """Whether a write went through lately."""
        return self._answered_ms is not None and self._clock.boot_ms() - self._answered_ms < PROBE_FRESH_MS

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = time.perf_counter()
            try:
                await asyncio.to_thread(write_atomically, self._path, b"", durable=True)
                self._answered_ms = self._clock.boot_ms()
                self._on_written(time.perf_counter() - began)
            except OSError:
                self._answered_ms = None
            await asyncio.sleep(PROBE_EVERY_S)


# One look at everything that the rollout decides upon.


SPENT_READ = 50
READ_LIMIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Trading:
    """What the ledger tells (see Observed)."""

    newest: Epoch | None
    spent: frozenset[str]
    interval_ms: int
    missed: int
    quiet_ms: int | None = None


class Observer:
    """Reads bus, ledger and runtime. It remembers only how long things have been as they are."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        repository: Repository,
        runtime: Runtime,
        probe: Probe,
        push_log: PushLog,
        log: Log,
    ) -> None:
        self._bus, self._clock, self._repository, self._runtime = bus, clock, repository, runtime
        self._probe, self._push_log, self._log = probe, push_log, log
        self._still, self._since = Stillness(), Since()
        self._ledger_problem = ""
        self._reading: asyncio.Task[Trading] | None = None
        self._resolving: dict[str, asyncio.Task[str]] = {}  # by request, until that is done

    async def observe(
        self,
        history: History,
        branch: BranchWatch,
        failures: Mapping[str, Reason],
        compared: Mapping[str, Compared],
        busy: frozenset[str],
        now: Now,
    ) -> Observed:
        """Everything as it is now. Raises OSError, BusError (the bus cannot be read), RuntimeFailedError."""
        # Pushes before the branch: what is newest is not older than what is known of them.
        pushes = self._push_log.read(branch.reads)
        # Units before instances: a unit that is seen as ended left its instance's lock before.
        units, built = await self._runtime.units(), await self._runtime.built()
        comparable = await self._runtime.comparable() if _may_be_compared(history) else frozenset()
        instances = tuple(read_instances(self._bus))
        trading = await self._trading(_began_ms(history))
        observed = Observed(
            history=history,
            target=branch.tip,
            subject=branch.subject,
            left=branch.left,
            branch=branch.branch,
            requests=await self._requests(),
            pushes=pushes,
            built=built,
            failures=failures,
            comparable=comparable,
            compared=compared,
            busy=busy,
            units=units,
            instances=instances,
            still_ms=self._still.sample(instances, now.boot_ms, bus_answers=self._probe.answers()),
            newest=trading.newest if trading else None,
            spent=trading.spent if trading else frozenset(),
            interval_ms=trading.interval_ms if trading else 5_000,
            missed=trading.missed if trading else 0,
            blind=trading is None,
            blind_why=self._ledger_problem,
            quiet_ms=trading.quiet_ms if trading else None,
            handover=self._read_handover(),
        )
        return replace(observed, since_ms=self._since.note(timers(observed), now.boot_ms))

    async def _trading(self, began_ms: int) -> Trading | None:
        """What the ledger tells; None when it cannot be read now.

        In a thread: a holder that was stopped in the middle of a commit keeps a reader waiting for seconds, and it is this loop
        that must see it stand still and kill it.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._read_ledger, began_ms))
        done, _ = await asyncio.wait([self._reading], timeout=READ_LIMIT_S)
        if not done:
            self._note_ledger(f"it gave no answer within {READ_LIMIT_S:g} s")
            return None
        reading, self._reading = self._reading, None
        try:
            trading = reading.result()
        except LedgerError as error:
            self._note_ledger(str(error))
            return None
        self._ledger_problem = ""
        return trading

    def _note_ledger(self, problem: str) -> None:
        if self._ledger_problem != problem:
            self._log.error("ledger_not_readable", reason=problem, rollout="waits", supervision="goes on")
        self._ledger_problem = problem

    def _read_ledger(self, began_ms: int) -> Trading:
        """Who traded when, and the ticks missed since `began_ms`. Raises LedgerError."""
        ledger = Ledger.reader(self._bus.ledger)
        if ledger is None:
            return Trading(None, frozenset(), 5_000, 0)
        with ledger:
            rows = ledger.execute("SELECT request FROM releases ORDER BY epoch DESC LIMIT ?", (SPENT_READ,))
            anchor = ledger.anchor()
            missed = ledger.integer(
                "SELECT coalesce(sum(ticks), 0) FROM polls_missed WHERE first_tick >= ?", (began_ms,)
            )
            newest = ledger.newest_epoch()
            quiet_ms = read_quiet_ms(ledger, newest, self._clock)
        spent = frozenset(str(row[0]) for row in rows if row[0])
        return Trading(newest, spent, anchor.interval_ms if anchor else 5_000, missed, quiet_ms)

    def _read_handover(self) -> Handover:
        """The deployer's own document; a damaged one is written anew from the history."""
        try:
            return read_handover(self._bus)
        except DocumentCorruptError as error:
            self._log.error("handover_damaged", reason=str(error), action="written anew")
            return Handover()

    async def _requests(self) -> tuple[Asked, ...]:
        good, bad = read_requests(self._bus)
        asked = [Asked(request_id, None, problem=problem) for request_id, problem in bad.items()]
        fresh: list[asyncio.Task[str]] = []
        for request in good:
            if not request.ref or request.action == "approve":  # that names a deploy, which git knows nothing of
                problem = "name a commit, branch or tag" if request.action == "deploy" else None
                asked.append(Asked(request.id, request, problem=problem))
                continue
            if request.id not in self._resolving:
                self._resolving[request.id] = asyncio.create_task(self._repository.resolve(request.ref))
                fresh.append(self._resolving[request.id])
        names = {request.id for request in good}
        for gone in self._resolving.keys() - names:
            self._resolving.pop(gone).cancel()
        if fresh:  # what git has not answered by then is seen by a later look: no bot waits for git
            await asyncio.wait(fresh, timeout=READ_LIMIT_S)
        for request in good:
            task = self._resolving.get(request.id)
            if task is None or not task.done():
                continue
            error = task.exception()
            if error is None:
                asked.append(Asked(request.id, request, sha=task.result()))
            elif isinstance(error, (RepositoryError, OSError)):
                asked.append(Asked(request.id, request, problem=str(error)))
            else:
                raise error
        return tuple(asked)


def _may_be_compared(history: History) -> bool:
    deploy = history.open
    return deploy is not None and deploy.has("started") and not deploy.has("compared")


def _began_ms(history: History) -> int:
    """When the newest deploy that matters began."""
    deploy = history.open or history.confirmed
    return deploy.began_ms if deploy is not None else 0
