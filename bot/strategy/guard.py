"""A strategy behind a guard: what it raises, returns or takes too long over costs its own slot, never the others.

A Python function cannot be interrupted in the loop. So its time is measured: a slot whose decisions take too long is left
out for a while, or until its parameters change. One that never returns is the watchdog's matter: it ends the process, a spare
takes over, and the ledger is as it was.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bot.sound import unsound
from bot.strategy.api import Decision, Inputs, Strategy

CPU_LIMIT_MS = 20.0
WALL_LIMIT_MS = 500.0  # sleeping or waiting inside a decision; generous, since a busy machine takes time away as well
SLOW_IN_A_ROW = 2  # one may be the garbage collector's fault
LEFT_OUT_MS = 60_000


class StrategyError(Exception):
    """A strategy's decision cannot be used; the text says why."""


@dataclass(slots=True)
class _Slow:
    """How a slot behaved: slow decisions in a row, and until when it is left out under which parameters."""

    in_a_row: int = 0
    until_ms: int = 0
    parameters: object = None
    reason: str = ""


class Guarded:
    """One strategy for all slots.

    Args:
        name: as BOT_STRATEGY has it.
        cpu_ns, wall_ns: the thread's processor time, and any clock that does not step, in ns.
    """

    def __init__(
        self,
        strategy: Strategy,
        name: str,
        *,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
        wall_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._strategy, self.name = strategy, name
        self._cpu_ns, self._wall_ns = cpu_ns, wall_ns
        self._slow: dict[str, _Slow] = {}
        self._source = _source_of(type(strategy))
        self._rule: tuple[Any, str] | None = None

    @property
    def parameters(self) -> type[Any]:
        """The class of its parameters."""
        return self._strategy.parameters

    def rule(self, parameters: Any) -> str:
        """Names what decides: strategy, its file's content, and parameters. What one rule counted says nothing to another."""
        if self._rule is None or self._rule[0] != parameters:
            text = json.dumps([self.name, self._source, asdict(parameters)], default=str, sort_keys=True)
            self._rule = parameters, hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._rule[1]

    def untimed(self) -> Guarded:
        """The same strategy with nobody measuring its time: every decision stands alone, however busy the machine is."""
        return Guarded(self._strategy, self.name, cpu_ns=lambda: 0, wall_ns=lambda: 0)

    def decide(self, inputs: Inputs, parameters: Any) -> Decision:
        """What the strategy decides, with nothing to do where the slot is blocked.

        Raises StrategyError where that cannot be used or the slot is left out, and whatever the strategy raises.
        """
        slow = self._slow.get(inputs.slot)
        if slow is not None and inputs.now_ms < slow.until_ms and slow.parameters == parameters:
            raise StrategyError(slow.reason)
        cpu, wall = self._cpu_ns(), self._wall_ns()
        try:
            decision = self._strategy.decide(inputs, parameters)
        finally:
            self._measure(inputs, parameters, (self._cpu_ns() - cpu) / 1e6, (self._wall_ns() - wall) / 1e6)
        if (wrong := unsound(decision, inputs)) is not None:
            raise StrategyError(f"the strategy's decision is not sound: {wrong}")
        if decision.action != "none" and inputs.blocked:
            return replace(decision, action="none", reason=inputs.blocked)
        return decision

    def _measure(self, inputs: Inputs, parameters: object, cpu_ms: float, wall_ms: float) -> None:
        if cpu_ms <= CPU_LIMIT_MS and wall_ms <= WALL_LIMIT_MS:
            self._slow.pop(inputs.slot, None)
            return
        slow = self._slow.setdefault(inputs.slot, _Slow())
        slow.in_a_row += 1
        if slow.in_a_row >= SLOW_IN_A_ROW:
            slow.until_ms, slow.parameters = inputs.now_ms + LEFT_OUT_MS, parameters
            slow.reason = (
                f"left out for {LEFT_OUT_MS // 1000} s or until its parameters change: its decision took {cpu_ms:.0f} ms of "
                f"processor and {wall_ms:.0f} ms in all; allowed are {CPU_LIMIT_MS:g} and {WALL_LIMIT_MS:g}"
            )


def _source_of(kind: type[Any]) -> str:
    """A digest of the file that defines a strategy; empty where there is none, as for a class that was typed in."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""
