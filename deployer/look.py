"""One look at everything that the rollout decides upon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bus import (
    Bus,
    Clock,
    DocumentCorruptError,
    Epoch,
    Handover,
    Ledger,
    LedgerError,
    Log,
    read_handover,
    read_instances,
    read_requests,
)
from deployer.deploys import History
from deployer.errors import RepositoryError
from deployer.observed import Asked, Now, Observed, timers
from deployer.repository import Repository
from deployer.runtime import Runtime
from deployer.signs import Probe, Since, Stillness
from deployer.watch import BranchWatch

SPENT_READ = 50


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
        self, bus: Bus, clock: Clock, repository: Repository, runtime: Runtime, probe: Probe, log: Log
    ) -> None:
        self._bus, self._clock, self._repository, self._runtime = bus, clock, repository, runtime
        self._probe, self._log = probe, log
        self._still, self._since = Stillness(), Since()
        self._ledger_problem = ""

    async def observe(
        self, history: History, branch: BranchWatch, failures: Mapping[str, str], busy: frozenset[str], now: Now
    ) -> Observed:
        """Everything as it is now. Raises OSError, BusError (the bus cannot be read), RuntimeFailedError."""
        # Units before instances: a unit that is seen as ended left its instance's lock before.
        units, built = await self._runtime.units(), await self._runtime.built()
        instances = tuple(read_instances(self._bus))
        trading = self._read_ledger(_began_ms(history))
        seen = Observed(
            history=history,
            target=branch.tip,
            subject=branch.subject,
            branch=branch.branch,
            requests=await self._requests(),
            built=built,
            failures=failures,
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

    def _read_ledger(self, began_ms: int) -> Trading | None:
        """Who traded when, and the ticks missed since `began_ms`; None when the ledger cannot be read now."""
        try:
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
        except LedgerError as error:
            if self._ledger_problem != str(error):
                self._log.error("ledger_not_readable", reason=str(error), rollout="waits", supervision="goes on")
            self._ledger_problem = str(error)
            return None
        self._ledger_problem = ""
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
            if not request.ref:
                problem = "name a commit, branch or tag" if request.action == "deploy" else None
                asked.append(Asked(request.id, request, problem=problem))
                continue
            try:
                asked.append(Asked(request.id, request, sha=await self._repository.resolve(request.ref)))
            except RepositoryError as error:
                asked.append(Asked(request.id, request, problem=str(error)))
        return tuple(asked)


def _began_ms(history: History) -> int:
    """When the newest deploy that matters began."""
    deploy = history.open or history.confirmed
    return deploy.began_ms if deploy is not None else 0
