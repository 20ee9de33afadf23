"""The ledger's fence, by hypothesis: several processes with stale beliefs write; the ledger accepts exactly what it may."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bus import FencedError, LedgerError, TickTakenError
from ledger import Ledger
from tests.unit.bus.frozen import IDENTITY, complete, release, take

holders = st.integers(0, 2)
ticks = st.integers(1, 4).map(lambda n: n * 5000)


class LedgerMachine(RuleBasedStateMachine):
    """Three connections, as of processes of which two were paused; each believes in the epoch that it took last."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "ledger.db"
        self.connections = [Ledger.hold(path, IDENTITY) for _ in range(3)]
        self.believes = [0, 0, 0]
        self.newest = 0
        self.released: set[int] = set()
        self.claimed: set[tuple[int, int]] = set()
        self.completed: dict[int, int] = {}
        self.generation = 0

    def teardown(self) -> None:
        for connection in self.connections:
            connection.close()
        self.folder.cleanup()

    def expect(self, who: int, write: Callable[[], None], refusal: type[LedgerError] | None) -> bool:
        """Write as that process; the fence comes before every other refusal. True when it was accepted."""
        epoch = self.believes[who]
        if epoch != self.newest or epoch in self.released or epoch == 0:
            refusal = FencedError
        found: LedgerError | None = None
        try:
            write()
        except LedgerError as error:
            found = error
        assert (None if found is None else type(found)) is refusal, found
        return found is None

    @rule(who=holders)
    def take(self, who: int) -> None:
        self.newest += 1
        assert take(self.connections[who]) == self.newest
        self.believes[who] = self.newest

    @rule(who=holders)
    def release(self, who: int) -> None:
        epoch = self.believes[who]
        if self.expect(who, lambda: release(self.connections[who], epoch), None):
            self.released.add(epoch)

    @rule(who=holders, tick=ticks)
    def claim(self, who: int, tick: int) -> None:
        epoch = self.believes[who]
        refusal = TickTakenError if tick in self.completed else LedgerError if (tick, epoch) in self.claimed else None
        if self.expect(who, lambda: self.connections[who].claim(tick, epoch, 1), refusal):
            self.claimed.add((tick, epoch))

    @rule(who=holders, tick=ticks)
    def complete(self, who: int, tick: int) -> None:
        epoch = self.believes[who]
        refusal = TickTakenError if tick in self.completed else None if (tick, epoch) in self.claimed else LedgerError
        if self.expect(who, lambda: complete(self.connections[who], tick, epoch), refusal):
            self.completed[tick] = epoch

    @rule(who=holders, generation=st.integers(1, 6))
    def apply(self, who: int, generation: int) -> None:
        epoch = self.believes[who]
        refusal = FencedError if generation <= self.generation else None
        write = self.connections[who].apply_control
        if self.expect(who, lambda: write(generation, epoch, body="{}", refused="", wall_ms=1), refusal):
            self.generation = generation

    @rule(who=holders)
    def checkpoint(self, who: int) -> None:
        self.connections[who].checkpoint()

    @invariant()
    def everybody_reads_the_same(self) -> None:
        for connection in getattr(self, "connections", ()):
            newest = connection.newest_epoch()
            assert (newest.epoch if newest else 0) == self.newest
            assert (newest is not None and newest.released) == (self.newest in self.released)
            found = connection.execute("SELECT tick, epoch FROM polls_completed ORDER BY tick")
            assert found == sorted(self.completed.items())


LedgerMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase
