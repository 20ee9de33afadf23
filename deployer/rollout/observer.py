"""One look at everything that the rollout decides upon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bus import (
    Bus,
    Clock,
    DocumentCorruptError,
    Handover,
    LedgerError,
    Log,
    read_handover,
    read_instances,
    read_requests,
)
from deployer.differences import Compared
from deployer.errors import RepositoryError
from deployer.push.branch import BranchWatch
from deployer.push.log import PushLog
from deployer.push.repository import Repository
from deployer.rollout.deploys import History
from deployer.rollout.observed import Asked, Now, Observed, timers
from deployer.runtimes.api import Runtime
from deployer.signs import Probe, Since, Stillness
from ledger import Epoch, Ledger

SPENT_READ = 50
READ_LIMIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Trading:
    """What the ledger tells (see Observed)."""

    newest: Epoch | None
    spent: frozenset[str]
    interval_ms: int
    missed: int


class Look:
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

    async def observe(
        self,
        history: History,
        branch: BranchWatch,
        failures: Mapping[str, str],
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
        seen = Observed(
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
            handover=self._read_handover(),
        )
        return replace(seen, since_ms=self._since.note(timers(seen), now.boot_ms))

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
        spent = frozenset(str(row[0]) for row in rows if row[0])
        return Trading(newest, spent, anchor.interval_ms if anchor else 5_000, missed)

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
        for request in good:
            if not request.ref or request.action == "approve":  # that names a deploy, which git knows nothing of
                problem = "name a commit, branch or tag" if request.action == "deploy" else None
                asked.append(Asked(request.id, request, problem=problem))
                continue
            try:
                asked.append(Asked(request.id, request, sha=await self._repository.resolve(request.ref)))
            except RepositoryError as error:
                asked.append(Asked(request.id, request, problem=str(error)))
        return tuple(asked)


def _may_be_compared(history: History) -> bool:
    deploy = history.open
    return deploy is not None and deploy.has("started") and not deploy.has("compared")


def _began_ms(history: History) -> int:
    """When the newest deploy that matters began."""
    deploy = history.open or history.confirmed
    return deploy.began_ms if deploy is not None else 0
