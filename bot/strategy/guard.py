"""A strategy behind a guard: what it raises, returns or takes too long over costs its own slot, never the others.

A Python function cannot be interrupted in the loop. So its time is measured: a slot whose decisions take too long is left
out for a while, or until its parameters change. One that never returns is the watchdog's matter: it ends the process, a spare
takes over, and the ledger is as it was.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from bot.reasons import Reason, ReasonCode
from bot.strategy.api import SIZE_STEP, Decision, Inputs, Strategy, invalid_reason, why_no_schema
from bus import SettingsError

CPU_LIMIT_MS = 20.0
WALL_LIMIT_MS = 500.0  # sleeping or waiting inside a decision; generous, since a busy machine takes time away as well
SLOW_IN_A_ROW = 2  # one may be the garbage collector's fault
LEFT_OUT_MS = 60_000
TOO_FEW = Reason(ReasonCode.SIZE, "too few shares to sell: they wait for the outcome")


class StrategyError(Exception):
    """A strategy's decision cannot be used; the text says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.code = reason.code


@dataclass(slots=True)
class _Slow:
    """How a slot behaved: slow decisions in a row, and until when it is left out under which parameters."""

    in_a_row: int = 0
    until_ms: int = 0
    parameters: object = None
    reason: Reason | None = None


class GuardedStrategy:
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

    def untimed(self) -> GuardedStrategy:
        """The same strategy with nobody measuring its time: every decision stands alone, however busy the machine is."""
        return GuardedStrategy(self._strategy, self.name, cpu_ns=lambda: 0, wall_ns=lambda: 0)

    def decide(self, inputs: Inputs, parameters: Any) -> Decision:
        """What the strategy decides, with nothing to do where the slot is blocked.

        Raises StrategyError where that cannot be used or the slot is left out, and whatever the strategy raises.
        """
        slow = self._slow.get(inputs.slot)
        if (
            slow is not None
            and slow.reason is not None
            and inputs.now_ms < slow.until_ms
            and slow.parameters == parameters
        ):
            raise StrategyError(slow.reason)
        cpu, wall = self._cpu_ns(), self._wall_ns()
        try:
            decision = self._strategy.decide(inputs, parameters)
        finally:
            self._measure(inputs, parameters, (self._cpu_ns() - cpu) / 1e6, (self._wall_ns() - wall) / 1e6)
        decision = _sellable(decision, inputs)
        if (wrong := invalid_reason(decision, inputs)) is not None:
            raise StrategyError(wrong.within("the strategy's decision is not sound: "))
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
            slow.reason = Reason(
                ReasonCode.FAILED,
                f"left out for {LEFT_OUT_MS // 1000} s or until its parameters change: its decision took {cpu_ms:.0f} ms of "
                f"processor and {wall_ms:.0f} ms in all; allowed are {CPU_LIMIT_MS:g} and {WALL_LIMIT_MS:g}",
            )


def _sellable(decision: Decision, inputs: Inputs) -> Decision:
    """An exit with its size on the venue's step; nothing to do where what is held is less than that.

    A market BUY brings shares to the base unit, so a strategy that sells what it holds would never be off it but by that.
    """
    if not isinstance(decision, Decision) or decision.action != "exit" or type(decision.size) is not int:
        return decision  # `invalid_reason` says what is wrong with it
    if 0 < inputs.held_shares < SIZE_STEP:
        return replace(decision, action="none", reason=TOO_FEW)
    return replace(decision, size=decision.size // SIZE_STEP * SIZE_STEP)


def _source_of(kind: type[Any]) -> str:
    """A digest of the file that defines a strategy; empty where there is none, as for a class that was typed in."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


# Finds the strategy that BOT_STRATEGY names: `package.module:Class` or `path/to/file.py:Class`.


DEFAULT_STRATEGY = "bot.strategy.snipe:Snipe"
_EXPECTED = "expected package.module:Class or path/to/file.py:Class"


def load_strategy(name: str) -> GuardedStrategy:
    """The strategy of that name, behind its guard. Raises SettingsError, in one line."""
    where, _, what = name.rpartition(":")
    if not where or not what.isidentifier():
        raise SettingsError(f"BOT_STRATEGY {name!r:.200}: {_EXPECTED}")
    module = _load(name, where)
    made = getattr(module, what, None)
    if not isinstance(made, type):
        what_is_there = "something else" if hasattr(module, what) else "nothing of that name"
        raise SettingsError(f"BOT_STRATEGY {name}: expected a class {what} in {where}, found {what_is_there}")
    try:
        strategy = made()
        parameters = strategy.parameters
        wrong = why_no_schema(parameters)
        if wrong is None:
            parameters()
    except Exception as error:  # whatever a strategy of one's own raises is one line at the start
        raise SettingsError(f"BOT_STRATEGY {name}: {what} cannot be made: {type(error).__name__}: {error}") from error
    if wrong is not None:
        raise SettingsError(f"BOT_STRATEGY {name}: {what}.parameters cannot be used: {wrong}")
    if not callable(getattr(strategy, "decide", None)):
        raise SettingsError(f"BOT_STRATEGY {name}: {what} has no method decide(inputs, parameters)")
    return GuardedStrategy(strategy, name)


def _load(name: str, where: str) -> ModuleType:
    try:
        if where.endswith(".py"):
            return _load_file(Path(where))
        return importlib.import_module(where)
    except Exception as error:  # as above
        raise SettingsError(
            f"BOT_STRATEGY {name}: {where} cannot be imported: {type(error).__name__}: {error}; {_EXPECTED}"
        ) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"bot_strategy_{path.stem}", path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
