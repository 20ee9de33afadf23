"""Processes inside one event loop: each may be killed, paused or held up between any two of its steps, as the kernel does.

A step is what runs from one await to the next. Whose step it is follows from its context, which every task and timer inherits.
A killed process never runs again, not even its `finally`; what the kernel would do for it (close its files) is done at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from bench.virtual import VirtualLoop

T = TypeVar("T")

KERNEL = contextvars.Context()
"""The context of what belongs to no process: the network, the exchange, timers of the scheduler."""


class KilledError(BaseException):
    """The process died in the middle of a step; it unwinds, and every effect that it tries on the way raises this again."""


class Process:
    """One process.

    Attributes: alive. slept_until: until when it was last held up, in loop seconds.
    """

    def __init__(self, loop: SimulatedLoop, name: str, rng: random.Random) -> None:
        self.name, self.alive = name, True
        self.slept_until = 0.0
        self._loop, self._random = loop, rng
        self._asleep = False
        self._waiting: deque[asyncio.Handle] = deque()
        self._steps_left: int | None = None
        self._effects_left: int | None = None
        self._at_death: list[Callable[[], None]] = []
        # Kept for ever: a coroutine that is collected runs its `finally`, which no killed process does.
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    @property
    def asleep(self) -> bool:
        """Whether it is held up now."""
        return self._asleep

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a task in it."""
        return self._loop.create_task(work, name=name, context=self.context)

    def call(self, what: Callable[..., object], *arguments: Any) -> None:
        """Have it do something at its next turn, as when a message arrives for it."""
        if self.alive:
            self._loop.call_soon(what, *arguments, context=self.context)

    def at_death(self, what: Callable[[], None]) -> None:
        """What the kernel does when it dies."""
        self._at_death.append(what)

    def kill(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self.alive = False
        self._waiting.clear()
        for what in self._at_death:
            what()

    def sleep(self, for_s: float) -> None:
        """Hold it up, as SIGSTOP, a busy machine or a slow disk do, beginning with its next step."""
        until = max(self._loop.time() + for_s, self.slept_until)
        self.slept_until, self._asleep = until, True
        self._loop.call_at(until, self._wake, context=KERNEL.copy())

    def die_after_steps(self, steps: int) -> None:
        """Kill it so many steps from now."""
        self._steps_left = steps

    def die_at_effect(self, effects: int) -> None:
        """Kill it right before it has its so manieth effect from now: a write, a commit, a request."""
        self._effects_left = effects

    def spare(self) -> None:
        """It does not die by itself any more."""
        self._steps_left = self._effects_left = None

    def admits(self, step: asyncio.Handle) -> bool:
        """Whether a step of it may run now; a dead one's is dropped, one that is held up waits in its order."""
        if not self.alive:
            return False
        if not self._asleep and self._random.random() < self._loop.busy:
            self.sleep(
                self._random.uniform(0.0001, 0.02) if self._random.random() < 0.9 else self._random.uniform(0.02, 0.4)
            )
        if self._asleep:
            self._waiting.append(step)
            return False
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left < 0:
                self._loop.say(self, "dies between two steps")
                self.kill()
                return False
        return True

    def effect(self, what: str, disk_s: float) -> None:
        """It is about to have an effect. disk_s: how long the disk takes for it. Raises KilledError."""
        if self.alive and self._effects_left is not None:
            self._effects_left -= 1
            if self._effects_left < 0:
                self._loop.say(self, f"dies before {what}")
                self.kill()
        if not self.alive:
            raise KilledError(what)
        if disk_s:
            self.sleep(disk_s)

    def _wake(self) -> None:
        if self._loop.time() + 1e-6 < self.slept_until:
            return  # held up for longer meanwhile
        self._asleep = False
        waiting, self._waiting = self._waiting, deque()
        self._loop.put_back(waiting)


PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("PROCESS")


class _Step(asyncio.Handle):
    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]  # asyncio's own, as below
        if process is None or process.admits(self):
            super()._run()


class _Timer(asyncio.TimerHandle):
    def _run(self) -> None:
        process = self._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or process.admits(self):
            super()._run()


class _Task(asyncio.Task[T]):
    """Sets of tasks are walked in the order of hashes: by number it is the same in every run, by address it is not."""

    count = 0

    def __init__(self, work: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> None:
        _Task.count += 1
        self._number = _Task.count  # first: the base puts it into a set
        super().__init__(work, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(VirtualLoop):
    """The loop.

    Args:
        busy: how likely a process is held up before a step: the seeded scheduler.
        say: called with what happens, for a trace: the loop's time in s, who, what.
    """

    def __init__(self, busy: float, say: Callable[[float, str, str], None]) -> None:
        super().__init__()
        self.busy, self._say = busy, say
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._failed)
        self.failures: list[str] = []

    def say(self, process: Process | None, what: str) -> None:
        """Tell the trace."""
        self._say(self.time(), process.name if process is not None else "world", what)

    def put_back(self, steps: deque[asyncio.Handle]) -> None:
        """Steps that waited, before whatever follows."""
        self._ready.extend(steps)  # type: ignore[attr-defined]  # as _scheduled below: asyncio's own

    def _call_soon(self, callback: Any, arguments: Any, context: contextvars.Context | None) -> asyncio.Handle:
        step = _Step(callback, arguments, self, context)
        self._ready.append(step)  # type: ignore[attr-defined]
        return step

    def call_at(  # type: ignore[override]  # the base's has type variables for what is passed on
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _make_task(self, _loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = _Task(work, loop=self, **options)
        context = options.get("context")
        process = PROCESS.get(None) if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.append(task)
        return task

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody waited for; the death of a process and a request that failed unheard are no surprise."""
        error = context.get("exception")
        if isinstance(error, KilledError) or "never retrieved" in str(context.get("message")):
            return
        self.failures.append(f"{context.get('message')}: {error!r}")
