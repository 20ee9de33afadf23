"""Whether a bot's first exit of a window left within two polls of its reason; from what was recorded of its decisions. Pure.

The reason is what the strategy wants of the inputs as they were recorded, whatever kept the slot from orders then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from bot.strategy.api import Decision, Inputs

__all__ = ["POLLS", "late_exits", "wanted_exits"]

POLLS = 2


class _Strategy(Protocol):
    def decide(self, inputs: Inputs, parameters: Any) -> Decision: ...


def wanted_exits(
    polls: Iterable[tuple[int, Iterable[Inputs]]], strategy: _Strategy, parameters: Any
) -> list[tuple[int, frozenset[str]]]:
    """The ticks of polls, and the windows that the strategy would leave then if no slot were blocked, by tick.

    polls: tick and inputs; those of one tick may come in parts.
    """
    wanted: dict[int, set[str]] = {}
    for tick, given in polls:
        windows = wanted.setdefault(tick, set())
        windows.update(i.window for i in given if strategy.decide(replace(i, blocked=""), parameters).action == "exit")
    return [(tick, frozenset(windows)) for tick, windows in sorted(wanted.items())]


def late_exits(
    wanted: Sequence[tuple[int, frozenset[str]]], sells: Mapping[str, Sequence[int]], excused: Callable[[int], bool]
) -> list[str]:
    """In sentences, the windows without an exit within POLLS polls, though its reason stood at all of them.

    wanted: as `wanted_exits`. sells: the ticks of a window's SELL intents. excused: whether the venue took no orders at a tick.
    """
    late: list[str] = []
    judged: set[str] = set()
    for index in range(len(wanted) - POLLS):
        first, last = wanted[index][0], wanted[index + POLLS][0]
        stood = frozenset.intersection(*(windows for _, windows in wanted[index : index + POLLS + 1]))
        for window in sorted(stood - judged):
            judged.add(window)
            sent = any(tick <= last for tick in sells.get(window, ()))
            if not sent and not any(excused(tick) for tick, _ in wanted[index : index + POLLS + 1]):
                late.append(
                    f"{window}: no exit was sent from tick {first} to {last}, though it was wanted at each poll"
                )
    return late
