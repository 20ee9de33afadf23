"""Time that does not wait: an event loop whose clock jumps to the next timer when nothing is ready, and a bus clock on it.

What would run in a thread runs at once, in the loop's: there is no second thread to wait for, so an order of events is the
order in which they were asked for. Equal work gives equal times.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

BOOT_ID = "virtual"
_BEGIN_S = 1_000.0


def fix_hashes(module: str) -> None:
    """Begin this process anew as `python -m MODULE` where hashes differ from run to run: sets are walked in their order."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})


class StalledError(RuntimeError):
    """Every task waits for another one: nothing will ever happen again."""


class _Jump(selectors.BaseSelector):
    """A selector that asks what is ready now, and where nothing is, moves the clock instead of waiting."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.move: Callable[[float], None] = lambda _by_s: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if not ready:
            if timeout is None:
                raise StalledError("every task waits for another one, and no timer is set")
            self.move(timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. Sockets work as far as both ends live in it; a thread or another process is not waited for."""

    def __init__(self) -> None:
        self._now_s = _BEGIN_S
        selector = _Jump()
        super().__init__(selector)
        selector.move = self._move
        # A timer that is due within a microsecond is due: sums of floats do not meet exactly.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now_s

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  # whichever: nothing runs beside the virtual clock
        func: Callable[[*Arguments], Result],
        *args: *Arguments,
    ) -> asyncio.Future[Result]:
        done: asyncio.Future[Result] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whoever waits for it is told, as an executor does
            done.set_exception(error)
        return done

    def _move(self, by_s: float) -> None:
        self._now_s += by_s


class VirtualClock:
    """The bus clock of such a loop.

    Args:
        start_ms: the wall's UTC ms when the loop began.
    """

    boot_id = BOOT_ID

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop, self._to_wall_ms = loop, start_ms - round(_BEGIN_S * 1000)

    def boot_ms(self) -> int:
        """Milliseconds of the loop's time."""
        return round(self._loop.time() * 1_000_000) // 1000

    def wall_ms(self) -> int:
        """UTC ms; the wall clock never steps."""
        return self.boot_ms() + self._to_wall_ms
